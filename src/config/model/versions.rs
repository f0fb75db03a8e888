//! Which versions of a model are to be loaded.

use std::collections::BTreeSet;
use toml::{Spanned, de::DeValue};

use super::{Setting, wrong};
use crate::config::document::{self, Document};

/// Which of the versions that the repository holds are loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Versions {
    /// Every one.
    #[default]
    All,
    /// So many, those with the highest numbers.
    Latest(usize),
    /// These.
    These(BTreeSet<u64>),
}

impl Versions {
    /// Those of the versions, lowest first, that are loaded.
    pub fn chosen(&self, versions: impl DoubleEndedIterator<Item = u64>) -> BTreeSet<u64> {
        match self {
            Versions::All => versions.collect(),
            Versions::Latest(count) => versions.rev().take(*count).collect(),
            Versions::These(these) => versions.filter(|version| these.contains(version)).collect(),
        }
    }
}

const LATEST: &str = "latest";

const EXPECTED: &str = "\"all\", { latest = 2 }, or a list such as [1, 3]";

impl Setting for Versions {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref() {
            DeValue::String(text) if text == "all" => *self = Versions::All,
            DeValue::Table(table) if table.len() == 1 && table.keys().all(|name| name.get_ref() == LATEST) => {
                let Some(count) = table.values().next() else { return };
                match document::integer(count.get_ref(), 1..=u64::from(u32::MAX)) {
                    Ok(count) => *self = Versions::Latest(usize::try_from(count).unwrap_or(usize::MAX)),
                    Err(expected) => wrong(&format!("{key}.{LATEST}"), count, &expected, file),
                }
            }
            DeValue::Array(list) if !list.is_empty() => {
                let mut these = BTreeSet::new();
                for version in list {
                    match document::integer(version.get_ref(), 1..=u64::MAX) {
                        Ok(version) => {
                            these.insert(version);
                        }
                        Err(expected) => wrong(&format!("a version in {key}"), version, &expected, file),
                    }
                }
                *self = Versions::These(these);
            }
            DeValue::Array(_) => {
                file.problem(value.span().start, format!("{key} must be {EXPECTED}, got a list of none"));
            }
            _ => wrong(key, &value, EXPECTED, file),
        }
    }

    fn written(&self, key: &str) -> String {
        match self {
            Versions::All => format!("{key} = \"all\""),
            Versions::Latest(count) => format!("{key} = {{ {LATEST} = {count} }}"),
            Versions::These(these) => {
                let these: Vec<String> = these.iter().map(u64::to_string).collect();
                format!("{key} = [{}]", these.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn versions_are_chosen() {
        for (text, expected, written) in [
            ("versions = \"all\"", vec![1, 3, 4, 9], "versions = \"all\""),
            ("versions = { latest = 1 }", vec![9], "versions = { latest = 1 }"),
            ("versions.latest = 2", vec![4, 9], "versions = { latest = 2 }"),
            ("versions = { latest = 7 }", vec![1, 3, 4, 9], "versions = { latest = 7 }"),
            ("versions = [3, 8, 1]", vec![1, 3], "versions = [1, 3, 8]"),
        ] {
            let versions = ModelConfig::parse(&"config.toml", text).unwrap().versions;
            assert_eq!(versions.chosen([1, 3, 4, 9].into_iter()).into_iter().collect::<Vec<_>>(), expected, "{text}");
            assert_eq!(versions.written("versions"), written);
        }
        for (text, says) in [
            (
                "versions = \"latest\"",
                "1:12: versions must be \"all\", { latest = 2 }, or a list such as [1, 3], got the string",
            ),
            ("versions = []", "1:12: versions must be \"all\""),
            ("versions = 2", "got 2"),
            ("versions = { newest = 2 }", "got a table"),
            ("versions = { latest = 2, all = 1 }", "got a table"),
            ("versions = { latest = 0 }", "1:23: versions.latest must be an integer from 1 to 4294967295, got 0"),
            (
                "versions = [1, \"2\"]",
                "1:16: a version in versions must be an integer of at least 1, got the string \"2\"",
            ),
        ] {
            let problems = ModelConfig::parse(&"config.toml", text).unwrap_err();
            assert!(problems[0].contains(says), "{text}: {problems:?}");
        }
    }
}
