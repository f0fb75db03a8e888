//! Who runs a session for a device.

use ort::session::RunOptions;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SendError, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use super::{
    cuda::graph_request::{alone, while_none_is_recorded},
    run_control::{unrecorded_options, with_options},
    session::SharedSession,
    value::Value,
};

/// A run: what goes in, and places for what comes out, as [`SharedSession::run_into`] takes them.
#[derive(Default)]
pub(super) struct Run {
    /// One for each input that must be given.
    pub inputs: Vec<Value>,
    /// Those of optional inputs, with their index.
    pub optional: Vec<(usize, Value)>,
    /// One for each output that is to be written to the caller's memory.
    pub places: Vec<Option<Value>>,
}

/// What a run gave.
type Outputs = ort::Result<Vec<Option<Value>>>;

/// Runs a session.
#[derive(Clone)]
pub(super) enum Runner {
    /// On whichever thread asks; runs may overlap.
    Anywhere(Arc<SharedSession>),
    /// On one thread, one run after the other.
    Own(Arc<Own>),
}

/// A thread that makes all runs of a session, since recorded runs belong to the thread that recorded them. It ends with this.
pub(super) struct Own {
    // Held for a run, so that everyone gets the answer to what he asked.
    ends: Mutex<Ends>,
    thread: Option<JoinHandle<()>>,
    /// Of a run that is neither recorded nor replayed.
    plain: Arc<RunOptions>,
    next_number: AtomicUsize,
}

/// Ways to the thread and back.
struct Ends {
    asked: Option<Sender<Asked>>,
    answers: Receiver<(Run, Outputs)>,
}

/// A run, as its thread is asked for it.
struct Asked {
    run: Run,
    options: Arc<RunOptions>,
    is_recorded: bool,
}

impl Runner {
    /// Makes a run, and gives back what it was made of: nothing uses that any more.
    pub(super) fn run(&self, run: Run) -> (Run, Outputs) {
        match self {
            Runner::Anywhere(session) => {
                let outputs = while_none_is_recorded(|| {
                    with_options(|options| session.run_into(&run.inputs, &run.optional, &run.places, options, false))
                });
                (run, outputs)
            }
            Runner::Own(own) => {
                // Those of the thread that asks, so that its run can be stopped.
                let options = unrecorded_options().unwrap_or_else(|| own.plain.clone());
                own.ask(Asked { run, options, is_recorded: false })
            }
        }
    }
}

impl Own {
    /// Starts a thread for the runs of a session.
    ///
    /// # Errors
    /// For people: the system gives no more threads, or ONNX Runtime no options.
    pub(super) fn start(session: Arc<SharedSession>) -> Result<Self, String> {
        let plain = options(-1).map_err(|error| error.to_string())?;
        let (asked, inbox) = channel();
        let (outbox, answers) = channel();
        let thread = thread::Builder::new().name("device".into()).spawn(move || work(&session, &inbox, &outbox));
        let thread = thread.map_err(|error| format!("no thread can be started for its runs: {error}"))?;
        let ends = Mutex::new(Ends { asked: Some(asked), answers });
        Ok(Own { ends, thread: Some(thread), plain, next_number: AtomicUsize::new(1) })
    }

    /// Options for runs that are to be recorded: their number stands in them.
    pub(super) fn next_options(&self) -> ort::Result<Arc<RunOptions>> {
        options(i32::try_from(self.next_number.fetch_add(1, Relaxed)).unwrap_or(-1))
    }

    /// Makes a run and records it under the number of its options.
    pub(super) fn record(&self, run: Run, options: &Arc<RunOptions>) -> (Run, Outputs) {
        self.ask(Asked { run, options: options.clone(), is_recorded: true })
    }

    /// Makes a run again that has been recorded under the number of its options, with values at the same addresses.
    pub(super) fn replay(&self, run: Run, options: &Arc<RunOptions>) -> (Run, Outputs) {
        self.ask(Asked { run, options: options.clone(), is_recorded: false })
    }

    fn ask(&self, asked: Asked) -> (Run, Outputs) {
        let gone = || Err(ort::Error::new("the thread that runs it has ended: this is a defect of the server"));
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        match ends.asked.as_ref().map(|thread| thread.send(asked)) {
            Some(Ok(())) => ends.answers.recv().unwrap_or_else(|_| (Run::default(), gone())),
            Some(Err(SendError(Asked { run, .. }))) => (run, gone()),
            None => (Run::default(), gone()),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let ends = self.ends.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(ends.asked.take());
        // What it holds of the session is gone before whoever drops this goes on.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Options of a run that is recorded under a number; of one that is not with -1.
pub(super) fn options(number: i32) -> ort::Result<Arc<RunOptions>> {
    let mut options = RunOptions::new()?;
    options.set("gpu_graph_id", number.to_string())?;
    Ok(options.into())
}

fn work(session: &SharedSession, asked: &Receiver<Asked>, answers: &Sender<(Run, Outputs)>) {
    for Asked { run, options, is_recorded } in asked {
        let go = || session.run_into(&run.inputs, &run.optional, &run.places, Some(&options), false);
        let outputs = if is_recorded { alone(go) } else { while_none_is_recorded(go) };
        if answers.send((run, outputs)).is_err() {
            return;
        }
    }
}
