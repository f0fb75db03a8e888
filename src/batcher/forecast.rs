//! Predicts how long runs take and how long a newcomer waits, from the runs of its lane. Pure: time comes as an argument.

use smallvec::SmallVec;
use std::time::{Duration, Instant};

use crate::{config::QueueTime, metrics::QueueRates};

/// Forecast from the runs of a lane. Nothing measured yet means no time at all: then nobody is refused.
#[derive(Debug)]
pub(super) struct Forecast {
    runs: RunTimes,
    /// Time of the lane per row while more waited than a batch holds; it includes what other versions take in between.
    throughput: Throughput,
    /// Time between that an instance and a job are there and that the batch begins: the wait for a compute slot.
    gap: f64,
    /// The runs that are under way.
    running: SmallVec<[ActiveRun; 2]>,
    /// When the last run ended.
    last_end: Option<Instant>,
    /// Longest run of late; it fades.
    longest: f64,
    /// The limit of [`QueueTime::Auto`].
    auto_max_wait: Duration,
}

/// A run under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ActiveRun {
    started: Instant,
    expected_end: Instant,
}

/// A run that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    run: ActiveRun,
    rows: usize,
    /// True if its time, from the end of the run before, shows the throughput of the lane.
    is_saturated: bool,
}

/// Jobs that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    pub jobs: usize,
    /// Rows of inputs that take no memory can be more than can be counted: it wraps.
    pub rows: usize,
}

/// A request that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    /// Index of its priority level; 0 is the highest.
    pub level: usize,
    /// Rows of all its jobs, and of the largest.
    pub rows: usize,
    pub job_rows: usize,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
}

/// State of a lane when a newcomer comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneState {
    /// Rows of a batch at most.
    pub max_rows: usize,
    /// Instances, idle or not.
    pub instances: usize,
    /// True if one of them is idle.
    pub is_idle: bool,
    pub now: Instant,
}

/// When a newcomer would be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prediction {
    /// Until its run begins.
    pub wait: Duration,
    /// Until its run ends.
    pub answer: Duration,
    /// Error that the prediction may have.
    pub margin: Duration,
}

/// The time of a run as a line over its rows, by regression over the latest runs. In nanoseconds.
#[derive(Debug, Default)]
struct RunTimes {
    count: u32,
    rows: f64,
    time: f64,
    /// Variance of the rows, and covariance of rows and time.
    variance: f64,
    covariance: f64,
    /// Time of one more row; `None` until batches of different sizes ran.
    slope: Option<f64>,
    /// Mean distance of a run's time from its prediction, as a part of that.
    deviation: f64,
}

/// Fading sums over saturated runs.
#[derive(Debug, Default)]
struct Throughput {
    nanoseconds: f64,
    rows: f64,
    runs: f64,
    /// Runs that they are made of.
    count: u32,
    measured: Option<Instant>,
}

/// The latest runs make so much of an average: one of so many.
const WEIGHT: u32 = 16;

/// No run counts for more than so many times its prediction: the system may have interrupted it.
const OUTLIER: f64 = 4.0;

/// No wait for a compute slot counts for more than that many times the average and so many nanoseconds.
const MAX_GAP_GROWTH: f64 = 1e6;

/// Runs of an average without outliers.
const MIN_RUNS: u32 = 4;

/// Rows vary enough to show the time of one more where their variance is this part of the squared mean.
const MIN_VARIANCE: f64 = 0.01;

/// A larger batch is worth waiting for while it saves this part of the time per row.
const MIN_SAVED: f64 = 0.05;

/// A throughput that was measured longer ago says nothing.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The default limit of the time in the queue: the longest of this, so many runs of one request, and so many of the longest
/// runs of late.
const MIN_MAX_WAIT: Duration = Duration::from_secs(2);
const MAX_WAIT_REQUESTS: f64 = 20.0;
const MAX_WAIT_RUNS: f64 = 4.0;

impl Forecast {
    pub(super) fn new() -> Self {
        Forecast {
            runs: RunTimes::default(),
            throughput: Throughput::default(),
            gap: 0.0,
            running: SmallVec::new(),
            last_end: None,
            longest: 0.0,
            auto_max_wait: MIN_MAX_WAIT,
        }
    }

    /// A run of so many rows, on average.
    pub(super) fn run(&self, rows: usize) -> Duration {
        duration(self.runs.at(rows as f64))
    }

    /// A run of so many rows that takes rather long.
    pub(super) fn longest_run(&self, rows: usize) -> Duration {
        duration(self.runs.at(rows as f64) * (1.0 + 2.0 * self.runs.deviation))
    }

    /// Rows beyond which a larger batch saves next to nothing per row, and only has its jobs wait for each other.
    pub(super) fn enough_rows(&self) -> usize {
        let (slope, first) = (self.runs.slope(), self.runs.at(0.0));
        if self.runs.slope.is_none() || slope <= 0.0 {
            return usize::MAX;
        }
        // A run takes first + slope * rows, of which `first` is then this part at most.
        (first / slope * (1.0 / MIN_SAVED - 1.0)).ceil().max(1.0) as usize
    }

    /// Time that a job may wait; `None`: as long as it wants. A run under way that takes longer than any before counts already.
    pub(super) fn max_wait(&self, limit: QueueTime, now: Instant) -> Option<Duration> {
        match limit {
            QueueTime::Auto => {
                let Some(started) = self.running.iter().map(|run| run.started).min() else {
                    return Some(self.auto_max_wait);
                };
                let longest = nanoseconds(now.saturating_duration_since(started));
                Some(self.auto_max_wait.max(duration(longest * MAX_WAIT_RUNS)))
            }
            QueueTime::AtMost(limit) => Some(limit),
            QueueTime::Unlimited => None,
        }
    }

    /// When a newcomer would be answered that waits behind `ahead`.
    pub(super) fn predict(&self, newcomer: &Newcomer, ahead: Backlog, lane: &LaneState) -> Prediction {
        let LaneState { max_rows, instances, is_idle, now } = *lane;
        let at_once = instances.max(1) as f64;
        let saturated = self.throughput.measured(now);
        let is_batched = max_rows > 1;
        // A request in pieces is answered when its last piece is.
        let pieces = newcomer.rows.saturating_sub(newcomer.job_rows) as f64;
        let (whole, own, per_row) = match saturated {
            // Later jobs join the newcomer's batch.
            Some((per_row, rows)) if is_batched => {
                let rows = rows.clamp(1.0, max_rows as f64);
                let whole = (ahead.rows as f64 / rows).floor() * rows;
                (whole * per_row, rows.max(newcomer.job_rows as f64), per_row)
            }
            None if is_batched => {
                let per_row = self.runs.slope() / at_once;
                let whole = ahead.rows - ahead.rows % max_rows;
                let own = (ahead.rows - whole).saturating_add(newcomer.job_rows).min(max_rows);
                (whole as f64 * per_row, own as f64, per_row)
            }
            Some((per_row, _)) => (ahead.rows as f64 * per_row, newcomer.job_rows as f64, per_row),
            None => {
                let per_row = self.runs.time / self.runs.rows.max(1.0) / at_once;
                (ahead.jobs as f64 * self.runs.time / at_once, newcomer.job_rows as f64, per_row)
            }
        };
        let start = self.running.iter().map(|run| run.expected_end).min().filter(|_| !is_idle);
        let start = start.map_or(0.0, |end| nanoseconds(end.saturating_duration_since(now)));
        let wait = start + self.gap + whole;
        let answer = wait + self.runs.at(own) + pieces * per_row;
        let runs = 1.0 + ahead.rows as f64 / self.runs.rows.max(1.0);
        let margin = 2.0 * self.runs.deviation * answer / runs.sqrt();
        Prediction { wait: duration(wait), answer: duration(answer), margin: duration(margin) }
    }

    /// Rates at which the queue is worked off.
    pub(super) fn rates(&self, max_rows: usize, instances: usize, now: Instant) -> QueueRates {
        let at_once = instances.max(1) as f64;
        let none = QueueRates { max_rows, ..QueueRates::default() };
        match self.throughput.measured(now) {
            Some((per_row, _)) => QueueRates { per_row, ..none },
            None if max_rows > 1 => {
                QueueRates { per_batch: self.runs.at(0.0) / at_once, per_row: self.runs.slope() / at_once, ..none }
            }
            None => QueueRates { per_request: self.runs.time / at_once, ..none },
        }
    }

    /// Time within which a newcomer behind so many jobs is certainly answered, in nanoseconds: each takes a run as long as any of
    /// late.
    pub(super) fn at_most(&self, jobs: usize) -> f64 {
        (jobs as f64 + 2.0) * self.longest + self.gap
    }

    /// A run of `rows` begins, whose first job could have run from `ready` on. `is_full`: the batch could hold no more of what
    /// waits.
    pub(super) fn begins(
        &mut self,
        now: Instant,
        rows: usize,
        ready: Instant,
        is_full: bool,
        instances: usize,
    ) -> Begun {
        // Something waited ever since the last run ended: what the lane did since is all that it can.
        let is_saturated = is_full && self.last_end.is_some_and(|end| ready <= end);
        let ready = self.last_end.map_or(ready, |end| end.max(ready));
        let gap = nanoseconds(now.saturating_duration_since(ready)).min(OUTLIER * self.gap + MAX_GAP_GROWTH);
        self.gap += (gap - self.gap) / f64::from(WEIGHT);
        let expected_end = now.checked_add(self.run(rows)).unwrap_or(now);
        // A run that was given up has no end.
        while self.running.len() >= instances.max(1) {
            self.running.remove(0);
        }
        let run = ActiveRun { started: now, expected_end };
        self.running.push(run);
        Begun { run, rows, is_saturated }
    }

    /// A run has ended, of which nothing is learned.
    pub(super) fn forget(&mut self, begun: Begun) {
        self.running.retain(|running| *running != begun.run);
    }

    /// A run was stopped. How long it would have taken is not known, only that others have waited for it.
    pub(super) fn stopped(&mut self, begun: Begun, now: Instant) {
        self.forget(begun);
        self.last_end = Some(now);
        self.took(nanoseconds(now.saturating_duration_since(begun.run.started)));
    }

    /// A run has ended.
    pub(super) fn ended(&mut self, begun: Begun, now: Instant) {
        let Begun { run, rows, is_saturated } = begun;
        self.forget(begun);
        let took = nanoseconds(now.saturating_duration_since(run.started));
        if let Some(last_end) = self.last_end.filter(|_| is_saturated) {
            // Of runs side by side each ends soon after the other.
            let interval = nanoseconds(now.saturating_duration_since(last_end));
            self.throughput.add(interval, rows as f64, now);
        }
        self.last_end = Some(now);
        self.runs.add(rows as f64, took);
        self.took(took);
    }

    /// A run has kept an instance for so long.
    fn took(&mut self, nanoseconds: f64) {
        self.longest = nanoseconds.max(self.longest * 0.9);
        let request = self.runs.at(1.0) * MAX_WAIT_REQUESTS;
        self.auto_max_wait = MIN_MAX_WAIT.max(duration(request.max(self.longest * MAX_WAIT_RUNS)));
    }
}

impl Backlog {
    pub(super) fn add(&mut self, jobs: usize, rows: usize) {
        self.jobs += jobs;
        self.rows = self.rows.wrapping_add(rows);
    }

    pub(super) fn subtract(&mut self, rows: usize) {
        self.jobs -= 1;
        self.rows = self.rows.wrapping_sub(rows);
    }
}

impl RunTimes {
    /// Time of one more row. Unknown, it is none: then batches are tried, and show it.
    fn slope(&self) -> f64 {
        let most = if self.rows > 0.0 { self.time / self.rows } else { 0.0 };
        self.slope.map_or(0.0, |slope| slope.clamp(0.0, most))
    }

    fn at(&self, rows: f64) -> f64 {
        self.time + self.slope() * (rows - self.rows)
    }

    fn add(&mut self, rows: f64, took: f64) {
        let expected = self.at(rows);
        let took = if self.count < MIN_RUNS { took } else { took.min(OUTLIER * expected.max(1e3)) };
        self.count = (self.count + 1).min(WEIGHT);
        let part = 1.0 / f64::from(self.count);
        if self.count > 1 {
            let off = (took - expected).abs() / expected.max(1e3);
            self.deviation += (off.min(OUTLIER) - self.deviation) * part;
        }
        let (more_rows, more_time) = (rows - self.rows, took - self.time);
        self.rows += more_rows * part;
        self.time += more_time * part;
        if self.count > 1 {
            self.variance = (1.0 - part) * (self.variance + part * more_rows * more_rows);
            self.covariance = (1.0 - part) * (self.covariance + part * more_rows * more_time);
        }
        if self.variance > MIN_VARIANCE * self.rows * self.rows {
            self.slope = Some((self.covariance / self.variance).max(0.0));
        }
    }
}

impl Throughput {
    fn add(&mut self, nanoseconds: f64, rows: f64, now: Instant) {
        let kept = 1.0 - 1.0 / f64::from(WEIGHT);
        let nanoseconds = match self.measured(now) {
            Some((per_row, _)) => nanoseconds.min(OUTLIER * per_row * rows.max(1.0)),
            None => nanoseconds,
        };
        self.nanoseconds = self.nanoseconds * kept + nanoseconds;
        self.rows = self.rows * kept + rows;
        self.runs = self.runs * kept + 1.0;
        self.count = (self.count + 1).min(WEIGHT);
        self.measured = Some(now);
    }

    /// Nanoseconds of a row and rows of a run.
    fn measured(&self, now: Instant) -> Option<(f64, f64)> {
        let is_fresh = self.measured.is_some_and(|at| now.saturating_duration_since(at) < MAX_AGE);
        let is_known = is_fresh && self.count >= MIN_RUNS && self.rows > 0.0;
        is_known.then(|| (self.nanoseconds / self.rows, self.rows / self.runs))
    }
}

pub(super) fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs() as f64 * 1e9 + f64::from(duration.subsec_nanos())
}

fn duration(nanoseconds: f64) -> Duration {
    Duration::from_nanos(nanoseconds.max(0.0) as u64)
}
