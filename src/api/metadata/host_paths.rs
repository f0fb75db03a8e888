//! Removes folders of the host from texts that go to clients of the data ports.

use std::fmt::Write as _;

/// The text with every absolute path cut to its last part: the name of a file helps, and where it lies is nobody's business.
pub(in crate::api) fn without_folders(text: &str) -> String {
    let ends = |character: char| character.is_whitespace() || "'\"`()<>,;:=".contains(character);
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(ends) {
        let path = part.trim_end_matches(ends);
        let is_path = path.len() > 1 && (path.starts_with('/') || path.starts_with("~/"));
        let name = if is_path { path.rsplit('/').next().unwrap_or_default() } else { path };
        // Writing into memory can't fail.
        let _ = write!(shown, "{name}{}", &part[path.len()..]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_lose_their_folders() {
        for (text, expected) in [
            ("cpu: no GPU works", "cpu: no GPU works"),
            (
                "cpu: /root/.cache/onnxd/x/libonnxruntime_providers_cuda.so: cannot open",
                "cpu: libonnxruntime_providers_cuda.so: cannot open",
            ),
            ("in '/usr/lib', (~/lib/x.so) and=/etc/passwd", "in 'lib', (x.so) and=passwd"),
            ("1/2 of a / b", "1/2 of a / b"),
            ("/", "/"),
        ] {
            assert_eq!(without_folders(text), expected);
        }
    }

    proptest! {
        #[test]
        fn path_removal_never_lengthens_the_text(text in "(/|~/|[a-z ':é]){0,20}") {
            let shown = without_folders(&text);
            prop_assert!(shown.len() <= text.len());
        }
    }
}
