//! Findings of `onnxd doctor` as text for people.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal},
};

use super::report::{Level, Report};
use crate::{api::SERVER_VERSION, terminal::escape};

pub(super) fn page(report: &Report) -> String {
    let colour = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let names =
        report.groups.iter().flat_map(|group| group.findings.iter().map(|finding| finding.name.chars().count()));
    let width = names.max().unwrap_or(0);
    let mut page = format!("onnxd {SERVER_VERSION} on {} {}\n", env::consts::OS, env::consts::ARCH);
    for group in report.groups.iter().filter(|group| !group.findings.is_empty()) {
        // Writing into memory can't fail.
        let _ = writeln!(page, "\n{}", group.title);
        for finding in &group.findings {
            let level = level(finding.level, colour);
            // The text about a library may have several lines. A name from outside must not move the cursor.
            let mut lines = finding.text.lines().chain(finding.advice.iter().flat_map(|advice| advice.lines()));
            let first = lines.next().unwrap_or_default();
            let _ = writeln!(page, "  {level}  {:<width$}  {}", escape(&finding.name), escape(first));
            for line in lines {
                let _ = writeln!(page, "  {:7}  {:width$}  {}", "", "", escape(line));
            }
        }
    }
    let _ = writeln!(page, "\n{}", summary(report));
    page
}

/// The level, padded to the width of the longest.
fn level(level: Level, colour: bool) -> String {
    let (code, word) = match level {
        Level::Ok => ("32", "ok     "),
        Level::Warning => ("33", "warning"),
        Level::Problem => ("31", "PROBLEM"),
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.into() }
}

fn summary(report: &Report) -> String {
    let number = |level, word: &str| match report.count(level) {
        0 => None,
        1 => Some(format!("1 {word}")),
        count => Some(format!("{count} {word}s")),
    };
    let text: Vec<_> = [(Level::Problem, "problem"), (Level::Warning, "warning")]
        .into_iter()
        .filter_map(|(level, word)| number(level, word))
        .collect();
    let counts = if text.is_empty() { String::new() } else { format!("{}: ", text.join(", ")) };
    let outcome = if report.is_well() { "would start and serve" } else { "WOULD NOT start and serve" };
    format!("{counts}with these settings a server {outcome}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::report::{Finding, FindingGroup};
    use serde_json::json;

    #[test]
    fn page_lists_findings_with_their_advice() {
        let well = FindingGroup::new("a", "First", vec![Finding::ok("one", "is\nthere\u{1b}[2J", json!({}))]);
        let none = FindingGroup::new("b", "Nothing", vec![]);
        let text = page(&Report { groups: vec![well, none] });
        let own = format!("onnxd {SERVER_VERSION} on {} {}\n", env::consts::OS, env::consts::ARCH);
        let expected = "\nFirst\n  ok       one  is\n                there\\u{1b}[2J\n\nwith these settings a server would start and serve.\n";
        assert_eq!(text, format!("{own}{expected}"));

        let findings = vec![
            Finding::ok("two", "x", json!({})).warning("do it"),
            Finding::ok("three", "y", json!({})).problem(),
            Finding::ok("four", "z", json!({})).problem(),
        ];
        let text = page(&Report { groups: vec![FindingGroup::new("c", "Second", findings)] });
        let expected = "\nSecond\n  warning  two    x\n                  do it\n  PROBLEM  three  y\n  PROBLEM  four   z\n\n\
             2 problems, 1 warning: with these settings a server WOULD NOT start and serve.\n";
        assert_eq!(text, format!("{own}{expected}"));
    }
}
