use std::{
    borrow::Cow,
    fmt::{self, Display},
};

/// Arrays and objects inside one another at most.
const MAX_DEPTH: usize = 128;

/// Reads a JSON text from its beginning to its end, once. It is cheap to copy, which is how a place is returned to.
///
/// Every method fails with a message for people, which says what was expected, what came, and where.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// Kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number, or NaN, Infinity, -Infinity.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueKind::Null => "null",
            ValueKind::Boolean => "a boolean",
            ValueKind::Number => "a number",
            ValueKind::String => "a string",
            ValueKind::Array => "an array",
            ValueKind::Object => "an object",
        })
    }
}

impl<'a> Reader<'a> {
    /// At the beginning of a text, behind a byte order mark if there is one (RFC 8259, section 8.1).
    pub fn new(text: &'a str) -> Self {
        Reader { text: text.strip_prefix('\u{feff}').unwrap_or(text), at: 0, depth: 0 }
    }

    /// Kind of the next value, by its first character.
    pub fn peek(&mut self) -> Result<ValueKind, String> {
        match self.next_byte() {
            Some(b'n') => Ok(ValueKind::Null),
            Some(b't' | b'f') => Ok(ValueKind::Boolean),
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => Ok(ValueKind::Number),
            Some(b'"') => Ok(ValueKind::String),
            Some(b'[') => Ok(ValueKind::Array),
            Some(b'{') => Ok(ValueKind::Object),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Reads an object: `each` is given every key in turn, and reads its value.
    pub fn object(&mut self, mut each: impl FnMut(&mut Self, &str) -> Result<(), String>) -> Result<(), String> {
        self.open(b'{', ValueKind::Object)?;
        if !self.take(b'}') {
            loop {
                if self.next_byte() != Some(b'"') {
                    return Err(self.unexpected("a key in quotes"));
                }
                let key = self.string()?;
                self.expect(b':', "a colon behind the key")?;
                each(self, &key)?;
                if self.take(b'}') {
                    break;
                }
                self.expect(b',', "a comma or the object's end")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array: `each` reads its elements.
    pub fn array(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.open(b'[', ValueKind::Array)?;
        if !self.take(b']') {
            loop {
                each(self)?;
                if self.take(b']') {
                    break;
                }
                self.expect(b',', "a comma or the array's end")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a string.
    pub fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.expect_kind(ValueKind::String)?;
        self.at += 1;
        let start = self.at;
        self.skip_plain();
        let plain = &self.text[start..self.at];
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => text.push(self.escaped()?),
                Some(_) => return Err(self.error("a control character in a string must be escaped")),
                None => return Err(self.unexpected("the end of the string")),
            }
            let start = self.at;
            self.skip_plain();
            text.push_str(&self.text[start..self.at]);
        }
    }

    /// Reads a number and gives its text: a JSON number, or one of NaN, Infinity, -Infinity.
    pub fn number(&mut self) -> Result<&'a str, String> {
        self.expect_kind(ValueKind::Number)?;
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        match self.byte() {
            // No leading zeros (RFC 8259, section 6).
            Some(b'0') => self.at += 1,
            Some(b'I') => {
                self.word("Infinity")?;
                return Ok(&self.text[start..self.at]);
            }
            Some(b'N') if self.at == start => {
                self.word("NaN")?;
                return Ok(&self.text[start..self.at]);
            }
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self) -> Result<bool, String> {
        self.expect_kind(ValueKind::Boolean)?;
        let value = self.byte() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    /// Reads past `null`, if that is next.
    pub fn null(&mut self) -> Result<bool, String> {
        let is_null = self.peek()? == ValueKind::Null;
        if is_null {
            self.word("null")?;
        }
        Ok(is_null)
    }

    /// Reads past any value.
    pub fn skip(&mut self) -> Result<(), String> {
        match self.peek()? {
            ValueKind::Null => self.word("null"),
            ValueKind::Boolean => self.boolean().map(drop),
            ValueKind::Number => self.number().map(drop),
            ValueKind::String => self.string().map(drop),
            ValueKind::Array => self.array(Reader::skip),
            ValueKind::Object => self.object(|reader, _| reader.skip()),
        }
    }

    /// True if nothing but white space is left.
    pub fn is_at_end(&mut self) -> bool {
        self.next_byte().is_none()
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.text.len() - self.at
    }

    /// A message that says where it happened: at the place that is read next.
    pub fn error(&self, what: impl Display) -> String {
        let before = &self.text[..self.text.floor_char_boundary(self.at)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{what} at line {line} column {column}")
    }

    /// An error that names the expected text, and the text that comes instead.
    pub(super) fn unexpected(&self, expected: &str) -> String {
        let rest = &self.text[self.at..];
        let got = match rest.chars().next() {
            None => "the end of the text (EOF)".into(),
            Some('"') => match self.clone().string() {
                Ok(text) if text.chars().count() <= 32 => format!("{text:?}"),
                _ => "a string".into(),
            },
            Some('[') => ValueKind::Array.to_string(),
            Some('{') => ValueKind::Object.to_string(),
            Some(_) => {
                let word = rest.split(|c: char| c.is_whitespace() || ",:]}[{\"".contains(c)).next();
                match word.filter(|word| !word.is_empty()) {
                    Some(word) => word.chars().take(32).collect(),
                    None => rest.chars().take(1).map(|character| format!("{character:?}")).collect(),
                }
            }
        };
        self.error(format_args!("expected {expected}, got {got}"))
    }

    /// The next byte behind white space.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes a byte behind white space, if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.next_byte() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    fn expect_kind(&mut self, kind: ValueKind) -> Result<(), String> {
        match self.peek() {
            Ok(found) if found == kind => Ok(()),
            _ => Err(self.unexpected(&kind.to_string())),
        }
    }

    fn open(&mut self, bracket: u8, kind: ValueKind) -> Result<(), String> {
        self.expect_kind(kind)?;
        if self.depth == MAX_DEPTH {
            return Err(self.error(format_args!("more than {MAX_DEPTH} arrays and objects inside one another")));
        }
        self.depth += 1;
        self.expect(bracket, &kind.to_string())
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.unexpected(word));
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// Goes to the next byte that means something in a string.
    fn skip_plain(&mut self) {
        while self.byte().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let character = match self.text.as_bytes().get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.escaped_code(),
            _ => return Err(self.error("an unknown escape in a string")),
        };
        self.at += 2;
        Ok(character)
    }

    /// `\uXXXX`, or two of them that are a surrogate pair.
    fn escaped_code(&mut self) -> Result<char, String> {
        let code = |at: usize| {
            let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
            let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal)
        };
        let first = code(self.at);
        let (character, length) = match first {
            Some(high @ 0xd800..0xdc00) => {
                let low = code(self.at + 6).filter(|low| (0xdc00..0xe000).contains(low));
                (low.and_then(|low| char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))), 12)
            }
            first => (first.and_then(char::from_u32), 6),
        };
        let invalid = || {
            match first {
            Some(half @ 0xd800..0xe000) => self.error(format_args!(
                "\\u{half:04x} is half of a surrogate pair and no character; bytes that are no text are sent as {{\"b64\": \"..\"}}"
            )),
            _ => self.error("\\u in a string needs the four hexadecimal digits of a character"),
        }
        };
        let character = character.ok_or_else(invalid)?;
        self.at += length;
        Ok(character)
    }
}

#[cfg(test)]
mod tests;
