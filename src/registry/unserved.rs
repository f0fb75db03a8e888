//! Warnings about what looks like a model and is not served, each logged once.

use std::collections::BTreeSet;

/// Files of the last scans that are not served, and those that have been logged.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    seen: BTreeSet<String>,
    logged: BTreeSet<String>,
}

impl Unserved {
    /// Logs what was not logged before.
    pub(super) fn report_at_once(&mut self, now: Vec<String>) {
        self.seen = now.into_iter().collect();
        self.log();
    }

    /// The same of what two looks in a row found: files that are being copied may be halfway to their place.
    pub(super) fn report(&mut self, now: Vec<String>) {
        let now: BTreeSet<String> = now.into_iter().collect();
        let settled = now == self.seen;
        self.seen = now;
        if settled {
            self.log();
        }
    }

    fn log(&mut self) {
        for warning in self.seen.difference(&self.logged) {
            tracing::warn!(warning, "model repository not as expected");
        }
        self.logged.clone_from(&self.seen);
    }
}
