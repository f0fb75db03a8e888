//! Decodes large requests and encodes large answers off the I/O threads.
//!
//! A JSON body of 20 MB takes a CPU for 100 ms and more. On an I/O thread every other connection of that thread would wait for
//! it. The pool has few threads, of lower priority, so that several such clients can't take the CPUs from those who send little.

mod queue;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};
use tokio::{sync::oneshot, time::timeout_at};

use crate::{
    error::{Code, Error, Result},
    host::yield_to_small_requests,
    metrics::{CodecMetrics, CodecOutcome},
};
use queue::{JobQueue, Size};

/// Bytes of text that are decoded or encoded on the I/O thread at most: about a millisecond. A hand-over to the pool costs two
/// wake-ups, some 20 us.
pub(in crate::api) const MAX_INLINE_BYTES: usize = 128 << 10;

/// Bytes of raw elements that are checked in the time that a byte of text takes to parse.
pub(in crate::api) const CHECKED_PER_PARSED: usize = 8;

/// True if the header of raw elements may name a datatype whose elements are checked one by one.
pub(in crate::api) fn has_checked_elements(head: &[u8]) -> bool {
    // With an escape in JSON, any name may stand there.
    let names = |name: &[u8]| head.windows(name.len()).any(|part| part == name);
    head.contains(&b'\\') || names(b"BYTES") || names(b"BOOL")
}

/// CPUs of the process for each thread of the pool, which has two at least, and for each large job that may run at once.
const CPUS_PER_THREAD: usize = 2;
const CPUS_PER_LARGE_JOB: usize = 4;

type CodecJob = Box<dyn FnOnce() + Send>;

/// The threads of the pool. They end when the pool is dropped.
pub struct CodecPool {
    shared: Arc<PoolShared>,
    metrics: CodecMetrics,
}

struct PoolShared {
    queue: Mutex<PoolState>,
    /// A job was pushed, a large job has ended, or the pool was dropped.
    changed: Condvar,
}

struct PoolState {
    jobs: JobQueue<CodecJob>,
    closed: bool,
}

impl CodecPool {
    /// Starts the threads for a process that may use so many CPUs.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(cpus: usize, metrics: CodecMetrics) -> io::Result<Arc<Self>> {
        let threads = (cpus / CPUS_PER_THREAD).max(2);
        // Some threads take no large job, so that jobs of a millisecond never wait for those of a second.
        let large = (cpus / CPUS_PER_LARGE_JOB).clamp(1, threads - 1);
        let state = PoolState { jobs: JobQueue::new(large), closed: false };
        let shared = Arc::new(PoolShared { queue: Mutex::new(state), changed: Condvar::new() });
        // Made first, so that a thread that can't be started ends those that could.
        let pool = Arc::new(CodecPool { shared: shared.clone(), metrics });
        for number in 0..threads {
            let shared = shared.clone();
            thread::Builder::new().name(format!("codec-{number}")).spawn(move || {
                yield_to_small_requests();
                shared.work();
            })?;
        }
        Ok(pool)
    }

    /// Does `work`, which takes as long as so many bytes of text take, on a thread of the pool. Work whose future is dropped or
    /// whose deadline passes before it has begun is left out.
    ///
    /// # Errors
    /// The deadline passed first, or the work panicked.
    pub(in crate::api) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.run_while_wanted(bytes, deadline, |_| work()).await
    }

    /// As [`Self::run`], for work that asks now and then whether its result is still wanted, and gives up where it is not.
    ///
    /// # Errors
    /// As those of `run`.
    pub(in crate::api) async fn run_while_wanted<T: Send + 'static>(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, done) = oneshot::channel();
        let metrics = self.metrics.clone();
        let work = move || {
            let is_wanted = || !sender.is_closed();
            let result = is_wanted().then(|| work(&is_wanted));
            let is_sent = result.is_some_and(|result| sender.send(result).is_ok());
            metrics.ended(if is_sent { CodecOutcome::Done } else { CodecOutcome::Cancelled });
        };
        self.shared.push(bytes, Box::new(work));
        let done = match deadline {
            None => done.await,
            Some(deadline) => timeout_at(deadline.into(), done).await.map_err(|_| {
                Error::new(
                    Code::DeadlineExceeded,
                    format!("the request's deadline passed before its {bytes} bytes were decoded"),
                )
            })?,
        };
        done.map_err(|_| Error::internal("decoding or encoding panicked; see the server's log"))
    }
}

impl Drop for CodecPool {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

impl PoolShared {
    fn state(&self) -> MutexGuard<'_, PoolState> {
        // Nothing that may panic happens under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: usize, work: CodecJob) {
        self.state().jobs.push(Instant::now(), bytes, work);
        // All: one that only waits for a large job may not be the one for this.
        self.changed.notify_all();
    }

    /// Does jobs until the pool is dropped.
    fn work(&self) {
        while let Some((size, work)) = self.next() {
            // The hook has logged the panic. Whoever waits sees the sender dropped.
            let _ = catch_unwind(AssertUnwindSafe(work));
            if size == Size::Large {
                self.state().jobs.large_ended();
                self.changed.notify_all();
            }
        }
    }

    fn next(&self) -> Option<(Size, CodecJob)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};
    use tokio::task::yield_now;

    const LARGE: usize = 100 << 20;

    #[tokio::test]
    async fn small_jobs_pass_large_ones() {
        let pool = CodecPool::start(1, CodecMetrics::default()).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let large = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(LARGE, None, move || held.recv().is_ok()).await }
        });
        yield_now().await;
        // It would wait for ever behind the large one.
        assert_eq!(pool.run(1, None, || 7).await, Ok(7));
        release.send(()).unwrap();
        assert_eq!(large.await.unwrap(), Ok(true));
    }

    #[tokio::test]
    async fn cancelled_and_expired_jobs_never_run() {
        let pool = CodecPool::start(1, CodecMetrics::default()).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        let running = tokio::spawn({
            let pool = pool.clone();
            let job = move || begin.send(()).is_ok() && held.recv().is_ok();
            async move { pool.run(LARGE, None, job).await }
        });
        yield_now().await;
        // A job with a deadline would go before it.
        begun.recv().unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        let expired = pool.run(LARGE, Some(soon), {
            let report = report.clone();
            move || report.send("expired")
        });
        assert_eq!(expired.await.unwrap_err().code(), Code::DeadlineExceeded);
        release.send(()).unwrap();
        running.await.unwrap().unwrap();
        pool.run(LARGE, None, move || report.send("waited for")).await.unwrap().unwrap();
        assert_eq!(reports.try_iter().collect::<Vec<_>>(), ["waited for"]);
    }

    #[tokio::test]
    async fn running_job_observes_its_cancellation() {
        let pool = CodecPool::start(1, CodecMetrics::default()).unwrap();
        let (report, reports) = mpsc::channel();
        let running = tokio::spawn({
            let pool = pool.clone();
            async move {
                let work = move |is_wanted: &dyn Fn() -> bool| {
                    report.send(is_wanted()).unwrap();
                    while is_wanted() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    report.send(is_wanted()).unwrap();
                };
                pool.run_while_wanted(LARGE, None, work).await
            }
        });
        yield_now().await;
        assert_eq!(reports.recv_timeout(Duration::from_secs(10)), Ok(true));
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert_eq!(reports.recv_timeout(Duration::from_secs(10)), Ok(false));
    }

    #[tokio::test]
    async fn panic_fails_its_job_alone() {
        let pool = CodecPool::start(1, CodecMetrics::default()).unwrap();
        let failed = pool.run(LARGE, None, || panic!("a test panics")).await;
        assert_eq!(failed.unwrap_err().code(), Code::Internal);
        assert_eq!(pool.run(LARGE, None, || 7).await, Ok(7));
    }
}
