//! Formats models, weights, aliases and histories for people.

use std::{fmt::Write as _, time::SystemTime};

use super::table::TextTable;
use crate::{
    api::proto::admin::{Model, Record, Traffic, Version},
    clock,
    config::rounded,
    terminal::escape,
};

/// Cell of an absent value.
const NONE: &str = "-";

/// One model as `models` shows it, and below the reasons why its versions run in worker processes.
pub(super) fn model(model: &[Model]) -> String {
    let mut reasons = String::new();
    for model in model {
        for version in &model.versions {
            if let Some(reason) = &version.isolation_reason {
                let [name, reason] = [&model.name, reason].map(|text| escape(text));
                let _ = writeln!(reasons, "{name} version {} runs in a worker process: {reason}", version.version);
            }
        }
    }
    below(models(model), &reasons)
}

/// Table of all versions with all their columns, and below it their problems.
pub(super) fn models(models: &[Model]) -> String {
    let headings = [
        "MODEL",
        ">VERSION",
        "STATE",
        ">WEIGHT",
        ">SHARE",
        "ALIASES",
        "SOURCE",
        ">AGE",
        ">GEN",
        "DEVICE",
        "ISOLATION",
        ">MEMORY",
        ">RUNS",
    ];
    let mut table = TextTable::new(&headings);
    let mut problems = String::new();
    for model in models {
        if let Some(problem) = &model.problem {
            let _ = writeln!(problems, "{}: {}", escape(&model.name), escape(problem));
        }
        for warning in &model.warnings {
            let _ = writeln!(problems, "{}: {}", escape(&model.name), escape(warning));
        }
        for version in &model.versions {
            if let Some(problem) = &version.problem {
                let [name, problem] = [&model.name, problem].map(|text| escape(text));
                let _ = writeln!(problems, "{name} version {}: {problem}", version.version);
            }
            let [weight, share, aliases] = traffic_cells(version);
            table.row(vec![
                model.name.clone(),
                version.version.to_string(),
                version.state.clone(),
                weight,
                share,
                aliases,
                model.source.clone(),
                age(&version.since, clock::now()),
                version.generation.map_or(NONE.into(), |generation| generation.to_string()),
                or_none(&version.devices.join(" ")),
                or_none(version.isolation.as_deref().unwrap_or_default()),
                version.memory_bytes.map_or(NONE.into(), rounded),
                version.run_memory_bytes.map_or(NONE.into(), rounded),
            ]);
        }
    }
    below(with_empty(&table, models), &problems)
}

/// The weights of every version.
pub(super) fn traffic(models: &[Model]) -> String {
    let mut table = TextTable::new(&["MODEL", ">VERSION", "STATE", ">WEIGHT", ">SHARE", "ALIASES", "SOURCE"]);
    for model in models {
        for version in &model.versions {
            let [weight, share, aliases] = traffic_cells(version);
            let (name, number) = (model.name.clone(), version.version.to_string());
            table.row(vec![name, number, version.state.clone(), weight, share, aliases, model.source.clone()]);
        }
    }
    below(with_empty(&table, models), &format!("{}{}", missing(models), shadowed(models)))
}

/// The weights of one model, with those before the change.
pub(super) fn traffic_change(model: &Model, before: Option<&Traffic>) -> String {
    let mut table = TextTable::new(&[">VERSION", "STATE", ">BEFORE", ">WEIGHT", ">SHARE", "ALIASES"]);
    for version in &model.versions {
        let before = before.and_then(|before| before.weights.get(&version.version)).map(ToString::to_string);
        let before = before.unwrap_or_else(|| NONE.into());
        let [weight, share, aliases] = traffic_cells(version);
        table.row(vec![version.version.to_string(), version.state.clone(), before, weight, share, aliases]);
    }
    below(table.text(), &missing(std::slice::from_ref(model)))
}

/// Every alias.
pub(super) fn aliases(models: &[Model]) -> String {
    let mut table = TextTable::new(&["MODEL", "ALIAS", ">VERSION", "STATE"]);
    for model in models {
        for (alias, number) in model.traffic.iter().flat_map(|traffic| &traffic.aliases) {
            let version = model.versions.iter().find(|version| version.version == *number);
            let state = version.map_or("GONE".into(), |version| version.state.clone());
            table.row(vec![model.name.clone(), alias.clone(), number.to_string(), state]);
        }
    }
    let text = table.text();
    if text.is_empty() { "no aliases\n".into() } else { text }
}

/// The changes of a model.
pub(super) fn history(model: &str, records: &[Record]) -> String {
    let mut table = TextTable::new(&[">REVISION", "TIME", "ACTOR", "CHANGE", "WEIGHTS", "REASON"]);
    for record in records {
        table.row(vec![
            record.revision.to_string(),
            moment(&record.time),
            or_none(&record.actor),
            record.change.clone(),
            record.after.as_ref().map_or(NONE.into(), weights),
            record.reason.clone(),
        ]);
    }
    let text = table.text();
    if text.is_empty() { format!("{model} has not been changed by admin calls\n") } else { text }
}

/// Weights as `traffic set` takes them.
pub(super) fn weights(traffic: &Traffic) -> String {
    let weights: Vec<_> = traffic.weights.iter().map(|(version, weight)| format!("{version}={weight}")).collect();
    or_none(&weights.join(" "))
}

/// A fraction in percent, with enough digits to differ from 0 % and 100 %.
pub(super) fn percent(share: f64) -> String {
    let mut digits = format!("{:.2}", share * 100.0);
    if digits.contains('.') {
        digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
    }
    match digits.as_str() {
        "0" if share > 0.0 => "<0.01 %".into(),
        "100" if share < 1.0 => ">99.99 %".into(),
        _ => format!("{digits} %"),
    }
}

/// Weight, share and aliases.
fn traffic_cells(version: &Version) -> [String; 3] {
    let weight = version.weight.map_or(NONE.into(), |weight| weight.to_string());
    [weight, percent(version.share), or_none(&version.aliases.join(" "))]
}

/// Weights and aliases of versions that do not exist.
fn missing(models: &[Model]) -> String {
    let mut text = String::new();
    for model in models {
        let Some(traffic) = &model.traffic else { continue };
        let name = escape(&model.name);
        let is_missing = |number: &u64| !model.versions.iter().any(|version| version.version == *number);
        for (number, weight) in traffic.weights.iter().filter(|(number, _)| is_missing(number)) {
            let _ = writeln!(text, "{name} has no version {number}: its weight {weight} counts for nothing");
        }
        for (alias, number) in traffic.aliases.iter().filter(|(_, number)| is_missing(number)) {
            let _ = writeln!(text, "{name} has no version {number}: its alias {} answers nobody", escape(alias));
        }
    }
    text
}

/// Traffic in config.toml files that an admin call overrides.
fn shadowed(models: &[Model]) -> String {
    let mut text = String::new();
    for model in models {
        let Some(traffic) = &model.shadowed else { continue };
        let weights = traffic.weights.iter().map(|(version, weight)| format!("{version}={weight}"));
        let aliases = traffic.aliases.iter().map(|(alias, version)| format!("{}={version}", escape(alias)));
        let asked: Vec<String> = weights.chain(aliases).collect();
        let (name, asked, source) = (escape(&model.name), asked.join(" "), escape(&model.source));
        let _ = writeln!(
            text,
            "{name}: config.toml asks for {asked}, which does not count since {source}; `onnxd traffic reset {name}` gives the \
             traffic back to it"
        );
    }
    text
}

/// The table and the models that have no versions.
fn with_empty(table: &TextTable, models: &[Model]) -> String {
    let mut text = table.text();
    for model in models.iter().filter(|model| model.versions.is_empty()) {
        let _ = writeln!(text, "{} has no versions", escape(&model.name));
    }
    if text.is_empty() { "no models\n".into() } else { text }
}

fn below(text: String, more: &str) -> String {
    if more.is_empty() { text } else { format!("{text}\n{more}") }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// The time since a moment, in its largest unit; 0s if this clock is behind the server's.
fn age(since: &str, now: SystemTime) -> String {
    let Ok(since) = humantime::parse_rfc3339(since) else { return NONE.into() };
    let seconds = now.duration_since(since).unwrap_or_default().as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

/// A time without fractions of a second.
pub(super) fn moment(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_has_one_unit() {
        let now = humantime::parse_rfc3339("2026-11-25T21:54:46.5Z").unwrap();
        for (since, expected) in [
            ("2026-11-25T21:54:50.000Z", "0s"),
            ("2026-11-25T21:54:06.400Z", "40s"),
            ("2026-11-25T21:00:00.000Z", "54m"),
            ("2026-11-24T22:00:00.000Z", "23h"),
            ("2026-11-01T00:00:00.000Z", "24d"),
            ("later", NONE),
        ] {
            assert_eq!(age(since, now), expected, "{since}");
        }
    }

    #[test]
    fn percent_distinguishes_tiny_shares_from_zero() {
        for (share, expected) in [
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.95, "95 %"),
            (1.0 / 3.0, "33.33 %"),
            (0.005, "0.5 %"),
            (1e-9, "<0.01 %"),
            (1.0 - 1e-9, ">99.99 %"),
        ] {
            assert_eq!(percent(share), expected);
        }
    }
}
