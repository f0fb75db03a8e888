//! The queue's promises, held against random histories.

use proptest::prelude::*;
use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{BatchKey, Cancel, Dropped, LevelLimits, NextStep, Queue, QueueLimits, Waiting};
use crate::{
    batcher::forecast::{Backlog, Forecast},
    config::QueueTime,
    metrics::Rejection,
};

impl<J> Waiting<J> {
    /// A job of one row without a deadline, which may run with all others of its kind.
    pub(in crate::batcher) fn lone(arrived: Instant, job: J) -> Self {
        let (key, deadline) = (BatchKey::default(), None);
        Waiting { key, rows: 1, level: 0, arrived, deadline, is_rest: false, number: 0, predicted: false, job }
    }
}

/// Limits of a queue with so many priority levels, none of which has limits of its own.
fn limits(max_rows: usize, max_jobs: usize, max_delay: Duration, levels: usize) -> QueueLimits {
    let level = LevelLimits { max_jobs: usize::MAX, max_wait: QueueTime::Unlimited };
    QueueLimits { max_rows, max_jobs, max_delay, levels: vec![level; levels].into() }
}

#[derive(Debug, Clone)]
struct TestJob {
    id: usize,
    cancelled: Rc<Cell<bool>>,
}

impl Cancel for TestJob {
    fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

/// A job that is in the queue, as far as the test tracks it.
#[derive(Debug, Clone)]
struct TrackedJob {
    key: usize,
    level: usize,
    rows: usize,
    arrived: Instant,
    deadline: Option<Instant>,
    cancelled: Rc<Cell<bool>>,
}

impl TrackedJob {
    fn is_dead(&self, now: Instant) -> bool {
        self.cancelled.get() || self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

#[derive(Debug, Clone)]
enum QueueStep {
    /// A request of jobs with these rows, one key and level, and a deadline this far off.
    Push { key: usize, level: usize, rows: Vec<usize>, deadline: Option<u64> },
    /// The client of one of the waiting jobs goes.
    Cancel(prop::sample::Index),
    /// An instance is free.
    Take,
    /// Time passes.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<QueueStep>> {
    let push = (0..4usize, 0..3usize, prop::collection::vec(0..6usize, 1..4), prop::option::weighted(0.3, 1..50u64));
    let step = prop_oneof![
        4 => push.prop_map(|(key, level, rows, deadline)| QueueStep::Push { key, level, rows, deadline }),
        1 => any::<prop::sample::Index>().prop_map(QueueStep::Cancel),
        2 => Just(QueueStep::Take),
        1 => (0..20u64).prop_map(QueueStep::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

struct History {
    queue: Queue<TestJob>,
    forecast: Forecast,
    limits: QueueLimits,
    now: Instant,
    next_id: usize,
    /// Jobs that must be in the queue, by id, which is the order of arrival.
    waiting: std::collections::BTreeMap<usize, TrackedJob>,
    /// By key and level.
    last_run: HashMap<(usize, usize), usize>,
}

impl History {
    fn new(limits: QueueLimits) -> Self {
        History {
            queue: Queue::new(limits.clone()),
            forecast: Forecast::new(),
            limits,
            now: Instant::now(),
            next_id: 0,
            waiting: Default::default(),
            last_run: HashMap::new(),
        }
    }

    fn push(&mut self, key: usize, level: usize, rows: &[usize], deadline: Option<u64>) {
        let mut request = Vec::new();
        let mut known = Vec::new();
        let level = level.min(self.limits.levels.len() - 1);
        let deadline = deadline.map(|after| self.now + Duration::from_millis(after));
        for &rows in rows {
            let cancelled = Rc::new(Cell::new(false));
            let job = TestJob { id: self.next_id, cancelled: cancelled.clone() };
            known.push((self.next_id, TrackedJob { key, level, rows, arrived: self.now, deadline, cancelled }));
            let arrived = self.now;
            request.push(Waiting { key: [key].into(), rows, level, deadline, ..Waiting::lone(arrived, job) });
            self.next_id += 1;
        }
        let before = |job: &&TrackedJob| job.level <= level;
        if self.queue.is_full(level).is_some() {
            assert!(self.waiting.values().filter(before).count() >= self.limits.max_jobs, "full, and there is room");
            // Searches have pauses between them.
            self.now += Duration::from_millis(1);
            let dropped = self.queue.drop_dead(self.now, &self.forecast);
            self.dropped(dropped);
            assert!(self.waiting.values().all(|job| !job.is_dead(self.now)), "dead jobs stay in a full queue");
        }
        if self.queue.is_full(level).is_none() {
            assert!(self.waiting.values().filter(before).count() < self.limits.max_jobs, "let in though full");
            self.queue.push(request, false, &self.forecast);
            self.waiting.extend(known);
        }
    }

    fn dropped(&mut self, dropped: Vec<Dropped<TestJob>>) {
        for Dropped { why, waiting } in dropped {
            let known = self.waiting.remove(&waiting.job.id).expect("dropped twice, or never came");
            assert!(known.is_dead(self.now), "dropped though wanted: {known:?}");
            let is_late = known.deadline.is_some_and(|deadline| deadline <= self.now);
            assert_eq!(why, if is_late { Rejection::Deadline } else { Rejection::Cancelled });
        }
    }

    fn take(&mut self) {
        let (next, dropped) = self.queue.take(self.now, &self.forecast);
        self.dropped(dropped);
        match next {
            NextStep::Idle => assert!(self.first_of_keys().is_empty(), "idle though {:?} waits", self.waiting),
            NextStep::WaitUntil(until) => {
                assert!(until > self.now);
                let oldest = self.first_of_keys();
                assert!(
                    oldest.iter().all(|(_, job)| until <= self.oldest_of(job.key) + self.limits.max_delay),
                    "waits too long"
                );
                assert!(
                    !oldest.is_empty() && oldest.iter().all(|(_, job)| !self.is_due(job)),
                    "waits though one is due"
                );
            }
            NextStep::Run(batch) => self.ran(&batch),
        }
    }

    /// The first wanted job of each key by level and arrival, in this order.
    fn first_of_keys(&self) -> Vec<(usize, TrackedJob)> {
        let mut wanted: Vec<_> = self.waiting.iter().filter(|(_, job)| !job.is_dead(self.now)).collect();
        wanted.sort_by_key(|(id, job)| (job.level, **id));
        let mut first: Vec<(usize, TrackedJob)> = Vec::new();
        for (id, job) in wanted {
            if first.iter().all(|(_, other)| other.key != job.key) {
                first.push((*id, job.clone()));
            }
        }
        first
    }

    /// When the oldest wanted job of a key came.
    fn oldest_of(&self, key: usize) -> Instant {
        let of_key = self.waiting.values().filter(|job| job.key == key && !job.is_dead(self.now));
        of_key.map(|job| job.arrived).min().unwrap()
    }

    /// True if the batch that begins with this job gains nothing by waiting.
    fn is_due(&self, first: &TrackedJob) -> bool {
        let until = self.oldest_of(first.key) + self.limits.max_delay;
        let companions = || self.waiting.values().filter(|job| job.key == first.key && !job.is_dead(self.now));
        let rows: usize = companions().map(|job| job.rows).sum();
        let in_haste = companions().any(|job| job.deadline.is_some_and(|deadline| deadline <= until));
        until <= self.now || rows >= self.limits.max_rows || in_haste
    }

    fn ran(&mut self, batch: &[Waiting<TestJob>]) {
        let oldest = self.first_of_keys();
        let first =
            oldest.iter().position(|(id, _)| *id == batch[0].job.id).expect("the oldest of a key is served first");
        assert!(oldest[..first].iter().all(|(_, job)| !self.is_due(job)), "an older batch was due");
        let key = oldest[first].1.key;
        let mut rows = 0;
        let order: Vec<_> = batch.iter().map(|waiting| (waiting.level, waiting.job.id)).collect();
        assert!(order.is_sorted(), "a lower level goes first: {order:?}");
        for waiting in batch {
            let known = self.waiting.remove(&waiting.job.id).expect("runs twice, or never came");
            assert!(!known.is_dead(self.now), "runs though dead: {known:?}");
            assert_eq!(known.key, key, "incompatible jobs run together");
            let last = self.last_run.insert((key, known.level), waiting.job.id);
            assert!(last.is_none_or(|last| last < waiting.job.id), "overtaken within a key and level");
            rows += known.rows;
        }
        assert!(rows <= self.limits.max_rows || batch.len() == 1, "{rows} rows in a batch");
        let left = self.first_of_keys().into_iter().find(|(_, job)| job.key == key);
        assert!(
            left.as_ref().is_none_or(|(_, job)| rows >= self.limits.max_rows || rows + job.rows > self.limits.max_rows),
            "a batch of {rows} rows left {left:?} waiting"
        );
    }
}

proptest! {
    #[test]
    fn queue_keeps_its_promises_in_random_histories(
        steps in steps(),
        // None: the version is not batched, every job runs alone.
        max_rows in 0..8usize,
        max_jobs in 1..12usize,
        delay in prop_oneof![Just(0), 1..30u64],
        levels in 1..4usize,
    ) {
        let mut history = History::new(limits(max_rows, max_jobs, Duration::from_millis(delay), levels));
        for step in steps {
            match step {
                QueueStep::Push { key, level, rows, deadline } => history.push(key, level, &rows, deadline),
                QueueStep::Cancel(index) if !history.waiting.is_empty() => {
                    let jobs: Vec<_> = history.waiting.values().collect();
                    index.get(&jobs).cancelled.set(true);
                }
                QueueStep::Cancel(_) => {}
                QueueStep::Take => history.take(),
                QueueStep::Wait(milliseconds) => history.now += Duration::from_millis(milliseconds),
            }
            let rows: usize = history.waiting.values().map(|job| job.rows).sum();
            prop_assert_eq!(history.queue.total(), Backlog { jobs: history.waiting.len(), rows });
        }
        // Nothing is lost: once time has passed, the queue gives out all that is left.
        history.now += Duration::from_secs(1);
        while !history.queue.is_empty() {
            let before = history.waiting.len();
            history.take();
            prop_assert!(history.waiting.len() < before, "the queue holds what it never gives out");
        }
        prop_assert!(history.waiting.is_empty(), "lost: {:?}", history.waiting);
    }

    #[test]
    fn queue_without_delay_never_holds_a_free_instance(steps in steps(), max_rows in 1..8usize) {
        let mut history = History::new(limits(max_rows, 100, Duration::ZERO, 2));
        for step in steps {
            match step {
                QueueStep::Push { key, level, rows, deadline } => history.push(key, level, &rows, deadline),
                QueueStep::Wait(milliseconds) => history.now += Duration::from_millis(milliseconds),
                QueueStep::Take | QueueStep::Cancel(_) => {
                    let (next, dropped) = history.queue.take(history.now, &history.forecast);
                    prop_assert!(!matches!(next, NextStep::WaitUntil(_)));
                    history.dropped(dropped);
                    if let NextStep::Run(batch) = next {
                        history.ran(&batch);
                    }
                }
            }
        }
    }
}

/// A job whose client goes while the queue is looking: after so many looks it is cancelled.
struct Leaving(Cell<usize>);

impl Cancel for Leaving {
    fn is_cancelled(&self) -> bool {
        let looks = self.0.get();
        self.0.set(looks.saturating_sub(1));
        looks == 0
    }
}

#[test]
fn departing_client_leaves_no_empty_batch() {
    let now = Instant::now();
    for looks in 0..6 {
        let (mut queue, forecast) = (Queue::new(limits(4, 4, Duration::ZERO, 1)), Forecast::new());
        let job = Leaving(Cell::new(looks));
        queue.push([Waiting::lone(now, job)], false, &forecast);
        let (next, dropped) = queue.take(now, &forecast);
        let ran = match next {
            NextStep::Run(batch) => {
                assert!(!batch.is_empty(), "after {looks} looks an empty batch runs");
                batch.len()
            }
            NextStep::WaitUntil(_) => panic!("waits without a delay"),
            NextStep::Idle => 0,
        };
        assert!(
            queue.is_empty() && ran + dropped.len() == 1,
            "after {looks} looks: {ran} ran, {} dropped",
            dropped.len()
        );
    }
}

/// A job that counts how often it is looked at.
struct CountingJob<'c>(&'c Cell<usize>);

impl Cancel for CountingJob<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.set(self.0.get() + 1);
        false
    }
}

#[test]
fn shape_count_does_not_raise_queue_cost() {
    const JOBS: usize = 2000;
    let looks = Cell::new(0);
    let now = Instant::now();
    for delay in [Duration::ZERO, Duration::from_secs(1)] {
        let (mut queue, forecast) = (Queue::new(limits(8, JOBS, delay, 1)), Forecast::new());
        looks.set(0);
        for number in 0..JOBS {
            let (arrived, job) = (now + Duration::from_micros(number as u64), CountingJob(&looks));
            let key = [number].into();
            queue.push([Waiting { key, ..Waiting::lone(arrived, job) }], false, &forecast);
            if !delay.is_zero() {
                assert!(matches!(queue.take(arrived, &forecast).0, NextStep::WaitUntil(until) if until == now + delay));
            }
        }
        let mut ran = 0;
        while let (NextStep::Run(batch), _) = queue.take(now + 2 * delay, &forecast) {
            assert_eq!(*batch[0].key, [ran]);
            ran += batch.len();
        }
        assert_eq!(ran, JOBS);
        assert!(looks.get() <= 8 * JOBS, "{} looks at {JOBS} jobs", looks.get());
    }
}

proptest! {
    /// Whatever has been measured: a batch holds nothing that it would end too late for, and what is dropped would have been.
    #[test]
    fn batches_end_before_their_deadlines(
        runs in prop::collection::vec((1..9usize, 1..40u64), 0..20),
        deadlines in prop::collection::vec(prop::option::of(1..100u64), 1..30),
        max_rows in 0..9usize,
    ) {
        let (mut forecast, mut now) = (Forecast::new(), Instant::now());
        for (rows, took) in runs {
            let begun = forecast.begins(now, rows, now, false, 1);
            now += Duration::from_millis(took);
            forecast.ended(begun, now);
        }
        let mut queue = Queue::new(limits(max_rows, 100, Duration::ZERO, 1));
        for (id, after) in deadlines.iter().enumerate() {
            let job = TestJob { id, cancelled: Rc::default() };
            let deadline = after.map(|after| now + Duration::from_millis(after));
            let key = [].into();
            let waiting = Waiting { key, deadline, ..Waiting::lone(now, job) };
            queue.push([waiting], true, &forecast);
        }
        let mut left = deadlines.len();
        while !queue.is_empty() {
            let is_alone = queue.total().jobs == 1;
            let (next, dropped) = queue.take(now, &forecast);
            left -= dropped.len();
            for Dropped { why, waiting } in dropped {
                prop_assert_eq!(why, Rejection::Deadline);
                prop_assert!(waiting.deadline.unwrap() < now + forecast.run(1));
            }
            let NextStep::Run(batch) = next else { break };
            left -= batch.len();
            let ends = now + forecast.run(batch.len());
            let is_late = |waiting: &Waiting<TestJob>| waiting.deadline.is_some_and(|deadline| deadline < ends);
            prop_assert!(is_alone || !batch.iter().any(is_late));
        }
        prop_assert_eq!(left, 0);
    }
}

#[test]
fn request_pieces_do_not_expire_behind_the_first() {
    let (now, limit) = (Instant::now(), Duration::from_millis(10));
    let level = LevelLimits { max_jobs: usize::MAX, max_wait: QueueTime::AtMost(limit) };
    let limits = QueueLimits { max_rows: 1, max_jobs: 9, max_delay: Duration::ZERO, levels: vec![level].into() };
    let (mut queue, forecast) = (Queue::new(limits), Forecast::new());
    let piece = |id: usize| {
        let (key, job) = ([].into(), TestJob { id, cancelled: Rc::default() });
        Waiting { key, is_rest: id > 0, ..Waiting::lone(now, job) }
    };
    queue.push([piece(0), piece(1)], false, &forecast);
    assert!(
        matches!(queue.take(now, &forecast), (NextStep::Run(batch), dropped) if batch[0].job.id == 0 && dropped.is_empty())
    );
    let late = now + 2 * limit;
    assert!(
        matches!(queue.take(late, &forecast), (NextStep::Run(batch), dropped) if batch[0].job.id == 1 && dropped.is_empty())
    );
    queue.push([piece(0), piece(1)], false, &forecast);
    let (next, dropped) = queue.take(late, &forecast);
    assert!(matches!(next, NextStep::Run(batch) if batch[0].job.id == 1));
    assert!(dropped.len() == 1 && dropped[0].why == Rejection::QueueTime);
}

#[test]
fn batching_delay_does_not_count_as_queue_time() {
    let (now, delay) = (Instant::now(), Duration::from_secs(60));
    let level = LevelLimits { max_jobs: usize::MAX, max_wait: QueueTime::Auto };
    let limits = QueueLimits { max_rows: 2, max_jobs: 9, max_delay: delay, levels: vec![level].into() };
    let (mut queue, forecast) = (Queue::new(limits), Forecast::new());
    let job = TestJob { id: 0, cancelled: Rc::default() };
    queue.push([Waiting::lone(now, job)], false, &forecast);
    assert!(matches!(queue.take(now + delay / 2, &forecast), (NextStep::WaitUntil(_), dropped) if dropped.is_empty()));
    assert!(matches!(queue.take(now + delay, &forecast), (NextStep::Run(_), dropped) if dropped.is_empty()));
}
