//! Settings of the queue's priority levels.

use std::collections::BTreeMap;
use toml::{Spanned, de::DeValue};

use super::setting::{SettingValue, entries, wrong};
use crate::config::{
    QueueTime,
    document::{self, Document, Entry},
};

/// Priority levels of a queue at most.
pub(super) const MAX_PRIORITY_LEVELS: u64 = 64;

/// Limits of the priority levels that have their own, by level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriorityLimits(pub BTreeMap<u64, PriorityLimit>);

/// Limits of one priority level. A limit that is `None` is that of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PriorityLimit {
    /// Requests of the level that wait at most.
    pub max_queue_size: Option<usize>,
    /// Time for which such a request may wait.
    pub max_queue_time: Option<QueueTime>,
}

const KEYS: &[&str] = &["max_queue_size", "max_queue_time"];
const SUCH_AS: &str = "{ 2 = { max_queue_size = 100, max_queue_time = \"100ms\" } }";

impl SettingValue for Option<QueueTime> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref().as_str().map(str::parse::<QueueTime>) {
            Some(Ok(time)) => *self = Some(time),
            Some(Err(expected)) => wrong(key, &value, &expected, file),
            None => wrong(key, &value, "\"auto\", \"none\" or a duration such as \"500ms\"", file),
        }
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {key} = \"{}\"", QueueTime::Auto), |time| format!("{key} = \"{time}\""))
    }
}

impl SettingValue for PriorityLimits {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        for entry in entries(key, "priority levels", SUCH_AS, &value, file) {
            let level = entry.key.get_ref().parse().ok().filter(|level| (1..=MAX_PRIORITY_LEVELS).contains(level));
            match (level, entry.value.get_ref()) {
                (Some(level), DeValue::Table(table)) => {
                    let limit = limit(&format!("{key}.{level}"), document::entries(table.clone()), file);
                    self.0.insert(level, limit);
                }
                (Some(level), _) => {
                    let such_as = "a table such as { max_queue_size = 100, max_queue_time = \"100ms\" }";
                    wrong(&format!("{key}.{level}"), &entry.value, such_as, file);
                }
                (None, _) => {
                    let came = entry.key.get_ref();
                    let what = format!("a priority level is an integer from 1 to {MAX_PRIORITY_LEVELS}, got '{came}'");
                    file.problem(entry.key.span().start, what);
                }
            }
        }
    }

    fn written(&self, key: &str) -> String {
        if self.0.is_empty() {
            return format!("[{key}]\n# 2 = {{ max_queue_size = 100, max_queue_time = \"100ms\" }}");
        }
        let level = |(level, limit): (&u64, &PriorityLimit)| {
            let size = limit.max_queue_size.map(|size| format!("max_queue_size = {size}"));
            let time = limit.max_queue_time.map(|time| format!("max_queue_time = \"{time}\""));
            format!("\n{level} = {{ {} }}", size.into_iter().chain(time).collect::<Vec<_>>().join(", "))
        };
        format!("[{key}]{}", self.0.iter().map(level).collect::<String>())
    }
}

/// The limits that a level's table gives.
fn limit(what: &str, entries: Vec<Entry<'_>>, file: &mut Document<'_>) -> PriorityLimit {
    let mut limit = PriorityLimit::default();
    for Entry { key, value } in entries {
        let named = format!("{what}.{}", key.get_ref());
        match key.get_ref().as_str() {
            "max_queue_size" => limit.max_queue_size.read(&named, value, 1 << 32, file),
            "max_queue_time" => limit.max_queue_time.read(&named, value, 0, file),
            _ => file.unknown(&key, KEYS),
        }
    }
    limit
}

/// Positions in the file of the keys that depend on the number of levels.
#[derive(Default)]
pub(super) struct PriorityKeys {
    default: usize,
    limits: Vec<(u64, usize)>,
}

/// The places, before the values are read.
pub(super) fn places(entries: &[Entry<'_>]) -> PriorityKeys {
    let mut places = PriorityKeys::default();
    for entry in entries {
        match (entry.key.get_ref().as_str(), entry.value.get_ref()) {
            ("priority", DeValue::Table(table)) => {
                let levels = document::entries(table.clone()).into_iter();
                let level = |entry: Entry<'_>| Some((entry.key.get_ref().parse().ok()?, entry.key.span().start));
                places.limits.extend(levels.filter_map(level));
            }
            ("default_priority", value) if !matches!(value, DeValue::Table(_)) => {
                places.default = entry.value.span().start;
            }
            _ => {}
        }
    }
    places
}

/// Notes levels that the model does not have.
pub(super) fn check(levels: Option<usize>, default: Option<usize>, places: &PriorityKeys, file: &mut Document<'_>) {
    let levels = levels.map_or(0, |levels| levels as u64);
    let has = match levels {
        0 => "the file gives no priority_levels: write such as priority_levels = 2".to_owned(),
        levels => format!("priority_levels = {levels}"),
    };
    if let Some(default) = default.filter(|default| *default as u64 > levels) {
        file.problem(places.default, format!("default_priority is {default}, and {has}"));
    }
    for (level, at) in &places.limits {
        if *level > levels && *level <= MAX_PRIORITY_LEVELS {
            file.problem(*at, format!("priority.{level} is the limit of a level that there is not: {has}"));
        }
    }
}
