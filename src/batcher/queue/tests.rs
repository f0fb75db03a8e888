//! The queue's promises, held against random histories.

use proptest::prelude::*;
use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Cancel, Limits, Next, Queue, Waiting};

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

/// What the test knows of a job that is in the queue.
#[derive(Debug, Clone)]
struct Known {
    key: usize,
    rows: usize,
    arrived: Instant,
    deadline: Option<Instant>,
    cancelled: Rc<Cell<bool>>,
}

impl Known {
    fn is_dead(&self, now: Instant) -> bool {
        self.cancelled.get() || self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A request of jobs with these rows, one key, and a deadline this far off.
    Push { key: usize, rows: Vec<usize>, deadline: Option<u64> },
    /// The client of one of the waiting jobs goes.
    Cancel(prop::sample::Index),
    /// An instance is free.
    Take,
    /// Time passes.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (0..3usize, prop::collection::vec(0..6usize, 1..4), prop::option::weighted(0.3, 1..50u64));
    let step = prop_oneof![
        4 => push.prop_map(|(key, rows, deadline)| Step::Push { key, rows, deadline }),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        2 => Just(Step::Take),
        1 => (0..20u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

struct History {
    queue: Queue<TestJob>,
    limits: Limits,
    now: Instant,
    next_id: usize,
    /// What must be in the queue, by id, which is the order of arrival.
    waiting: std::collections::BTreeMap<usize, Known>,
    last_run_of_key: HashMap<usize, usize>,
}

impl History {
    fn new(limits: Limits) -> Self {
        History {
            queue: Queue::new(limits),
            limits,
            now: Instant::now(),
            next_id: 0,
            waiting: Default::default(),
            last_run_of_key: HashMap::new(),
        }
    }

    fn push(&mut self, key: usize, rows: &[usize], deadline: Option<u64>) {
        let mut request = Vec::new();
        let mut known = Vec::new();
        for &rows in rows {
            let cancelled = Rc::new(Cell::new(false));
            let deadline = deadline.map(|after| self.now + Duration::from_millis(after));
            let job = TestJob { id: self.next_id, cancelled: cancelled.clone() };
            known.push((self.next_id, Known { key, rows, arrived: self.now, deadline, cancelled }));
            request.push(Waiting { key: [key].into(), rows, arrived: self.now, deadline, job });
            self.next_id += 1;
        }
        let alive = self.waiting.values().filter(|job| !job.is_dead(self.now)).count();
        let pushed = self.queue.push(request, self.now);
        self.dropped(pushed.dropped);
        if pushed.accepted {
            assert!(self.waiting.len() < self.limits.max_jobs, "let in though full");
            self.waiting.extend(known);
        } else {
            assert!(alive >= self.limits.max_jobs, "refused with {alive} wanted jobs of {}", self.limits.max_jobs);
        }
    }

    fn dropped(&mut self, dropped: Vec<Waiting<TestJob>>) {
        for Waiting { job, .. } in dropped {
            let known = self.waiting.remove(&job.id).expect("dropped twice, or never came");
            assert!(known.is_dead(self.now), "dropped though wanted: {known:?}");
        }
    }

    fn take(&mut self) {
        let (next, dropped) = self.queue.take(self.now);
        self.dropped(dropped);
        match next {
            Next::Idle => assert!(self.oldest_of_keys().is_empty(), "idle though {:?} waits", self.waiting),
            Next::WaitUntil(until) => {
                assert!(until > self.now);
                let oldest = self.oldest_of_keys();
                assert!(oldest.iter().all(|(_, job)| until <= job.arrived + self.limits.max_delay), "waits too long");
                assert!(
                    !oldest.is_empty() && oldest.iter().all(|(_, job)| !self.is_due(job)),
                    "waits though one is due"
                );
            }
            Next::Run(batch) => self.ran(&batch),
        }
    }

    /// The oldest wanted job of each key, oldest first.
    fn oldest_of_keys(&self) -> Vec<(usize, Known)> {
        let mut oldest: Vec<(usize, Known)> = Vec::new();
        for (id, job) in self.waiting.iter().filter(|(_, job)| !job.is_dead(self.now)) {
            if oldest.iter().all(|(_, other)| other.key != job.key) {
                oldest.push((*id, job.clone()));
            }
        }
        oldest
    }

    /// Whether the batch that begins with this job gains nothing by waiting.
    fn is_due(&self, first: &Known) -> bool {
        let until = first.arrived + self.limits.max_delay;
        let companions = || self.waiting.values().filter(|job| job.key == first.key && !job.is_dead(self.now));
        let rows: usize = companions().map(|job| job.rows).sum();
        let in_haste = companions().any(|job| job.deadline.is_some_and(|deadline| deadline <= until));
        until <= self.now || rows >= self.limits.max_rows || in_haste
    }

    fn ran(&mut self, batch: &[Waiting<TestJob>]) {
        let oldest = self.oldest_of_keys();
        let first =
            oldest.iter().position(|(id, _)| *id == batch[0].job.id).expect("the oldest of a key is served first");
        assert!(oldest[..first].iter().all(|(_, job)| !self.is_due(job)), "an older batch was due");
        let key = oldest[first].1.key;
        let mut rows = 0;
        for waiting in batch {
            let known = self.waiting.remove(&waiting.job.id).expect("runs twice, or never came");
            assert!(!known.is_dead(self.now), "runs though dead: {known:?}");
            assert_eq!(known.key, key, "incompatible jobs run together");
            let last = self.last_run_of_key.insert(key, waiting.job.id);
            assert!(last.is_none_or(|last| last < waiting.job.id), "overtaken within a key");
            rows += known.rows;
        }
        assert!(rows <= self.limits.max_rows || batch.len() == 1, "{rows} rows in a batch");
        let left_out = self.waiting.values().find(|job| job.key == key && !job.is_dead(self.now));
        assert!(
            left_out.is_none_or(|job| rows >= self.limits.max_rows || rows + job.rows > self.limits.max_rows),
            "a batch of {rows} rows left {left_out:?} waiting"
        );
    }
}

proptest! {
    #[test]
    fn keeps_its_promises(
        steps in steps(),
        // None: the version is not batched, every job runs alone.
        max_rows in 0..8usize,
        max_jobs in 1..12usize,
        delay in prop_oneof![Just(0), 1..30u64],
    ) {
        let limits = Limits { max_rows, max_jobs, max_delay: Duration::from_millis(delay) };
        let mut history = History::new(limits);
        for step in steps {
            match step {
                Step::Push { key, rows, deadline } => history.push(key, &rows, deadline),
                Step::Cancel(index) if !history.waiting.is_empty() => {
                    let jobs: Vec<_> = history.waiting.values().collect();
                    index.get(&jobs).cancelled.set(true);
                }
                Step::Cancel(_) => {}
                Step::Take => history.take(),
                Step::Wait(milliseconds) => history.now += Duration::from_millis(milliseconds),
            }
            let rows: usize = history.waiting.values().map(|job| job.rows).sum();
            prop_assert_eq!((history.queue.len(), history.queue.rows()), (history.waiting.len(), rows));
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
    fn without_delay_a_free_instance_never_waits(steps in steps(), max_rows in 1..8usize) {
        let mut history = History::new(Limits { max_rows, max_jobs: 100, max_delay: Duration::ZERO });
        for step in steps {
            match step {
                Step::Push { key, rows, deadline } => history.push(key, &rows, deadline),
                Step::Wait(milliseconds) => history.now += Duration::from_millis(milliseconds),
                Step::Take | Step::Cancel(_) => {
                    let (next, dropped) = history.queue.take(history.now);
                    prop_assert!(!matches!(next, Next::WaitUntil(_)));
                    history.dropped(dropped);
                    if let Next::Run(batch) = next {
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
fn a_client_that_goes_meanwhile_leaves_no_empty_batch() {
    let now = Instant::now();
    for looks in 0..6 {
        let mut queue = Queue::new(Limits { max_rows: 4, max_jobs: 4, max_delay: Duration::ZERO });
        let job = Leaving(Cell::new(looks));
        assert!(queue.push(vec![Waiting { key: [].into(), rows: 1, arrived: now, deadline: None, job }], now).accepted);
        let (next, dropped) = queue.take(now);
        let ran = match next {
            Next::Run(batch) => {
                assert!(!batch.is_empty(), "after {looks} looks an empty batch runs");
                batch.len()
            }
            Next::WaitUntil(_) => panic!("waits without a delay"),
            Next::Idle => 0,
        };
        assert!(
            queue.is_empty() && ran + dropped.len() == 1,
            "after {looks} looks: {ran} ran, {} dropped",
            dropped.len()
        );
    }
}
