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
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::batcher::{begin_turn, take_turns};

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
    /// Dropped, it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl IoThreads {
    /// Starts so many, at least one.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let threads = (0..count.max(1)).map(IoThread::start).collect::<io::Result<_>>()?;
        Ok(IoThreads { shared: Arc::new(Shared { threads, next: AtomicUsize::new(0) }) })
    }

    /// The thread for the next connection: they take turns.
    pub(super) fn next(&self) -> &Handle {
        let turn = self.shared.next.fetch_add(1, Relaxed);
        &self.shared.threads[turn % self.shared.threads.len()].runtime
    }
}

impl IoThread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().on_thread_unpark(begin_turn).build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(take_turns(number));
        thread::Builder::new().name(format!("io-{number}")).spawn(move || {
            // Either way the sender is gone.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(IoThread { runtime: handle, _stop: stop })
    }
}
