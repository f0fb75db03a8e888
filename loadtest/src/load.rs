//! The load: threads with clients or arrivals, and what they count.

mod arrivals;
mod timer;
mod worker;

pub(crate) use arrivals::Spacing;

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{message::Message, tally::Tally, target::Target};

/// Requests that are sent, whatever the rate.
#[derive(Debug)]
pub(crate) struct Mix {
    /// The targets, with the requests for each.
    pub parts: Vec<Part>,
    /// Time that an answer may take.
    pub timeout: Duration,
    /// Latency within which an answer counts as good.
    pub limit: Option<Duration>,
    /// Seed of everything random: the choice of targets and messages, and arrivals.
    pub seed: u64,
}

/// A target and what it is asked.
#[derive(Debug)]
pub(crate) struct Part {
    pub target: Target,
    pub messages: Vec<Message>,
}

/// Level of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Level {
    /// So many clients, each of which sends its next request when it has the answer to the last; they begin one after the
    /// other, from so many to so many.
    Closed { from: usize, to: usize },
    /// Requests that are due at a rate per second, whatever becomes of the earlier ones.
    Open { from: f64, to: f64, spacing: Spacing },
}

/// Settings for all levels of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub threads: usize,
    /// Connections to each target, of all threads.
    pub connections: usize,
    pub warm_up: Duration,
    pub duration: Duration,
    /// Requests under way at once in an open loop, of all threads; requests that are due beyond are counted as not sent.
    pub most_open: usize,
}

/// The time that is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// The load begins.
    pub begin: Instant,
    /// The measured part begins.
    pub from: Instant,
    /// It ends, and so does the load.
    pub to: Instant,
}

/// A load that runs.
pub(crate) struct Running {
    /// When it is measured.
    pub window: Window,
    tallies: Vec<Arc<Mutex<Tally>>>,
    threads: Vec<thread::JoinHandle<Result<(), String>>>,
}

impl Running {
    /// Opens connections and begins.
    ///
    /// # Errors
    /// For people: a server can't be reached, or a thread can't be started.
    pub(crate) fn start(mix: &Arc<Mix>, terms: Terms, level: Level) -> Result<Self, String> {
        let (connected, all_connected) = mpsc::channel();
        let mut running = Running {
            window: Window { begin: Instant::now(), from: Instant::now(), to: Instant::now() },
            tallies: Vec::new(),
            threads: Vec::new(),
        };
        let mut begins = Vec::new();
        for number in 0..terms.threads {
            let (begin, window) = mpsc::channel();
            let tally = Arc::new(Mutex::new(Tally::default()));
            let worker = worker::Worker { mix: mix.clone(), terms, level, number, tally: tally.clone() };
            let connected = connected.clone();
            let thread =
                thread::Builder::new().name(format!("load-{number}")).spawn(move || worker.run(&connected, &window));
            running.threads.push(thread.map_err(|error| format!("a thread can't be started: {error}"))?);
            running.tallies.push(tally);
            begins.push(begin);
        }
        drop(connected);
        for _ in 0..terms.threads {
            all_connected.recv().map_err(|_| "a thread ended before it began".to_owned())??;
        }
        let begin = Instant::now();
        let from = begin + terms.warm_up;
        running.window = Window { begin, from, to: from + terms.duration };
        for begin in begins {
            // A thread that has gone gives its reason when it is joined.
            let _ = begin.send(running.window);
        }
        Ok(running)
    }

    /// Takes the counts since the last call.
    pub(crate) fn take(&self) -> Tally {
        let mut sum = Tally::default();
        for tally in &self.tallies {
            sum.add(&std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        sum
    }

    /// Waits for the last answers, and gives the counts since the last call of `take`.
    pub(crate) fn finish(mut self) -> Result<Tally, String> {
        for thread in std::mem::take(&mut self.threads) {
            thread.join().map_err(|_| "a thread of the load panicked".to_owned())??;
        }
        Ok(self.take())
    }
}
