//! I/O threads, which serve the connections: one per CPU, each with a runtime of its own.
//!
//! A connection and all its streams stay on one thread. Nothing is handed to another thread, or stolen by one, between reading a
//! request and queueing it. Requests that arrived together are queued together.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::interval,
};

use super::blocking;
use crate::{
    batcher::{begin_turn, busy_poll, run_inline},
    clock,
    metrics::ServerMetrics,
};

/// Threads for blocking calls of each I/O thread at most, for example to free large bodies.
const BLOCKING_THREADS: usize = 4;

/// Interval at which the delay of a thread is measured.
const LOOK: Duration = Duration::from_millis(100);

/// The threads. They end when the last handle to them is gone.
#[derive(Clone)]
pub(super) struct IoThreads {
    shared: Arc<RoundRobin>,
}

struct RoundRobin {
    threads: Vec<IoThread>,
    next: AtomicUsize,
}

struct IoThread {
    runtime: Handle,
    /// Dropping it ends the thread, if the thread was started here.
    _stop: Option<oneshot::Sender<()>>,
}

impl IoThreads {
    /// Starts `count` threads, at least one. Each polls for the next event for the time `look` before it sleeps.
    pub(super) fn start(count: usize, look: Duration, metrics: &ServerMetrics) -> io::Result<Self> {
        let start = |number| IoThread::start(number, look, metrics.clone());
        let threads = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(IoThreads { shared: Arc::new(RoundRobin { threads, next: AtomicUsize::new(0) }) })
    }

    /// The thread of this runtime alone.
    pub(super) fn on(runtime: Handle) -> Self {
        let threads = vec![IoThread { runtime, _stop: None }];
        IoThreads { shared: Arc::new(RoundRobin { threads, next: AtomicUsize::new(0) }) }
    }

    /// Runtimes of the threads. The handles don't keep the threads alive.
    pub(super) fn runtimes(&self) -> Vec<Handle> {
        self.shared.threads.iter().map(|thread| thread.runtime.clone()).collect()
    }

    /// The thread for the next connection, by round robin.
    pub(super) fn next(&self) -> &Handle {
        let turn = self.shared.next.fetch_add(1, Relaxed);
        &self.shared.threads[turn % self.shared.threads.len()].runtime
    }
}

impl IoThread {
    fn start(number: usize, look: Duration, metrics: ServerMetrics) -> io::Result<Self> {
        let runtime = blocking::build(Builder::new_current_thread().on_thread_unpark(begin_turn), BLOCKING_THREADS)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(run_inline(number));
        runtime.spawn(watch_delay(metrics));
        if !look.is_zero() {
            runtime.spawn(busy_poll(look));
        }
        thread::Builder::new().name(format!("io-{number}")).spawn(move || {
            // The sender was dropped, whatever the result is.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(IoThread { runtime: handle, _stop: Some(stop) })
    }
}

/// Records the delay of the thread that polls this, which is the delay of its connections. Ticks that were missed meanwhile are
/// recorded too, so that a delay of a second does not count as one late tick.
async fn watch_delay(metrics: ServerMetrics) {
    let mut looks = interval(LOOK);
    loop {
        let due = looks.tick().await.into_std();
        clock::coarse::update();
        metrics.io_delayed(Instant::now().saturating_duration_since(due));
    }
}
