//! Runtimes whose blocking calls work even if the system has no thread left.
//!
//! A runtime starts a thread for a blocking call, and panics if it can't start the first. So each runtime here starts one at its
//! beginning. It keeps all threads that it starts: later calls wait for one of them.

use std::{io, thread, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// Longer than any process lives.
const KEEP_ALIVE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Builds the runtime of a thread, with its first thread for blocking calls, and `max_threads` of those at most. They are kept.
pub(super) fn build(builder: &mut Builder, max_threads: usize) -> io::Result<Runtime> {
    let runtime = builder.enable_all().max_blocking_threads(max_threads).thread_keep_alive(KEEP_ALIVE).build()?;
    // The runtime would panic where this fails.
    let _ = thread::Builder::new().spawn(|| ())?.join();
    runtime.spawn_blocking(|| ());
    Ok(runtime)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    #[test]
    fn blocking_thread_is_there_from_the_beginning() {
        const NAME: &str = "blocking-test";
        let _runtime = build(Builder::new_current_thread().thread_name(NAME), 4).unwrap();
        let is_it = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|it| it.trim() == NAME);
        let is_there = || fs::read_dir("/proc/self/task").unwrap().flatten().any(is_it);
        // A thread gives itself its name.
        let until = Instant::now() + Duration::from_secs(60);
        while !is_there() {
            assert!(Instant::now() < until, "no thread was started");
            thread::yield_now();
        }
    }
}
