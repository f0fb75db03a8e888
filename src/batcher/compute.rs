//! The threads that runs happen on, shared by all versions.
//!
//! There are as many threads as CPUs that the process may use. A run takes as many slots as it uses threads, of as many as
//! there are CPUs, so that what runs at once never exceeds them; versions wait in line, and an idle version costs no thread.
//!
//! A run on a device waits for it and is no work for a CPU: such runs have threads of their own (`devices.rs`), which are driven
//! in the same way.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{Batcher, Place, devices::Devices};
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
    line: Mutex<Line>,
    changed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    devices: Devices,
}

struct Line {
    /// Batchers to drive, first come, first served. One that needs more slots than are free holds up those behind it:
    /// otherwise small ones could keep it waiting for ever.
    ready: VecDeque<Arc<Batcher>>,
    /// Batchers to drive at a later time; the number keeps those of one instant apart.
    later: BTreeMap<(Instant, u64), Arc<Batcher>>,
    next_number: u64,
    /// Of which there is one for each thread.
    slots: usize,
    free: usize,
    stopping: bool,
}

impl Compute {
    /// Starts a thread for each CPU.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(cpus: usize) -> io::Result<Self> {
        Self::start_as("compute", cpus, cpus)
    }

    /// Starts so many threads of that name, beside those that run on so many CPUs.
    pub(super) fn start_as(name: &'static str, cpus: usize, threads: usize) -> io::Result<Self> {
        let line =
            Line { ready: VecDeque::new(), later: BTreeMap::new(), next_number: 0, slots: 0, free: 0, stopping: false };
        let (line, changed) = (Mutex::new(line), Condvar::new());
        let devices = Devices::default();
        let shared = Arc::new(Shared { name, cpus, line, changed, threads: Mutex::default(), devices });
        let compute = Compute { shared };
        compute.grow(threads)?;
        Ok(compute)
    }

    /// Starts what is lacking of so many threads.
    pub(super) fn grow(&self, threads: usize) -> io::Result<()> {
        let (shared, mut running) = (&self.shared, self.threads());
        for number in running.len()..threads {
            let builder = thread::Builder::new().name(format!("{}-{number}", shared.name));
            let shared = self.shared.clone();
            running.push(builder.spawn(move || {
                // After the I/O threads, of which there are as many as CPUs.
                per_thread::enter(shared.cpus + number % shared.cpus.max(1));
                shared.work();
            })?);
            let mut line = self.shared.line();
            line.slots += 1;
            line.free += 1;
        }
        Ok(())
    }

    /// The threads for versions that run on these devices.
    pub(super) fn devices(&self) -> &Devices {
        &self.shared.devices
    }

    /// CPUs that runs may use at once.
    pub fn cpus(&self) -> usize {
        self.shared.cpus
    }

    /// Ends the threads once they have finished what they run, and waits for that. What still waits never runs.
    pub fn stop(&self) {
        self.shared.devices.stop();
        let mut line = self.shared.line();
        line.stopping = true;
        line.ready.clear();
        line.later.clear();
        drop(line);
        self.shared.changed.notify_all();
        for thread in self.threads().drain(..) {
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives the batcher as soon as its turn comes.
    pub(super) fn schedule(&self, batcher: &Arc<Batcher>) {
        let mut line = self.shared.line();
        if !line.stopping {
            line.ready.push_back(batcher.clone());
        }
        drop(line);
        self.shared.changed.notify_one();
    }

    /// Drives the batcher at a later time.
    pub(super) fn schedule_at(&self, when: Instant, batcher: &Arc<Batcher>) {
        let mut line = self.shared.line();
        if !line.stopping {
            let number = line.next_number;
            line.next_number += 1;
            line.later.insert((when, number), batcher.clone());
        }
        drop(line);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn work(&self) {
        let mut line = self.line();
        while !line.stopping {
            let next_timer = line.move_due(Instant::now());
            if let Some((batcher, slots)) = line.next() {
                // Another thread takes what is next, or watches the time.
                if (!line.ready.is_empty() && line.free > 0) || next_timer.is_some() {
                    self.changed.notify_one();
                }
                drop(line);
                batcher.drive_guarded(Place::Compute);
                drop(batcher);
                line = self.line();
                line.free += slots;
                continue;
            }
            line = match next_timer {
                None => self.changed.wait(line).unwrap_or_else(PoisonError::into_inner),
                Some(when) => {
                    let timeout = when.saturating_duration_since(Instant::now());
                    self.changed.wait_timeout(line, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Puts what is due into the line and says when the next will be.
    fn move_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return Some(entry.key().0);
            }
            self.ready.push_back(entry.remove());
        }
        None
    }

    /// The first in line with the slots that it takes, if so many are free.
    fn next(&mut self) -> Option<(Arc<Batcher>, usize)> {
        let slots = self.ready.front()?.settings.slots.clamp(1, self.slots.max(1));
        if slots > self.free {
            return None;
        }
        self.free -= slots;
        self.ready.pop_front().map(|batcher| (batcher, slots))
    }
}
