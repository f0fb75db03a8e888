//! What was found: pure.

use serde_json::Value;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be, or nothing that a server needs.
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

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub name: String,
    pub level: Level,
    /// For people.
    pub text: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// For scripts: an object.
    pub facts: Value,
}

impl Finding {
    pub(super) fn ok(name: impl Into<String>, text: impl Into<String>, facts: Value) -> Self {
        Finding { name: name.into(), level: Level::Ok, text: text.into(), advice: None, facts }
    }

    /// The same, where it is wrong, with what to do.
    pub(super) fn warning(self, advice: impl Into<String>) -> Self {
        Finding { level: Level::Warning, advice: Some(advice.into()), ..self }
    }

    /// The same, where it keeps a server from serving. What to do stands in its text, or is said behind it.
    pub(super) fn problem(self) -> Self {
        Finding { level: Level::Problem, ..self }
    }
}

/// Findings about one thing.
#[derive(Debug)]
pub(super) struct Group {
    /// For scripts.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    pub findings: Vec<Finding>,
}

impl Group {
    pub(super) fn new(name: &'static str, title: &'static str, findings: Vec<Finding>) -> Self {
        Group { name, title, findings }
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    pub groups: Vec<Group>,
}

impl Report {
    /// Findings of a level.
    pub(super) fn count(&self, level: Level) -> usize {
        self.groups.iter().flat_map(|group| &group.findings).filter(|finding| finding.level == level).count()
    }

    /// Whether a server would start and serve.
    pub(super) fn is_well(&self) -> bool {
        self.count(Level::Problem) == 0
    }
}
