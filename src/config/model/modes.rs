//! Settings that are one of a few words.

use toml::{Spanned, de::DeValue};

use super::setting::{SettingValue, one_of, words, wrong};
use crate::config::{
    Isolation,
    document::{self, Document},
};

/// Batching of a model's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Batching {
    /// Where the graph proves that rows don't influence each other.
    #[default]
    Auto,
    /// The same, and where nothing is proven and a thorough probe sees no influence.
    Probed,
    /// The user's word that rows don't influence each other.
    On,
    /// Every request runs alone.
    Off,
}

/// Runs on the threads that read requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InPlace {
    /// Where it takes less time than to hand requests to another thread.
    #[default]
    Auto,
    /// Never.
    Off,
}

words!(Batching: "auto" => Auto, "probed" => Probed, "on" => On, "off" => Off);
words!(InPlace: "auto" => Auto, "off" => Off);
words!(Isolation: "auto" => Auto, "process" => Process, "none" => None);

impl SettingValue for Option<Isolation> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>) {
        self.insert(Isolation::Auto).read(key, value, most, file);
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {}", Isolation::Auto.written(key)), |isolation| isolation.written(key))
    }
}
