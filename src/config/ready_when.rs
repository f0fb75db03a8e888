use std::{fmt, str::FromStr};

/// Models that must have a READY version before the server reports itself ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadyWhen {
    /// One, whichever it is.
    Any,
    /// All that count.
    #[default]
    All,
    /// None: the first loads must be over.
    Started,
}

const WORDS: [(&str, ReadyWhen); 3] =
    [("any", ReadyWhen::Any), ("all", ReadyWhen::All), ("started", ReadyWhen::Started)];

impl FromStr for ReadyWhen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, when)| *when).ok_or_else(|| "expected any, all or started".into())
    }
}

impl fmt::Display for ReadyWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WORDS.iter().filter(|(_, when)| when == self).try_for_each(|(word, _)| f.write_str(word))
    }
}
