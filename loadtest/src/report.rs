//! Results of a load: figures, for people and for scripts.

mod html;
mod text;

pub(crate) use html::html;
pub(crate) use text::{errors, load, table};

use hdrhistogram::Histogram;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

use crate::{
    load::{Level, Spacing, Terms},
    tally::Tally,
};

/// Measurements of one level, as they were counted.
pub(crate) struct Figures {
    pub tally: Tally,
    pub moments: Vec<Moment>,
    /// Time for which it was measured.
    pub duration: Duration,
    /// CPU time of the server per second.
    pub server_cpu: Option<Duration>,
    /// CPU time of this process per second.
    pub own_cpu: Option<Duration>,
    pub mean_batch: Option<f64>,
    /// Threads that sent.
    pub threads: usize,
}

/// Results of a load, in the units of its names.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this program.
    pub loadtest: &'static str,
    /// When it began (RFC 3339).
    pub started: String,
    pub targets: Vec<String>,
    pub warm_up_seconds: f64,
    pub levels: Vec<LevelReport>,
}

/// Results of one number of clients, or of one rate.
#[derive(Debug, Serialize)]
pub(crate) struct LevelReport {
    #[serde(flatten)]
    pub load: Load,
    pub connections: usize,
    pub threads: usize,
    pub seconds: f64,
    /// Requests that were answered well.
    pub requests: u64,
    pub requests_per_second: f64,
    pub rows_per_second: f64,
    /// Requests per second that were answered within the latency limit.
    pub goodput_per_second: Option<f64>,
    pub latency_ms: Latency,
    /// Time until a failed request had failed; of requests that a server refuses it shows how soon the refusal comes.
    pub failure_latency_ms: Option<Latency>,
    pub errors: BTreeMap<String, Errors>,
    /// CPU time of the server for each answered request.
    pub server_cpu_us_per_request: Option<f64>,
    /// CPU time of this program for each answered request.
    pub loadtest_cpu_us_per_request: Option<f64>,
    /// Share of its threads' time that this program took.
    pub loadtest_busy_ratio: Option<f64>,
    /// Delay with which the 99th of 100 requests of an open loop was sent: the load generator's own lag, which is in the
    /// latencies.
    pub sent_late_p99_ms: Option<f64>,
    pub mean_batch: Option<f64>,
    pub moments: Vec<Moment>,
    /// Latency (ms) over the quantile.
    pub distribution: Vec<(f64, f64)>,
}

/// Level of the load.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Load {
    Closed { clients: usize, clients_to: Option<usize> },
    Open { rate: f64, rate_to: Option<f64>, arrivals: &'static str },
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

/// Failures of a kind.
#[derive(Debug, Serialize)]
pub(crate) struct Errors {
    pub count: u64,
    /// Message of the first.
    pub first: String,
}

/// Figures of a second or so.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Moment {
    /// When it ended, from the beginning of the measured time.
    pub at_seconds: f64,
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub errors: u64,
}

impl Moment {
    /// The figures of an interval that ended at `at`.
    pub(crate) fn new(at: Duration, took: Duration, tally: &Tally) -> Self {
        Moment {
            at_seconds: at.as_secs_f64(),
            requests_per_second: tally.completed as f64 / took.as_secs_f64(),
            p50_ms: milliseconds(tally.latencies.value_at_quantile(0.5)),
            p99_ms: milliseconds(tally.latencies.value_at_quantile(0.99)),
            errors: tally.failed(),
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| milliseconds(histogram.value_at_quantile(quantile));
        Latency {
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: milliseconds(histogram.max()),
        }
    }
}

impl LevelReport {
    /// The figures of a level.
    pub(crate) fn new(level: Level, terms: Terms, limited: bool, figures: Figures) -> Self {
        let Figures { tally, duration, .. } = &figures;
        let seconds = duration.as_secs_f64();
        let per_second = |count: u64| count as f64 / seconds;
        let rate = per_second(tally.completed);
        let per_request = |cpu: Option<Duration>| cpu.filter(|_| rate > 0.0).map(|cpu| cpu.as_secs_f64() / rate * 1e6);
        let is_open = matches!(level, Level::Open { .. });
        LevelReport {
            load: Load::of(level),
            connections: terms.connections,
            threads: figures.threads,
            seconds,
            requests: tally.completed,
            requests_per_second: rate,
            rows_per_second: per_second(tally.rows),
            goodput_per_second: limited.then(|| per_second(tally.good)),
            latency_ms: Latency::of(&tally.latencies),
            failure_latency_ms: (!tally.failure_latencies.is_empty()).then(|| Latency::of(&tally.failure_latencies)),
            errors: tally
                .failures
                .iter()
                .map(|(kind, (count, first))| (kind.clone(), Errors { count: *count, first: first.clone() }))
                .collect(),
            server_cpu_us_per_request: per_request(figures.server_cpu),
            loadtest_cpu_us_per_request: per_request(figures.own_cpu),
            loadtest_busy_ratio: figures.own_cpu.map(|cpu| cpu.as_secs_f64() / figures.threads as f64),
            sent_late_p99_ms: is_open.then(|| milliseconds(tally.lateness.value_at_quantile(0.99))),
            mean_batch: figures.mean_batch,
            distribution: distribution(&tally.latencies),
            moments: figures.moments,
        }
    }
}

impl Load {
    fn of(level: Level) -> Self {
        match level {
            Level::Closed { from, to } => Load::Closed { clients: from, clients_to: (to != from).then_some(to) },
            Level::Open { from, to, spacing } => Load::Open {
                rate: from,
                rate_to: (to != from).then_some(to),
                arrivals: match spacing {
                    Spacing::Poisson => "poisson",
                    Spacing::Constant => "constant",
                },
            },
        }
    }
}

/// Points of the distribution, denser towards its tail: as many for each further nine.
fn distribution(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    const PER_NINE: i32 = 10;
    const NINES: i32 = 5;
    let quantiles = (0..=PER_NINE * NINES).map(|step| 1.0 - 10f64.powf(-f64::from(step) / f64::from(PER_NINE)));
    let within = quantiles.take_while(|quantile| (1.0 - quantile) * histogram.len() as f64 >= 1.0);
    within.map(|quantile| (quantile, milliseconds(histogram.value_at_quantile(quantile)))).collect()
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
