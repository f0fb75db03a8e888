//! Findings of `onnxd doctor` for scripts: one JSON document with stable keys.

use serde_json::{Value, json};

use super::report::{Finding, FindingGroup, Level, Report};
use crate::api::SERVER_VERSION;

pub(super) fn document(report: &Report) -> String {
    let findings = report.groups.iter().flat_map(|group| group.findings.iter().map(|found| finding(group, found)));
    let document = json!({
        "ok": report.is_well(),
        "onnxd": SERVER_VERSION,
        "problems": report.count(Level::Problem),
        "warnings": report.count(Level::Warning),
        "findings": findings.collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

fn finding(group: &FindingGroup, found: &Finding) -> Value {
    let mut value = json!({
        "group": group.name,
        "name": found.name,
        "level": found.level.word(),
        "text": found.text,
        "facts": found.facts,
    });
    if let Some(advice) = &found.advice {
        value["advice"] = advice.as_str().into();
    }
    value
}
