//! Waits for worker processes to end, on one thread, so that the death of an idle worker is noticed at once.

use rustix::event::{PollFd, PollFlags, poll};
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

/// The function to call at a death. It must not block.
pub(super) type Notify = Arc<dyn Fn() + Send + Sync>;

/// The thread's list of workers.
#[derive(Clone)]
struct DeathWatch {
    shared: Arc<DeathWatchShared>,
}

struct DeathWatchShared {
    workers: Mutex<Workers>,
    /// A byte here has the thread read the list again.
    wake: UnixStream,
}

#[derive(Default)]
struct Workers {
    watched: Vec<WatchedWorker>,
    next_id: u64,
}

struct WatchedWorker {
    id: u64,
    /// The system reports a hang-up here once the worker has closed its end.
    socket: Arc<UnixStream>,
    notify: Notify,
}

/// A worker that is watched until this is dropped.
pub(super) struct Registration {
    watch: DeathWatch,
    id: u64,
}

/// Has a function called once the process at the other end of a socket ends. `None`: no thread can be had, and the death is found
/// by the next use of the socket.
pub(super) fn watch(socket: &UnixStream, notify: Notify) -> Option<Registration> {
    static WATCH: OnceLock<Option<DeathWatch>> = OnceLock::new();
    let start = || {
        let started = DeathWatch::start();
        if let Err(error) = &started {
            tracing::warn!(%error, "idle worker processes not watched, next request notices their deaths");
        }
        started.ok()
    };
    WATCH.get_or_init(start).as_ref()?.add(socket, notify).ok()
}

impl DeathWatch {
    fn start() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let watch = DeathWatch { shared: Arc::new(DeathWatchShared { workers: Mutex::default(), wake }) };
        let watching = watch.clone();
        thread::Builder::new().name("death-watch".into()).spawn(move || watching.run(&woken))?;
        Ok(watch)
    }

    fn add(&self, socket: &UnixStream, notify: Notify) -> io::Result<Registration> {
        let socket = Arc::new(socket.try_clone()?);
        let mut workers = self.workers();
        let id = workers.next_id;
        workers.next_id += 1;
        workers.watched.push(WatchedWorker { id, socket, notify });
        drop(workers);
        self.wake();
        Ok(Registration { watch: self.clone(), id })
    }

    fn run(&self, mut woken: &UnixStream) {
        loop {
            let sockets: Vec<(u64, Arc<UnixStream>)> =
                self.workers().watched.iter().map(|watched| (watched.id, watched.socket.clone())).collect();
            // Without flags the system reports hang-ups alone, and nothing of what a worker writes.
            let mut polled = vec![PollFd::new(&woken, PollFlags::IN)];
            polled.extend(sockets.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::empty())));
            if let Err(error) = poll(&mut polled, None)
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "idle worker processes no longer watched, next request notices their deaths");
                return;
            }
            let ended = polled[1..].iter().zip(&sockets).filter(|(polled, _)| !polled.revents().is_empty());
            let ended: Vec<u64> = ended.map(|(_, (id, _))| *id).collect();
            // The bytes only wake the thread: they carry nothing.
            while woken.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
            for id in ended {
                if let Some(watched) = self.remove(id) {
                    (watched.notify)();
                }
            }
        }
    }

    fn remove(&self, id: u64) -> Option<WatchedWorker> {
        let mut workers = self.workers();
        let index = workers.watched.iter().position(|watched| watched.id == id)?;
        Some(workers.watched.swap_remove(index))
    }

    fn wake(&self) {
        // Where the buffer is full, enough bytes wait.
        let _ = (&self.shared.wake).write(&[0]);
    }

    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.watch.remove(self.id).is_some() {
            // The thread lets go of the socket.
            self.watch.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    #[test]
    fn hang_up_is_notified_once_and_writes_are_not() {
        let (sender, notified) = mpsc::channel();
        let watched = |name: &'static str| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let sender = sender.clone();
            let registration = watch(&ours, Arc::new(move || sender.send(name).unwrap())).unwrap();
            (ours, theirs, registration)
        };
        let (first, second, third) = (watched("first"), watched("second"), watched("third"));
        (&first.1).write_all(b"a line\n").unwrap();
        drop(second.2);
        drop(second.1);
        drop(third.1);
        assert_eq!(notified.recv_timeout(Duration::from_secs(10)), Ok("third"));
        drop(first.1);
        assert_eq!(notified.recv_timeout(Duration::from_secs(10)), Ok("first"));
        assert!(notified.recv_timeout(Duration::from_millis(50)).is_err());
    }
}
