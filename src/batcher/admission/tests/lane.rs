//! The simulated lane: Poisson arrivals, runs whose times vary, several instances.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::BinaryHeap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::super::{Admission, AdmissionRefusal, Admitted, AdmittedRun};
use crate::{
    batcher::{
        forecast::Newcomer,
        queue::{Cancel, LevelLimits, NextStep, Queue, QueueLimits, Waiting},
    },
    config::QueueTime,
};

/// Time of a run, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub first: f64,
    pub row: f64,
}

impl Cost {
    fn of(self, rows: usize) -> f64 {
        self.first + self.row * rows as f64
    }
}

/// Clients that send requests of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clients {
    /// Per second.
    pub rate: f64,
    pub deadline: Option<Duration>,
    pub level: usize,
}

/// Outcome of the requests of a time.
#[derive(Debug, Default)]
pub(super) struct LaneOutcome {
    /// Answered in time, per second.
    pub goodput: f64,
    answered: usize,
    /// Time until each that failed was refused.
    failed: Vec<Duration>,
    /// Time that each that was answered waited and ran.
    pub latencies: Vec<Duration>,
    pub refusals: Vec<AdmissionRefusal>,
}

struct Job {
    client: usize,
    arrived: Instant,
    gone: Rc<Cell<bool>>,
}

impl Cancel for Job {
    fn is_cancelled(&self) -> bool {
        self.gone.get()
    }
}

pub(super) struct Lane {
    queue: Queue<Job>,
    admission: Admission,
    cost: Cost,
    noise: f64,
    max_rows: usize,
    instances: usize,
    idle: usize,
    now: Instant,
    running: BinaryHeap<Reverse<(Instant, usize)>>,
    batches: Vec<Option<(AdmittedRun, Vec<Waiting<Job>>)>>,
    random: fastrand::Rng,
    /// Made longer by this from now on.
    pub slowness: f64,
    /// Interruptions of runs: their length in milliseconds, and one run in how many has one.
    pub interruptions: (f64, usize),
}

impl LaneOutcome {
    pub(super) fn failures(&self) -> usize {
        self.failed.len()
    }

    /// The part of the failures that clients had to wait for.
    pub(super) fn slow_share(&self) -> f64 {
        let slow = self.failed.iter().filter(|took| **took > Duration::from_millis(10)).count();
        slow as f64 / self.failed.len().max(1) as f64
    }
}

impl Lane {
    pub(super) fn new(max_rows: usize, instances: usize, cost: Cost, noise: f64, levels: &[QueueTime]) -> Self {
        let level = |max_wait: &QueueTime| LevelLimits { max_jobs: usize::MAX, max_wait: *max_wait };
        let levels: Vec<_> = levels.iter().map(level).collect();
        let admission = Admission::new(levels.len(), instances);
        let limits = QueueLimits { max_rows, max_jobs: 1024, max_delay: Duration::ZERO, levels: levels.into() };
        Lane {
            queue: Queue::new(limits),
            admission,
            cost,
            noise,
            max_rows,
            instances,
            idle: instances,
            now: Instant::now(),
            running: BinaryHeap::new(),
            batches: Vec::new(),
            random: fastrand::Rng::with_seed(7),
            slowness: 1.0,
            interruptions: (0.0, 1),
        }
    }

    /// Rows per second at most.
    pub(super) fn capacity(&self) -> f64 {
        let rows = self.max_rows.max(1);
        1000.0 * (rows * self.instances) as f64 / self.cost.of(rows)
    }

    /// Requests come for a time; what came of all.
    pub(super) fn run(&mut self, clients: &[Clients], time: Duration) -> LaneOutcome {
        self.run_each(clients, time).into_iter().next().unwrap_or_default()
    }

    /// The same for each of the clients.
    pub(super) fn run_each(&mut self, clients: &[Clients], time: Duration) -> Vec<LaneOutcome> {
        let end = self.now + time;
        let mut out: Vec<LaneOutcome> = clients.iter().map(|_| LaneOutcome::default()).collect();
        let mut next: Vec<Instant> = clients.iter().map(|clients| self.now + self.gap(clients.rate)).collect();
        loop {
            let arrival = next.iter().copied().enumerate().min_by_key(|(_, at)| *at);
            let finish = self.running.peek().map(|Reverse((at, _))| *at);
            match (arrival, finish) {
                (_, Some(at)) if arrival.is_none_or(|(_, arrival)| at <= arrival) && at < end => {
                    self.now = at;
                    self.finish(&mut out, clients);
                }
                (Some((client, at)), _) if at < end => {
                    self.now = at;
                    next[client] = at + self.gap(clients[client].rate);
                    self.arrive(client, &clients[client], &mut out);
                }
                _ => break,
            }
        }
        self.now = end;
        for out in &mut out {
            out.goodput = out.answered as f64 / time.as_secs_f64();
        }
        out
    }

    fn gap(&mut self, rate: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.random.f64()).ln() / rate)
    }

    /// Lognormal times, and now and then one that is interrupted.
    fn takes(&mut self, rows: usize) -> Duration {
        let uniform = |random: &mut fastrand::Rng| 1.0 - random.f64();
        let normal =
            (-2.0 * uniform(&mut self.random).ln()).sqrt() * (std::f64::consts::TAU * uniform(&mut self.random)).cos();
        let (interruption, runs) = self.interruptions;
        let interrupted = if interruption > 0.0 && self.random.usize(..runs) == 0 { interruption } else { 0.0 };
        let run = self.cost.of(rows) * self.slowness * (self.noise * normal).exp();
        Duration::from_secs_f64((run + interrupted) / 1000.0)
    }

    fn arrive(&mut self, client: usize, clients: &Clients, out: &mut [LaneOutcome]) {
        let deadline = clients.deadline.map(|after| self.now + after);
        let newcomer = Newcomer { level: clients.level, rows: 1, job_rows: 1, arrived: self.now, deadline };
        match self.admission.check(&newcomer, &self.queue, self.idle > 0) {
            Err(refusal) => {
                self.admission.refused(clients.level, &refusal, self.now);
                out[client].failed.push(Duration::ZERO);
                out[client].refusals.push(refusal);
            }
            Ok(Admitted { predicted }) => self.push(client, clients.level, deadline, predicted),
        }
        self.start(out);
    }

    fn push(&mut self, client: usize, level: usize, deadline: Option<Instant>, predicted: bool) {
        let job = Job { client, arrived: self.now, gone: Rc::default() };
        let waiting = Waiting { level, deadline, ..Waiting::lone(self.now, job) };
        self.queue.push([waiting], predicted, self.admission.forecast());
    }

    /// True if a request without a deadline still runs that has waited for another's run, which was stopped after `time`. Its own
    /// run takes as long as any.
    pub(super) fn outlasts_a_run_that_is_stopped_after(&mut self, time: Duration) -> bool {
        (0..3).for_each(|_| self.push(0, 0, None, false));
        let begin = |lane: &mut Self| {
            let (next, dropped, run) = lane.admission.take(&mut lane.queue, lane.now);
            run.filter(|_| dropped.is_empty() && matches!(next, NextStep::Run(_)))
        };
        let end = |lane: &mut Self, run: AdmittedRun| {
            let takes = lane.takes(1);
            lane.now += takes;
            lane.admission.ended(run, lane.now);
        };
        let first = begin(self).expect("it has begun");
        end(self, first);
        let stopped = begin(self).expect("it has begun");
        self.now += time;
        self.admission.stopped(&stopped, self.now);
        begin(self).map(|last| end(self, last)).is_some()
    }

    fn start(&mut self, out: &mut [LaneOutcome]) {
        while self.idle > 0 {
            let (next, dropped, run) = self.admission.take(&mut self.queue, self.now);
            for dropped in dropped {
                let job = &dropped.waiting.job;
                if let Some(out) = out.get_mut(job.client) {
                    out.failed.push(self.now - job.arrived);
                }
            }
            let (NextStep::Run(batch), Some(run)) = (next, run) else { return };
            self.idle -= 1;
            let takes = self.takes(batch.iter().map(|waiting| waiting.rows).sum());
            self.running.push(Reverse((self.now + takes, self.batches.len())));
            self.batches.push(Some((run, batch)));
        }
    }

    fn finish(&mut self, out: &mut [LaneOutcome], clients: &[Clients]) {
        let Some(Reverse((_, number))) = self.running.pop() else { return };
        let (run, batch) = self.batches[number].take().expect("ends once");
        self.idle += 1;
        self.admission.ended(run, self.now);
        for waiting in batch {
            let Some(out) = out.get_mut(waiting.job.client) else { continue };
            let took = self.now - waiting.job.arrived;
            match clients[waiting.job.client].deadline {
                Some(deadline) if took > deadline => out.failed.push(deadline),
                _ => {
                    out.answered += 1;
                    out.latencies.push(took);
                }
            }
        }
        self.start(out);
    }
}
