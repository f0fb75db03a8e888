//! Versions of a model that are loaded.

use std::collections::BTreeSet;
use toml::{Spanned, de::DeValue};

use super::setting::{SettingValue, wrong};
use crate::config::document::{self, Document};

/// Choice of the versions that are loaded, of those that the repository holds.
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
    /// Selects the versions to load from all versions, which come lowest first.
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

impl SettingValue for Versions {
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
