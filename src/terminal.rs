//! Escapes untrusted text for terminals.

/// A text in which nothing moves the cursor, breaks the line, or turns the direction of what follows.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            _ if !is_unprintable(character) => shown.push(character),
            _ if character.is_control() => shown.extend(character.escape_debug()),
            _ => shown.extend(character.escape_unicode()),
        }
    }
    shown
}

/// True if a terminal would do something else with a character than show it where it stands.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_text_escapes_control_characters() {
        for (text, shown) in [
            ("größe \"a\" \\ 👩\u{200d}🔬", "größe \"a\" \\ 👩\u{200d}🔬"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\u{1b}[2J\u{9b}2J\u{7f}", "\\u{1b}[2J\\u{9b}2J\\u{7f}"),
            ("ann\u{202e}bob", "ann\\u{202e}bob"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }
}
