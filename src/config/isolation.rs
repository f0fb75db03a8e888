use std::{fmt, str::FromStr};

/// Process that a version's sessions live in: the server's own, or worker processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// In workers where a request is known to be able to end the process, else in the server's.
    #[default]
    Auto,
    /// In workers.
    Process,
    /// In the server's process.
    None,
}

const WORDS: [(&str, Isolation); 3] =
    [("auto", Isolation::Auto), ("process", Isolation::Process), ("none", Isolation::None)];

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, isolation)| *isolation).ok_or_else(|| "expected auto, process or none".into())
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WORDS.iter().filter(|(_, isolation)| isolation == self).try_for_each(|(word, _)| f.write_str(word))
    }
}
