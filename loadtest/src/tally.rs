//! Counts of a load while it runs.

use hdrhistogram::Histogram;
use std::{collections::BTreeMap, time::Duration};

/// Latencies from a microsecond to an hour, to three digits.
const LOWEST: u64 = 1_000;
const HIGHEST: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// Reason why a request failed: its kind, and the message.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Kind that it is counted as.
    pub kind: String,
    /// Message, for people.
    pub message: String,
    /// Nothing can be sent on the connection any more.
    pub disconnected: bool,
}

impl Failure {
    /// The server answered, but not as hoped.
    pub(crate) fn answered(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Failure { kind: kind.into(), message: message.into(), disconnected: false }
    }

    /// The connection is of no use any more.
    pub(crate) fn disconnected(kind: &str, error: &dyn std::error::Error) -> Self {
        let message = error.source().map_or(error.to_string(), |source| format!("{error}: {source}"));
        Failure { kind: kind.to_owned(), message, disconnected: true }
    }
}

/// Counts of ended requests.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Requests that ended well within the time that is measured.
    pub completed: u64,
    /// Rows of those.
    pub rows: u64,
    /// Completed requests that were answered within the latency limit.
    pub good: u64,
    /// Nanoseconds from when each well-ended request was due until its answer was there.
    pub latencies: Histogram<u64>,
    /// Nanoseconds from when each failed request was due until it had failed.
    pub failure_latencies: Histogram<u64>,
    /// Nanoseconds from when requests were due until they were sent.
    pub lateness: Histogram<u64>,
    /// Failures by kind: the count, and the message of the first.
    pub failures: BTreeMap<String, (u64, String)>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS).expect("bounds and digits that the histogram takes");
        Tally {
            completed: 0,
            rows: 0,
            good: 0,
            failure_latencies: histogram.clone(),
            lateness: histogram.clone(),
            latencies: histogram,
            failures: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Counts a failure.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures.entry(failure.kind).or_insert((0, failure.message)).0 += 1;
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().map(|(count, _)| count).sum()
    }

    /// Adds what another counted.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.completed += other.completed;
        self.rows += other.rows;
        self.good += other.good;
        self.latencies.add(&other.latencies).expect("the same bounds");
        self.failure_latencies.add(&other.failure_latencies).expect("the same bounds");
        self.lateness.add(&other.lateness).expect("the same bounds");
        for (kind, (count, first)) in &other.failures {
            self.failures.entry(kind.clone()).or_insert((0, first.clone())).0 += count;
        }
    }
}

/// A time as histograms hold it.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(HIGHEST).min(HIGHEST)
}
