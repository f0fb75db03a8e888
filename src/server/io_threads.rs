//! The threads that connections live on: one runtime of its own per CPU.
//!
//! A connection and all its streams stay on one thread. Nothing is handed to another thread, or stolen by one, between reading
//! a request and queueing it; and requests that came together are queued together.

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

/// Threads for blocking calls of each I/O thread at most, as for freeing large bodies.
const BLOCKING_THREADS: usize = 4;

/// How often it is looked whether a thread is late.
const LOOK: Duration = Duration::from_millis(100);

/// The threads. They end when the last handle to them is gone.
#[derive(Clone)]
pub(super) struct IoThreads {
    shared: Arc<Shared>,
}

struct Shared {
    threads: Vec<IoThread>,
    next: AtomicUsize,
}

struct IoThread {
    runtime: Handle,
    /// Dropped, it ends the thread, if that was started here.
    _stop: Option<oneshot::Sender<()>>,
}

impl IoThreads {
    /// Starts so many, at least one, which look for so long for what comes next before they rest.
    pub(super) fn start(count: usize, look: Duration, metrics: &ServerMetrics) -> io::Result<Self> {
        let start = |number| IoThread::start(number, look, metrics.clone());
        let threads = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(IoThreads { shared: Arc::new(Shared { threads, next: AtomicUsize::new(0) }) })
    }

    /// The thread of this runtime alone.
    pub(super) fn on(runtime: Handle) -> Self {
        let threads = vec![IoThread { runtime, _stop: None }];
        IoThreads { shared: Arc::new(Shared { threads, next: AtomicUsize::new(0) }) }
    }

    /// The threads' runtimes. They don't keep the threads.
    pub(super) fn runtimes(&self) -> Vec<Handle> {
        self.shared.threads.iter().map(|thread| thread.runtime.clone()).collect()
    }

    /// The thread for the next connection: they take turns.
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
            // Either way the sender is gone.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(IoThread { runtime: handle, _stop: Some(stop) })
    }
}

/// Tells how late the thread that polls this comes to what is due, which is how long its connections are held up. What was
/// due meanwhile is told too, so that a thread that was held up for a second does not count as if it had been late once.
async fn watch_delay(metrics: ServerMetrics) {
    let mut looks = interval(LOOK);
    loop {
        let due = looks.tick().await.into_std();
        clock::coarse::update();
        metrics.io_delayed(Instant::now().saturating_duration_since(due));
    }
}
