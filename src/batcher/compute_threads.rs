//! Threads that run models in compute slots, shared by all versions.
//!
//! A run takes as many slots as it uses threads, of as many as there are threads here, so that what runs at once never exceeds
//! them. Versions wait in the [`SlotQueue`], and an idle version costs no thread. A thread whose run was abandoned gives its
//! slots back and is replaced.

use std::{collections::BTreeMap, io, time::Instant};

use super::{
    schedulable::Schedulable,
    slot_hold::{SlotHold, SlotOwner},
    slot_queue::{NextRun, RunId, SlotQueue},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        thread::{self, JoinHandle},
    },
    watchdog::Watchdog,
    watched_thread::hold_slots,
};
use crate::per_thread;

/// A handle to the threads. They end at [`ComputeThreads::stop`].
#[derive(Clone)]
pub(super) struct ComputeThreads {
    shared: Arc<ComputeShared>,
}

struct ComputeShared {
    /// Prefix of the threads' names.
    name: &'static str,
    /// CPUs that the process may use.
    cpus: usize,
    schedule: Mutex<Schedule>,
    changed: Condvar,
    threads: Mutex<Threads>,
    thread_ended: Condvar,
    watchdog: Watchdog,
}

#[derive(Default)]
struct Threads {
    running: BTreeMap<usize, JoinHandle<()>>,
    /// Running threads that end now.
    ended: Vec<usize>,
    next_number: usize,
}

struct Schedule {
    /// Batchers to drive. There is one slot for each thread.
    due: SlotQueue<Arc<dyn Schedulable>>,
    /// Batchers to drive at a later time; the number keeps those of one instant apart.
    later: BTreeMap<(Instant, u64), Arc<dyn Schedulable>>,
    next_number: u64,
    stopping: bool,
}

impl ComputeThreads {
    /// Starts so many threads of that name, beside those that run on so many CPUs.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn start(name: &'static str, cpus: usize, threads: usize, watchdog: Watchdog) -> io::Result<Self> {
        let schedule = Schedule { due: SlotQueue::new(), later: BTreeMap::new(), next_number: 0, stopping: false };
        let (schedule, changed) = (Mutex::new(schedule), Condvar::new());
        let (running, thread_ended) = (Mutex::new(Threads::default()), Condvar::new());
        let shared = ComputeShared { name, cpus, schedule, changed, threads: running, thread_ended, watchdog };
        let compute = ComputeThreads { shared: Arc::new(shared) };
        compute.grow(threads)?;
        Ok(compute)
    }

    /// Starts as many threads as lack until there are so many.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn grow(&self, threads: usize) -> io::Result<()> {
        let mut running = self.shared.threads();
        while running.running.len() < threads {
            self.shared.start_thread(&mut running)?;
            self.shared.schedule().due.add_slot();
        }
        Ok(())
    }

    /// The watchdog over their runs.
    pub(super) fn watchdog(&self) -> &Watchdog {
        &self.shared.watchdog
    }

    /// CPUs that runs may use at once.
    pub(super) fn cpus(&self) -> usize {
        self.shared.cpus
    }

    /// Ends the threads once they have finished what they run, and waits for that. What still waits never runs. Abandoned runs
    /// are not waited for.
    pub(super) fn stop(&self) {
        let mut schedule = self.shared.schedule();
        schedule.stopping = true;
        schedule.due.clear();
        schedule.later.clear();
        drop(schedule);
        self.shared.changed.notify_all();
        // A run may be abandoned meanwhile, whose thread is not waited for.
        let mut threads = self.shared.threads();
        while !threads.running.is_empty() {
            let ended = threads.ended.pop();
            match ended.map(|number| threads.running.remove(&number)) {
                Some(thread) => {
                    drop(threads);
                    // A thread that panicked has ended too.
                    drop(thread.map(JoinHandle::join));
                    threads = self.shared.threads();
                }
                None => threads = self.shared.thread_ended.wait(threads).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Drives the batcher as soon as its turn comes.
    pub(super) fn schedule(&self, batcher: Arc<dyn Schedulable>) {
        let mut schedule = self.shared.schedule();
        if !schedule.stopping {
            let slots = batcher.slots();
            schedule.due.push(batcher, slots);
        }
        drop(schedule);
        self.shared.changed.notify_one();
    }

    /// Drives the batcher at a later time.
    pub(super) fn schedule_at(&self, when: Instant, batcher: Arc<dyn Schedulable>) {
        let mut schedule = self.shared.schedule();
        if !schedule.stopping {
            let number = schedule.next_number;
            schedule.next_number += 1;
            schedule.later.insert((when, number), batcher);
        }
        drop(schedule);
        self.shared.changed.notify_one();
    }
}

impl SlotOwner for ComputeShared {
    fn abandon(self: Arc<Self>, run: RunId, thread: usize) -> bool {
        // Unless the run has come back by itself, and its thread has gone on.
        if !self.schedule().due.end(run) {
            return true;
        }
        let mut threads = self.threads();
        // Not waited for any more.
        threads.running.remove(&thread);
        self.thread_ended.notify_all();
        let replaced = self.start_thread(&mut threads);
        drop(threads);
        if replaced.is_err() {
            self.schedule().due.remove_slot();
        }
        self.changed.notify_all();
        replaced.is_ok()
    }
}

/// Registers the end of a thread, also where it panics.
struct EndOfThread<'a> {
    compute: &'a ComputeShared,
    thread: usize,
}

impl Drop for EndOfThread<'_> {
    fn drop(&mut self) {
        self.compute.threads().ended.push(self.thread);
        self.compute.thread_ended.notify_all();
    }
}

impl ComputeShared {
    fn start_thread(self: &Arc<Self>, threads: &mut Threads) -> io::Result<()> {
        let number = threads.next_number;
        let builder = thread::Builder::new().name(format!("{}-{number}", self.name));
        let shared = self.clone();
        let thread = builder.spawn(move || {
            // After the I/O threads, of which there are as many as CPUs.
            per_thread::enter(shared.cpus + number % shared.cpus.max(1));
            let _end = EndOfThread { compute: &shared, thread: number };
            shared.work(number);
            shared.watchdog.forget_this_thread();
        })?;
        threads.next_number += 1;
        threads.running.insert(number, thread);
        Ok(())
    }

    /// Drives batchers until the end, or until a run of this thread was abandoned: another has taken its place then.
    fn work(self: &Arc<Self>, number: usize) {
        let owner: Weak<dyn SlotOwner> = Arc::<ComputeShared>::downgrade(self);
        let mut schedule = self.schedule();
        while !schedule.stopping {
            let now = Instant::now();
            let next_timer = schedule.move_due(now);
            match schedule.due.next(now, |batcher| batcher.expected_run_time()) {
                NextRun::Run(batcher, run) => {
                    // Another thread takes what is next, or watches the time.
                    if schedule.due.has_work() || next_timer.is_some() {
                        self.changed.notify_one();
                    }
                    drop(schedule);
                    hold_slots(SlotHold { owner: owner.clone(), run, thread: number });
                    batcher.drive_compute();
                    schedule = self.schedule();
                    if !schedule.due.end(run) {
                        return;
                    }
                }
                NextRun::Wait(until) => {
                    schedule = self.wait(schedule, next_timer.into_iter().chain(until).min(), now);
                }
            }
        }
    }

    /// Waits until something changes, or until that time.
    fn wait<'a>(
        &self,
        schedule: MutexGuard<'a, Schedule>,
        until: Option<Instant>,
        now: Instant,
    ) -> MutexGuard<'a, Schedule> {
        match until {
            None => self.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner),
            Some(when) => {
                let timeout = when.saturating_duration_since(now);
                self.changed.wait_timeout(schedule, timeout).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    /// Appends batchers whose time has come to the queue, and returns the time of the next.
    fn move_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return Some(entry.key().0);
            }
            let batcher = entry.remove();
            let slots = batcher.slots();
            self.due.push(batcher, slots);
        }
        None
    }
}
