//! Runs of a device's session: on any thread, or all on the session's own.

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
    cuda::graph_capture::{NO_GRAPH, capture_alone, graph_options, while_no_graph_is_captured},
    run_control::{no_graph_options, with_options},
    session::SharedSession,
    value::Value,
};

/// A run: its inputs, and memory for its outputs, as [`SharedSession::run_into`] takes them.
#[derive(Default)]
pub(super) struct SessionRun {
    /// One for each input that must be given.
    pub inputs: Vec<Value>,
    /// Values of optional inputs, with their index.
    pub optional: Vec<(usize, Value)>,
    /// One for each output that is to be written to the caller's memory.
    pub places: Vec<Option<Value>>,
}

/// Outputs of a run.
type Outputs = ort::Result<Vec<Option<Value>>>;

/// Runs a session.
#[derive(Clone)]
pub(super) enum Runner {
    /// On the calling thread; runs may overlap.
    AnyThread(Arc<SharedSession>),
    /// On one thread, one run after the other.
    OneThread(Arc<SessionThread>),
}

/// A thread that makes all runs of a session, since CUDA graphs belong to the thread that captured them. It ends with this.
pub(super) struct SessionThread {
    // Held for a run, so that every caller gets the outputs of its own run.
    channels: Mutex<Channels>,
    thread: Option<JoinHandle<()>>,
    /// Options of a run that is neither captured nor replayed.
    no_graph: Arc<RunOptions>,
    next_number: AtomicUsize,
}

/// Channels to the thread and back.
struct Channels {
    requests: Option<Sender<RunRequest>>,
    results: Receiver<(SessionRun, Outputs)>,
}

/// A run that the thread is to make.
struct RunRequest {
    run: SessionRun,
    options: Arc<RunOptions>,
    is_captured: bool,
}

impl Runner {
    /// Makes a run, and gives back what it was made of: nothing uses that any more.
    pub(super) fn run(&self, run: SessionRun) -> (SessionRun, Outputs) {
        match self {
            Runner::AnyThread(session) => {
                let outputs = while_no_graph_is_captured(|| {
                    with_options(|options| session.run_into(&run.inputs, &run.optional, &run.places, options, false))
                });
                (run, outputs)
            }
            Runner::OneThread(thread) => {
                // The options of the calling thread, so that its run can be stopped.
                let options = no_graph_options().unwrap_or_else(|| thread.no_graph.clone());
                thread.request(RunRequest { run, options, is_captured: false })
            }
        }
    }
}

impl SessionThread {
    /// Starts a thread for the runs of a session.
    ///
    /// # Errors
    /// For people: the system gives no more threads, or ONNX Runtime no options.
    pub(super) fn start(session: Arc<SharedSession>) -> Result<Self, String> {
        let no_graph = graph_options(NO_GRAPH).map_err(|error| error.to_string())?;
        let (requests, inbox) = channel();
        let (outbox, results) = channel();
        let thread = thread::Builder::new().name("device".into()).spawn(move || work(&session, &inbox, &outbox));
        let thread = thread.map_err(|error| format!("no thread can be started for its runs: {error}"))?;
        let channels = Mutex::new(Channels { requests: Some(requests), results });
        Ok(SessionThread { channels, thread: Some(thread), no_graph, next_number: AtomicUsize::new(1) })
    }

    /// Options for a run that is to be captured, with the number of a new graph.
    pub(super) fn next_graph_options(&self) -> ort::Result<Arc<RunOptions>> {
        graph_options(i32::try_from(self.next_number.fetch_add(1, Relaxed)).unwrap_or(NO_GRAPH))
    }

    /// Makes a run and captures it as a graph of the number in its options.
    pub(super) fn capture(&self, run: SessionRun, options: &Arc<RunOptions>) -> (SessionRun, Outputs) {
        self.request(RunRequest { run, options: options.clone(), is_captured: true })
    }

    /// Replays the graph of the number in the options, with values at the same addresses.
    pub(super) fn replay(&self, run: SessionRun, options: &Arc<RunOptions>) -> (SessionRun, Outputs) {
        self.request(RunRequest { run, options: options.clone(), is_captured: false })
    }

    fn request(&self, request: RunRequest) -> (SessionRun, Outputs) {
        let gone = || Err(ort::Error::new("the thread that runs it has ended: this is a defect of the server"));
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        match channels.requests.as_ref().map(|thread| thread.send(request)) {
            Some(Ok(())) => channels.results.recv().unwrap_or_else(|_| (SessionRun::default(), gone())),
            Some(Err(SendError(RunRequest { run, .. }))) => (run, gone()),
            None => (SessionRun::default(), gone()),
        }
    }
}

impl Drop for SessionThread {
    fn drop(&mut self) {
        let channels = self.channels.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(channels.requests.take());
        // Its reference to the session is gone before the caller goes on.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn work(session: &SharedSession, requests: &Receiver<RunRequest>, results: &Sender<(SessionRun, Outputs)>) {
    for RunRequest { run, options, is_captured } in requests {
        let go = || session.run_into(&run.inputs, &run.optional, &run.places, Some(&options), false);
        let outputs = if is_captured { capture_alone(go) } else { while_no_graph_is_captured(go) };
        if results.send((run, outputs)).is_err() {
            return;
        }
    }
}
