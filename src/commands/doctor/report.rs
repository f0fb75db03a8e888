//! Findings of `onnxd doctor` and their levels: data without side effects.

use serde_json::Value;

/// Level of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// In order, or not needed by a server.
    Ok,
    /// A server serves, but not as well as it could, or not all that it could.
    Warning,
    /// A server does not start, or does not serve.
    Problem,
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// A finding: the result of one check.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub name: String,
    pub level: Level,
    /// For people.
    pub text: String,
    /// Advice on how to fix it.
    pub advice: Option<String>,
    /// Facts for scripts: an object.
    pub facts: Value,
}

impl Finding {
    pub(super) fn ok(name: impl Into<String>, text: impl Into<String>, facts: Value) -> Self {
        Finding { name: name.into(), level: Level::Ok, text: text.into(), advice: None, facts }
    }

    /// The finding as a warning, with advice.
    pub(super) fn warning(self, advice: impl Into<String>) -> Self {
        Finding { level: Level::Warning, advice: Some(advice.into()), ..self }
    }

    /// The finding as a problem, which keeps a server from serving. Its advice stands in its text, or is added afterwards.
    pub(super) fn problem(self) -> Self {
        Finding { level: Level::Problem, ..self }
    }
}

/// Group of findings about one subject.
#[derive(Debug)]
pub(super) struct FindingGroup {
    /// For scripts.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    pub findings: Vec<Finding>,
}

impl FindingGroup {
    pub(super) fn new(name: &'static str, title: &'static str, findings: Vec<Finding>) -> Self {
        FindingGroup { name, title, findings }
    }
}

/// All groups of findings.
#[derive(Debug)]
pub(super) struct Report {
    pub groups: Vec<FindingGroup>,
}

impl Report {
    /// Number of findings of a level.
    pub(super) fn count(&self, level: Level) -> usize {
        self.groups.iter().flat_map(|group| &group.findings).filter(|finding| finding.level == level).count()
    }

    /// True if a server would start and serve.
    pub(super) fn is_well(&self) -> bool {
        self.count(Level::Problem) == 0
    }
}
