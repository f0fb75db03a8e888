//! Settings of routing: aliases, weights, headers of routing keys.

use std::collections::BTreeMap;
use toml::{Spanned, de::DeValue};

use super::setting::{SettingValue, entries, wrong};
use crate::{
    config::document::{self, Document, Entry},
    traffic::{MAX_ALIASES, MAX_WEIGHTS, STABLE, Weights, check_alias, check_weight, count_aliases},
};

/// Aliases.
impl SettingValue for BTreeMap<String, u64> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        for entry in entries(key, "names of versions", "{ stable = 2 }", &value, file) {
            let alias = entry.key.get_ref();
            if let Err(why) = check_alias(alias) {
                file.problem(entry.key.span().start, why);
                continue;
            }
            match document::integer(entry.value.get_ref(), 1..=u64::MAX) {
                Ok(version) => {
                    self.insert(alias.clone(), version);
                }
                Err(expected) => {
                    wrong(&format!("alias '{alias}'"), &entry.value, &format!("a version, {expected}"), file)
                }
            }
        }
        if count_aliases(self) > MAX_ALIASES {
            wrong(key, &value, &format!("at most {MAX_ALIASES} names beside {STABLE}"), file);
        }
    }

    fn written(&self, key: &str) -> String {
        let aliases = self.iter().map(|(alias, version)| format!("\n{alias:?} = {version}")).collect::<String>();
        if aliases.is_empty() { format!("[{key}]\n# {STABLE} = 2") } else { format!("[{key}]{aliases}") }
    }
}

impl SettingValue for Weights {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        let mut weights = BTreeMap::new();
        let mut all_well = true;
        for entry in entries(key, "weights of versions", "{ 2 = 95, 3 = 5 }", &value, file) {
            match weight(&entry) {
                Ok((version, weight)) => {
                    weights.insert(version, weight);
                }
                Err((at, why)) => {
                    all_well = false;
                    file.problem(at, why);
                }
            }
        }
        match Weights::new(weights) {
            Ok(weights) if weights.count() > MAX_WEIGHTS => {
                wrong(key, &value, &format!("weights of at most {MAX_WEIGHTS} versions"), file);
            }
            Ok(weights) => *self = weights,
            Err(why) if all_well => file.problem(value.span().start, why),
            // It follows from a problem that is reported already.
            Err(_) => {}
        }
    }

    fn written(&self, key: &str) -> String {
        let weights = self.iter().map(|(version, weight)| format!("\n{version} = {weight:?}")).collect::<String>();
        if weights.is_empty() { format!("[{key}]\n# 2 = 95\n# 3 = 5") } else { format!("[{key}]{weights}") }
    }
}

/// A version with its weight, or where something is wrong, and what.
fn weight(entry: &Entry<'_>) -> Result<(u64, f64), (usize, String)> {
    let (key, value) = (entry.key.get_ref(), entry.value.get_ref());
    let version = key.parse().ok().filter(|version: &u64| *version > 0 && version.to_string() == *key);
    let Some(version) = version else {
        return Err((entry.key.span().start, format!("a version is an integer of at least 1, got '{key}'")));
    };
    let number = match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
        }
        _ => None,
    };
    let checked = match number {
        Some(weight) => check_weight(version, weight).map(|()| (version, weight)),
        None => Err(format!(
            "the weight of version {version} must be a finite number of at least 0, got {}",
            document::describe(value)
        )),
    };
    checked.map_err(|why| (entry.value.span().start, why))
}

/// Names of headers, in small letters.
impl SettingValue for Vec<String> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        let DeValue::Array(names) = value.get_ref() else {
            wrong(key, &value, "an array of names of headers such as [\"x-user-id\"]", file);
            return;
        };
        let what = format!("a header of {key}");
        for name in names.iter() {
            match name.get_ref().as_str() {
                Some(text) if !text.is_empty() && text.bytes().all(is_of_a_name) => {
                    self.push(text.to_ascii_lowercase())
                }
                Some(_) => wrong(&what, name, "of letters, digits and !#$%&'*+-.^_`|~", file),
                None => wrong(&what, name, "a string", file),
            }
        }
    }

    fn written(&self, key: &str) -> String {
        format!("{key} = {self:?}")
    }
}

/// True if a byte may stand in the name of a header (RFC 9110, 5.6.2).
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
