//! A configuration file: its keys and values with their places, and every problem with it, one line each.

use std::{
    fmt::Display,
    io::{self, Read},
    ops::RangeInclusive,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Size limit of a file of settings. A larger file is something else, such as a model under a wrong name.
const MAX_SIZE: u64 = 1 << 20;

/// Problems that are reported one by one at most. A file that is no configuration at all has one on every line. Each of them
/// would be searched for from the file's beginning.
const MAX_PROBLEMS: usize = 16;

/// The text of a configuration file.
///
/// # Errors
/// For people: it can't be read, is too large or not UTF-8. They name the file.
pub fn read(name: &dyn Display, file: io::Result<impl Read>) -> Result<String, String> {
    let failed = |error: io::Error| format!("{name} can't be read: {error}");
    let mut bytes = Vec::new();
    file.map_err(failed)?.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(format!("{name} is larger than 1 MiB, which no configuration is"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        format!("{name}:{line}: it is not UTF-8 text, which TOML must be")
    })
}

/// Contents of a file, and its problems.
pub struct Document<'t> {
    name: String,
    text: &'t str,
    entries: Vec<Entry<'t>>,
    problems: Vec<(usize, String)>,
    /// Keys that stand at the top of such files.
    keys: &'static [&'static str],
}

/// A key with its value.
pub struct Entry<'t> {
    /// The key.
    pub key: Spanned<String>,
    /// Its value.
    pub value: Spanned<DeValue<'t>>,
}

impl<'t> Document<'t> {
    /// Reads the text of the file of that name, which may have these keys at its top. Invalid TOML is a problem, and none of
    /// the keys count then.
    pub fn parse(name: &dyn Display, text: &'t str, keys: &'static [&'static str]) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let entries = if errors.is_empty() { entries(table.into_inner()) } else { Vec::new() };
        let mut document = Document { name: name.to_string(), text, entries, problems: Vec::new(), keys };
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            document.problem(at, format!("not valid TOML: {}", error.message()));
        }
        document
    }

    /// True for a key that stands at the top of such files.
    pub fn has_key(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// Takes the keys on the top.
    pub fn take_entries(&mut self) -> Vec<Entry<'t>> {
        std::mem::take(&mut self.entries)
    }

    /// Notes a problem at a place of the text.
    pub fn problem(&mut self, at: usize, what: impl Into<String>) {
        self.problems.push((at, what.into()));
    }

    /// Notes a key that is none of those known.
    pub fn unknown(&mut self, key: &Spanned<String>, known: &[&str]) {
        let suggestion =
            nearest(key.get_ref(), known).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        let end = if suggestion.is_empty() { ";" } else { "" };
        let what = format!("unknown key '{}'{suggestion}{end} known keys: {}", key.get_ref(), known.join(", "));
        self.problem(key.span().start, what);
    }

    /// The file's name with the line of a place in it.
    pub fn line(&self, at: usize) -> String {
        format!("{}:{}", self.name, self.position(at).0)
    }

    /// The problems, in the order of the text: `FILE:LINE:COLUMN: what`; of many the first.
    ///
    /// # Errors
    /// There are any.
    pub fn finish(mut self) -> Result<(), Vec<String>> {
        self.problems.sort_by_key(|(at, _)| *at);
        let problems = self.problems.iter().take(MAX_PROBLEMS).map(|(at, what)| {
            let (line, column) = self.position(*at);
            format!("{}:{line}:{column}: {what}", self.name)
        });
        let mut problems: Vec<_> = problems.collect();
        let more = self.problems.len() - problems.len();
        if more > 0 {
            problems.push(format!("{}: and {more} problems more", self.name));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Line and column, from 1, as editors count them.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        (1 + before.matches('\n').count(), 1 + before[line..].chars().count())
    }
}

/// The keys of a table.
pub(super) fn entries<'t>(table: DeTable<'t>) -> Vec<Entry<'t>> {
    let entry = |(key, value): (Spanned<std::borrow::Cow<'t, str>>, _)| {
        let span = key.span();
        Entry { key: Spanned::new(span, key.into_inner().into_owned()), value }
    };
    table.into_iter().map(entry).collect()
}

/// The value for people: what it is, and what it says where that is short.
pub fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".into(),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// The integer of a value, within a range.
///
/// # Errors
/// For people: what it must be, without what came.
pub fn integer(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| match (range.start(), range.end()) {
        (least, &u64::MAX) => format!("an integer of at least {least}"),
        (least, most) => format!("an integer from {least} to {most}"),
    })
}

/// The known word that is most likely meant: most often a letter is wrong, or an underscore is a hyphen.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let word = plain(word);
    let distance = |key: &str| strsim::osa_distance(&word, &plain(key));
    let near = known.iter().copied().min_by_key(|key| distance(key));
    let near = near.filter(|key| distance(key) <= word.len().max(key.len()) / 3);
    // Such as max_queue_delay_microseconds, as another server has it.
    let longer = |key: &str| word.len() >= 4 && (word.starts_with(&plain(key)) || plain(key).starts_with(&word));
    near.or_else(|| known.iter().copied().find(|key| longer(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_key_corrects_spelling_mistakes() {
        let known = ["max_batch_size", "max_queue_delay", "max_queue_size", "batching", "instances", "http"];
        for (word, meant) in [
            ("max_batch_sise", Some("max_batch_size")),
            ("max-batch-size", Some("max_batch_size")),
            ("MaxBatchSize", Some("max_batch_size")),
            ("max_qeue_delay", Some("max_queue_delay")),
            ("max_queue_delay_microseconds", Some("max_queue_delay")),
            ("instance", Some("instances")),
            ("htpp", Some("http")),
            ("inst", Some("instances")),
            ("h", None),
            ("", None),
            ("preferred_batch_size", None),
            ("grpc", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest("anything", &[]), None);
        assert_eq!(nearest("INPT0", &["INPUT0", "INPUT1"]), Some("INPUT0"));
    }

    #[test]
    fn places_are_counted_in_characters() {
        let mut document = Document::parse(&"f", "a = 1\nä = 'ß' # ß\n", &[]);
        let two = document.text.find('#').unwrap();
        document.problem(two, "here");
        document.problem(0, "there");
        document.problem(usize::MAX, "beyond");
        let problems = document.finish().unwrap_err();
        // A bare key is ASCII: TOML says so first.
        assert!(problems.iter().any(|line| line.starts_with("f:2:1: not valid TOML: ")), "{problems:?}");
        assert!(problems.contains(&"f:1:1: there".into()) && problems.contains(&"f:2:9: here".into()), "{problems:?}");
        assert_eq!(problems.last().unwrap(), "f:3:1: beyond");
    }

    #[test]
    fn document_reports_first_problems_and_counts_the_rest() {
        let problems = Document::parse(&"f", &"=\n".repeat(100_000), &[]).finish().unwrap_err();
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        assert!(problems[0].starts_with("f:1:1: not valid TOML: "), "{problems:?}");
        assert!(
            problems[MAX_PROBLEMS].starts_with("f: and ") && problems[MAX_PROBLEMS].ends_with(" problems more"),
            "{problems:?}"
        );
    }

    #[test]
    fn document_rejects_binary_and_oversized_files() {
        let read = |bytes: &[u8]| read(&"f", Ok(bytes));
        assert_eq!(read(b"a = 1"), Ok("a = 1".into()));
        assert_eq!(read(b""), Ok(String::new()));
        assert!(read(b"a = 1\n\xff").unwrap_err().starts_with("f:2: it is not UTF-8"));
        assert!(read(&vec![b'#'; 2 << 20]).unwrap_err().contains("larger than 1 MiB"));
        // An endless file is not read to its end.
        assert!(super::read(&"f", Ok(io::repeat(b'#'))).unwrap_err().contains("larger than 1 MiB"));
        let missing: io::Result<&[u8]> = Err(io::ErrorKind::NotFound.into());
        assert!(super::read(&"f", missing).unwrap_err().starts_with("f can't be read: "));
    }
}
