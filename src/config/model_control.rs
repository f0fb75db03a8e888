use std::{fmt, str::FromStr};

/// Source of the set of loaded versions, where no admin call has decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModelControl {
    /// The repository's contents at the start.
    None,
    /// The repository's contents, whenever they change.
    #[default]
    Poll,
    /// Nothing: only admin calls load.
    Explicit,
}

const WORDS: [(&str, ModelControl); 3] =
    [("none", ModelControl::None), ("poll", ModelControl::Poll), ("explicit", ModelControl::Explicit)];

impl FromStr for ModelControl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, control)| *control).ok_or_else(|| "expected none, poll or explicit".into())
    }
}

impl fmt::Display for ModelControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WORDS.iter().filter(|(_, control)| control == self).try_for_each(|(word, _)| f.write_str(word))
    }
}
