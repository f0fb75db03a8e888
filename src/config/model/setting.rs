//! Values of settings: each type reads itself from TOML and writes itself as an example.

use std::time::Duration;
use toml::{Spanned, de::DeValue};

use crate::config::{
    ByteSize,
    document::{self, Document, Entry},
};

/// Limit of durations: far longer ones are more than a clock can count.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// Value of a key.
pub(super) trait SettingValue {
    /// Takes the value that the file gives, or notes a problem in the file.
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>);

    /// The line of TOML that gives this value; an example in a comment where there is none.
    fn written(&self, key: &str) -> String;
}

/// Notes a problem in the file: `what` has a value that is not as expected.
pub(super) fn wrong(what: &str, value: &Spanned<DeValue<'_>>, expected: &str, file: &mut Document<'_>) {
    let came = document::describe(value.get_ref());
    file.problem(value.span().start, format!("{what} must be {expected}, got {came}"));
}

impl SettingValue for usize {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>) {
        match document::integer(value.get_ref(), 1..=most) {
            Ok(number) => *self = usize::try_from(number).unwrap_or(usize::MAX),
            Err(expected) => wrong(key, &value, &expected, file),
        }
    }

    fn written(&self, key: &str) -> String {
        format!("{key} = {self}")
    }
}

impl SettingValue for Option<usize> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>) {
        self.insert(1).read(key, value, most, file);
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {key} = 1"), |number| number.written(key))
    }
}

impl SettingValue for Option<ByteSize> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref().as_str().map(str::parse) {
            Some(Ok(size)) => *self = Some(size),
            Some(Err(_)) | None => wrong(key, &value, "a size such as \"512MiB\"", file),
        }
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {key} = \"1GiB\""), |size| format!("{key} = \"{size}\""))
    }
}

impl SettingValue for Duration {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref().as_str().map(humantime::parse_duration) {
            Some(Ok(duration)) if duration <= MAX_DURATION => *self = duration,
            Some(Ok(_)) => wrong(key, &value, "at most 1 day", file),
            Some(Err(_)) | None => wrong(key, &value, "a duration such as \"2ms\"", file),
        }
    }

    fn written(&self, key: &str) -> String {
        format!("{key} = \"{}\"", humantime::format_duration(*self))
    }
}

impl SettingValue for Option<Duration> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>) {
        self.insert(Duration::ZERO).read(key, value, most, file);
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {key} = \"1m\""), |duration| duration.written(key))
    }
}

/// The entries of a table, which holds `what`. A key of the whole file among them is a problem: it would be taken for an entry.
pub(super) fn entries<'t>(
    key: &str,
    what: &str,
    such_as: &str,
    value: &Spanned<DeValue<'t>>,
    file: &mut Document<'_>,
) -> Vec<Entry<'t>> {
    let DeValue::Table(table) = value.get_ref() else {
        wrong(key, value, &format!("a table such as {such_as}"), file);
        return Vec::new();
    };
    let mut entries = document::entries(table.clone());
    entries.retain(|entry| {
        let name = entry.key.get_ref();
        let misplaced = file.has_key(name);
        if misplaced {
            let what = format!("'{name}' stands below [{key}], where {what} are: move it above that line");
            file.problem(entry.value.span().start, what);
        }
        !misplaced
    });
    entries
}

/// A setting that is one of a few words.
macro_rules! words {
    ($type:ident: $($word:literal => $variant:ident),+) => {
        impl SettingValue for $type {
            fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
                let words = [$($word),+];
                match value.get_ref().as_str() {
                    $(Some($word) => *self = $type::$variant,)+
                    other => {
                        let near = other.and_then(|word| document::nearest(word, &words));
                        let meant = near.map(|near| format!(" (did you mean \"{near}\"?)")).unwrap_or_default();
                        wrong(key, &value, &format!("{}{meant}", one_of(&words)), file);
                    }
                }
            }

            fn written(&self, key: &str) -> String {
                let word = match self {
                    $($type::$variant => $word,)+
                };
                format!("{key} = \"{word}\"")
            }
        }
    };
}

/// `"a", "b" or "c"`
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

pub(super) use words;
