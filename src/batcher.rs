//! Requests gather here and run in batches.
//!
//! A [`Batcher`] belongs to one loaded version. It holds lanes: each a queue (the policy, which is pure) and the idle instances
//! that run what waits there. A lane is a state machine that something drives, by a call of `drive`, which takes a batch and
//! an instance, runs the one on the other, and answers. Every version has a lane that the threads of [`Compute`] drive. One
//! that runs in next to no time has another for each I/O thread, which that thread drives itself ([`take_turns`]).

mod admission;
mod answer;
mod batch;
mod busy_poll;
mod compute;
mod device_threads;
mod forecast;
mod idle;
mod inline;
mod instances;
mod lost;
mod overload;
mod priority_levels;
mod queue;
mod run;
mod run_time;
mod run_time_ewma;
mod slot_queue;
mod submit;
mod task;
mod timing;
mod watchdog;
mod watched_thread;
mod worker_deaths;

pub use busy_poll::busy_poll;
pub use compute::Compute;
pub use idle::Load;
pub use inline::{LONGEST, begin as begin_turn, take_turns};
pub use instances::{Instances, OnDevice};
pub use priority_levels::Levels;
pub use queue::LevelLimits;
pub use task::LoadWatch;
pub use timing::Timing;
pub use watchdog::WatchedLoad;

use smallvec::SmallVec;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

use crate::{
    engine::{Instance, stop_reason},
    error::Result,
    metrics::{QueueGauge, VersionMetrics},
    tensor::{ModelInputs, Tensor},
};
use admission::Admission;
use batch::Reply;
use idle::Idle;
use lost::Loss;
use queue::{Cancel, Limits, Next, Queue, Waiting};
use run_time::RunTime;
use run_time_ewma::Pace;
use worker_deaths::{Died, Workers};

/// How a version's requests are batched and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether axis 0 is the batch: a request that has more rows than a batch may have is run in pieces.
    pub by_rows: bool,
    /// Whether requests are joined; otherwise each runs alone.
    pub joined: bool,
    /// Input and axis of every extent behind axis 0 that the signature leaves open: requests are joined only where they agree
    /// in them. Empty where they are not joined.
    pub open_axes: Vec<(usize, usize)>,
    /// Pairs of inputs and axes whose extents agree in requests that are joined or cut; one in which they don't runs alone.
    pub shared_extents: Vec<[(usize, usize); 2]>,
    /// Inputs, axes and the extents that they have in requests that are joined or cut; one with others runs alone.
    pub required_extents: Vec<(usize, usize, usize)>,
    /// Rows of a batch at most.
    pub max_batch_size: usize,
    /// How long a request may wait for others while an instance is free.
    pub max_queue_delay: Duration,
    /// Requests that wait at most.
    pub max_queue_size: usize,
    /// Priority levels and their limits.
    pub levels: Levels,
    /// Compute slots that a run takes: the threads that it uses, or one where it waits for a device.
    pub slots: usize,
    /// Whether made-up inputs ran when the version was loaded.
    pub ran_at_load: bool,
    /// Rows of a batch at most that an I/O thread runs; larger requests go to the compute threads.
    pub in_place_rows: usize,
    /// How long a run may take before it is stopped; `None`: for ever.
    pub max_run_time: Option<Duration>,
}

/// The queues and the instances of one loaded version.
pub struct Batcher {
    model: Box<str>,
    version: u64,
    /// "model 'm' version 1", for messages.
    label: String,
    settings: Settings,
    metrics: Arc<VersionMetrics>,
    compute: Compute,
    /// The compute threads' lane.
    shared: Lane,
    /// The I/O threads' lanes.
    in_place: Box<[Lane]>,
    pace: Pace,
    /// Of runs on the compute threads.
    run_time: RunTime,
    /// What tells the next job that runs alone from all others.
    next_alone: AtomicUsize,
    /// Whether any inputs ran: then the model works, and a run that fails is the fault of its inputs.
    has_run: AtomicBool,
    loss: Loss,
    workers: Workers,
}

/// Where requests run.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// On a compute thread, whichever is free.
    Compute,
    /// On the I/O thread with this number, which is the present one.
    Here(usize),
}

/// A queue and what runs it.
struct Lane {
    // A std mutex: it is held for a few pushes and pops, never across a run or an await. That of an I/O thread is its own.
    state: Mutex<State>,
    /// Whether the last batch held more than one request, and the next is likely to.
    crowded: AtomicBool,
    /// What waits. Told, and not asked for under the lock: whoever asks may be a thread that has to wait for the CPU.
    gauge: Arc<QueueGauge>,
    /// The batcher, for the watchdog. Apart for each lane, so that threads don't write to the same count.
    batcher: Arc<Weak<Batcher>>,
}

struct State {
    queue: Queue<Job>,
    admission: Admission,
    idle: Idle<Instance>,
    /// Calls of `drive` that are on their way; enough of them means that a push need not ask for one more.
    scheduled: usize,
    /// When a call of `drive` is due because a batch waits for more.
    timer: Option<Instant>,
}

/// A request, or a piece of an over-size one, while it waits and runs.
struct Job {
    inputs: ModelInputs,
    /// Whether it is the whole request, or its first piece, which runs before the others.
    is_first: bool,
    /// `None` once it runs where others may answer it, which have it then.
    reply: Option<Reply>,
}

/// What a request has come to: one tensor per output, and what it took.
pub struct Ran {
    /// The outputs.
    pub outputs: Vec<Tensor>,
    /// Where the time went.
    pub timing: Timing,
}

/// A request in the queue. Dropped, it is cancelled.
pub struct Submitted {
    /// One for each piece.
    answers: SmallVec<[Answer; 1]>,
    deadline: Option<Instant>,
    /// Its priority level, from 0 for the highest.
    level: usize,
    /// The request, where it was cut into pieces: it runs whole where their answers can't be joined.
    whole: Option<Box<ModelInputs>>,
}

/// Where the answer to a job will come.
type Answer = oneshot::Receiver<Result<Ran>>;

impl Cancel for Job {
    fn is_cancelled(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Batcher {
    /// A batcher over these instances of the version that `model` and `version` name.
    pub fn new(
        model: &str,
        version: u64,
        instances: Instances,
        settings: Settings,
        metrics: Arc<VersionMetrics>,
        compute: Compute,
    ) -> Arc<Self> {
        let limits = Limits {
            max_rows: if settings.joined { settings.max_batch_size } else { 0 },
            max_jobs: settings.max_queue_size,
            max_delay: if settings.joined { settings.max_queue_delay } else { Duration::ZERO },
            levels: settings.levels.limits().clone(),
        };
        let in_place = Limits { max_rows: limits.max_rows.min(settings.in_place_rows), ..limits.clone() };
        let label = format!("model '{model}' version {version}");
        Arc::new_cyclic(|batcher| Batcher {
            model: model.into(),
            version,
            label,
            has_run: AtomicBool::new(settings.ran_at_load),
            settings,
            compute,
            shared: Lane::new(limits, instances.compute, &metrics, batcher),
            in_place: (instances.in_place.into_iter())
                .map(|instance| OnDevice { instances: vec![instance], load: None })
                .map(|on_device| Lane::new(in_place.clone(), vec![on_device], &metrics, batcher))
                .collect(),
            metrics,
            pace: Pace::new(),
            run_time: RunTime::default(),
            next_alone: AtomicUsize::new(0),
            loss: Loss::default(),
            workers: Workers::new(model, version),
        })
    }

    /// Where a request of so many rows runs.
    fn place(&self, rows: usize) -> Place {
        if self.in_place.is_empty() || rows > self.settings.in_place_rows || !self.pace.is_short() {
            return Place::Compute;
        }
        let number = inline::this_thread().filter(|number| *number < self.in_place.len());
        number.map_or(Place::Compute, Place::Here)
    }

    fn lane(&self, place: Place) -> &Lane {
        match place {
            Place::Compute => &self.shared,
            Place::Here(number) => &self.in_place[number],
        }
    }

    /// Has the lane driven, after those that are waiting for it already.
    fn schedule(self: &Arc<Self>, place: Place) {
        match place {
            Place::Compute => self.compute.schedule(self),
            Place::Here(_) => inline::schedule(self),
        }
    }

    /// Drives a lane, and tells how many requests ran. A panic would be a defect; it must not take away the thread that
    /// drives.
    fn drive_guarded(self: &Arc<Self>, place: Place) -> usize {
        catch_unwind(AssertUnwindSafe(|| self.drive(place))).unwrap_or_else(|_| {
            tracing::error!("driving a batch panicked: this is a defect of the server");
            0
        })
    }

    /// Takes what is due and runs it on an idle instance, if there is both. Called by whatever drives the lane. Tells how many
    /// requests ran.
    fn drive(self: &Arc<Self>, place: Place) -> usize {
        let lane = self.lane(place);
        if matches!(place, Place::Compute) && lane.crowded.load(Relaxed) {
            // Threads that are reading requests go first, and what they read joins the batch. Where none wants the CPU this
            // costs less than a microsecond.
            thread::yield_now();
        }
        let mut state = lane.state();
        // Read under the lock: no job in the queue arrived later.
        let now = Instant::now();
        state.scheduled = state.scheduled.saturating_sub(1);
        if state.timer.is_some_and(|timer| timer <= now) {
            state.timer = None;
        }
        let Some((device, mut instance)) = state.idle.take() else { return 0 };
        if instance.death().is_some() {
            drop(state);
            self.restart_worker(device, instance, Died::Idle);
            return 0;
        }
        let (next, dropped, run) = state.take(now);
        lane.tell(&state);
        let batch = match next {
            Next::Run(batch) => batch,
            Next::WaitUntil(until) => {
                state.idle.put(device, instance);
                let earlier = state.timer.is_none_or(|timer| until < timer);
                if earlier {
                    state.timer = Some(until);
                }
                drop(state);
                if earlier {
                    self.compute.schedule_at(until, self);
                }
                self.refuse(dropped, now);
                return 0;
            }
            Next::Idle => {
                state.idle.put(device, instance);
                drop(state);
                self.refuse(dropped, now);
                return 0;
            }
        };
        // What a push brought may be more than one batch, and what waits for company has to be watched meanwhile.
        let more = !state.queue.is_empty() && state.scheduled < state.idle.len();
        state.scheduled += usize::from(more);
        drop(state);
        if more {
            self.schedule(place);
        }
        let requests = batch.len();
        lane.crowded.store(requests > 1, Relaxed);
        self.refuse(dropped, now);
        self.run(&mut instance, batch, now, place);
        if instance.death().is_some() {
            lane.state().forget(run);
            self.restart_worker(device, instance, Died::InRun);
            return requests;
        }
        let lost = instance.lost();
        let mut state = lane.state();
        if stop_reason().is_some() {
            state.stopped(run);
        } else if let Some(rates) = state.ended(run, place) {
            lane.gauge.set_rates(rates);
        }
        match lost {
            None => state.idle.put(device, instance),
            Some(lost) => {
                state.idle.lose(device);
                drop(state);
                self.lose(lost);
                return requests;
            }
        }
        let more = !state.queue.is_empty();
        state.scheduled += usize::from(more);
        drop(state);
        if more {
            // To the end of the line: versions take turns.
            self.schedule(place);
        }
        requests
    }
}

impl Lane {
    fn new(limits: Limits, devices: Vec<OnDevice>, metrics: &VersionMetrics, batcher: &Weak<Batcher>) -> Self {
        let idle = Idle::new(devices.into_iter().map(|OnDevice { instances, load }| (instances, load)));
        let admission = Admission::new(limits.levels.len(), idle.len());
        let state = State { queue: Queue::new(limits), admission, idle, scheduled: 0, timer: None };
        let batcher = Arc::new(batcher.clone());
        Lane { state: Mutex::new(state), crowded: AtomicBool::new(false), gauge: metrics.queue(), batcher }
    }

    /// Tells what waits, while the lock is held.
    fn tell(&self, state: &State) {
        let waiting = state.queue.total();
        self.gauge.set(waiting.jobs, waiting.rows);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent at every point where a panic could happen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
