//! The threads that runs happen on, shared by all versions.
//!
//! There are as many threads as CPUs that the process may use. A run takes as many slots as it uses threads, of as many as
//! there are CPUs, so that what runs at once never exceeds them; versions wait in line (`line.rs`), and an idle version costs no thread. A thread
//! whose run was abandoned gives its slots back and is replaced.
//!
//! A run on a device waits for it and is no work for a CPU: such runs have threads of their own (`devices.rs`), which are driven
//! in the same way.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Batcher, Place,
    device_threads::Devices,
    slot_queue::{Line, RunId, Turn},
    task::LoadWatch,
    watchdog::{Watchdog, WatchedLoad},
    watched_thread,
};
use crate::per_thread;

/// A handle to the threads. They end at [`Compute::stop`].
#[derive(Clone)]
pub struct Compute {
    shared: Arc<Shared>,
}

struct Shared {
    /// How its threads are called.
    name: &'static str,
    /// CPUs that the process may use.
    cpus: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
    threads: Mutex<Threads>,
    thread_ended: Condvar,
    devices: Devices,
    watchdog: Watchdog,
}

#[derive(Default)]
struct Threads {
    running: BTreeMap<usize, JoinHandle<()>>,
    /// Those of them that end now.
    ended: Vec<usize>,
    next_number: usize,
}

struct Queue {
    /// Batchers to drive. There is one slot for each thread.
    line: Line<Arc<Batcher>>,
    /// Batchers to drive at a later time; the number keeps those of one instant apart.
    later: BTreeMap<(Instant, u64), Arc<Batcher>>,
    next_number: u64,
    stopping: bool,
}

/// The slots that a run holds, and its thread.
#[derive(Clone)]
pub(super) struct Hold {
    compute: Weak<Shared>,
    run: RunId,
    thread: usize,
}

impl Compute {
    /// Starts a thread for each CPU.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(cpus: usize) -> io::Result<Self> {
        Self::start_as("compute", cpus, cpus, Watchdog::start()?)
    }

    /// Starts so many threads of that name, beside those that run on so many CPUs.
    pub(super) fn start_as(name: &'static str, cpus: usize, threads: usize, watchdog: Watchdog) -> io::Result<Self> {
        let queue = Queue { line: Line::new(), later: BTreeMap::new(), next_number: 0, stopping: false };
        let (queue, changed, devices) = (Mutex::new(queue), Condvar::new(), Devices::default());
        let (running, thread_ended) = (Mutex::default(), Condvar::new());
        let shared = Shared { name, cpus, queue, changed, threads: running, thread_ended, devices, watchdog };
        let compute = Compute { shared: Arc::new(shared) };
        compute.grow(threads)?;
        Ok(compute)
    }

    /// Starts what is lacking of so many threads.
    pub(super) fn grow(&self, threads: usize) -> io::Result<()> {
        let mut running = self.shared.threads();
        while running.running.len() < threads {
            self.shared.start_thread(&mut running)?;
            self.shared.queue().line.add_slot();
        }
        Ok(())
    }

    /// The threads for versions that run on these devices.
    pub(super) fn devices(&self) -> &Devices {
        &self.shared.devices
    }

    /// What watches over runs, on all threads.
    pub(super) fn watchdog(&self) -> &Watchdog {
        &self.shared.watchdog
    }

    /// CPUs that runs may use at once.
    pub fn cpus(&self) -> usize {
        self.shared.cpus
    }

    /// Runs that were abandoned and still hold a thread, and with it a CPU.
    pub fn abandoned_runs(&self) -> usize {
        self.shared.watchdog.abandoned()
    }

    /// Watches over the runs that the present thread makes for a load, as long as the value lives.
    pub fn watch_load(&self, max_run_time: Option<Duration>, load: Arc<LoadWatch>) -> WatchedLoad {
        self.shared.watchdog.watch_load(max_run_time, load)
    }

    /// Ends the threads once they have finished what they run, and waits for that. What still waits never runs. Abandoned runs
    /// are not waited for.
    pub fn stop(&self) {
        self.shared.devices.stop();
        self.stop_threads();
        self.shared.watchdog.stop();
    }

    /// The same for these threads alone. The watchdog goes on: runs that nobody waits for any more are to end.
    pub(super) fn stop_threads(&self) {
        let mut queue = self.shared.queue();
        queue.stopping = true;
        queue.line.clear();
        queue.later.clear();
        drop(queue);
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
    pub(super) fn schedule(&self, batcher: &Arc<Batcher>) {
        let mut queue = self.shared.queue();
        if !queue.stopping {
            queue.line.push(batcher.clone(), batcher.settings.slots);
        }
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Drives the batcher at a later time.
    pub(super) fn schedule_at(&self, when: Instant, batcher: &Arc<Batcher>) {
        let mut queue = self.shared.queue();
        if !queue.stopping {
            let number = queue.next_number;
            queue.next_number += 1;
            queue.later.insert((when, number), batcher.clone());
        }
        drop(queue);
        self.shared.changed.notify_one();
    }
}

impl Hold {
    /// Gives the slots back, and has another thread take the place of this one, whose run does not end. False where there is
    /// none.
    pub(super) fn abandon(self) -> bool {
        let Some(compute) = self.compute.upgrade() else { return false };
        // Unless the run has come back by itself, and its thread has gone on.
        if !compute.queue().line.end(self.run) {
            return true;
        }
        let mut threads = compute.threads();
        // Not waited for any more.
        threads.running.remove(&self.thread);
        compute.thread_ended.notify_all();
        let replaced = compute.start_thread(&mut threads);
        drop(threads);
        if replaced.is_err() {
            compute.queue().line.remove_slot();
        }
        compute.changed.notify_all();
        replaced.is_ok()
    }
}

/// Tells that a thread ends, also where it panics.
struct Ended<'a> {
    compute: &'a Shared,
    thread: usize,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.compute.threads().ended.push(self.thread);
        self.compute.thread_ended.notify_all();
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>, threads: &mut Threads) -> io::Result<()> {
        let number = threads.next_number;
        let builder = thread::Builder::new().name(format!("{}-{number}", self.name));
        let shared = self.clone();
        let thread = builder.spawn(move || {
            // After the I/O threads, of which there are as many as CPUs.
            per_thread::enter(shared.cpus + number % shared.cpus.max(1));
            let _ended = Ended { compute: &shared, thread: number };
            shared.work(number);
            shared.watchdog.forget_this_thread();
        })?;
        threads.next_number += 1;
        threads.running.insert(number, thread);
        Ok(())
    }

    /// Drives batchers until the end, or until a run of this thread was abandoned: another has taken its place then.
    fn work(self: &Arc<Self>, number: usize) {
        let mut queue = self.queue();
        while !queue.stopping {
            let now = Instant::now();
            let next_timer = queue.move_due(now);
            match queue.line.next(now, |batcher| batcher.run_time.expected()) {
                Turn::Run(batcher, run) => {
                    // Another thread takes what is next, or watches the time.
                    if queue.line.has_work() || next_timer.is_some() {
                        self.changed.notify_one();
                    }
                    drop(queue);
                    watched_thread::holds(Hold { compute: Arc::downgrade(self), run, thread: number });
                    batcher.drive_guarded(Place::Compute);
                    drop(batcher);
                    queue = self.queue();
                    if !queue.line.end(run) {
                        return;
                    }
                }
                Turn::Wait(until) => queue = self.wait(queue, next_timer.into_iter().chain(until).min(), now),
            }
        }
    }

    /// Waits until something changes, or until that time.
    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, until: Option<Instant>, now: Instant) -> MutexGuard<'a, Queue> {
        match until {
            None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            Some(when) => {
                let timeout = when.saturating_duration_since(now);
                self.changed.wait_timeout(queue, timeout).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Puts what is due into the line and says when the next will be.
    fn move_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return Some(entry.key().0);
            }
            let batcher = entry.remove();
            let slots = batcher.settings.slots;
            self.line.push(batcher, slots);
        }
        None
    }
}
