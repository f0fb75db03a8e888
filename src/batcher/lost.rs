//! The end of a batcher whose version broke while it served: its requests get UNAVAILABLE, and the registry is notified.

use std::{sync::OnceLock, time::Instant};

use super::{Batcher, Job, Waiting};
use crate::error::{Code, Error, Lost};

/// Whether a batcher is lost, and the function to call then.
#[derive(Default)]
pub(super) struct Loss {
    lost: OnceLock<Lost>,
    notify: OnceLock<Notify>,
}

type Notify = Box<dyn Fn(&Lost) + Send + Sync>;

impl Batcher {
    /// Sets the function that is called once the batcher is lost; at once if it is already. Only the first call has an effect.
    /// It may be called twice, and on any thread: it must not block.
    pub fn on_lost(&self, notify: impl Fn(&Lost) + Send + Sync + 'static) {
        if self.loss.notify.set(Box::new(notify)).is_ok()
            && let (Some(lost), Some(notify)) = (self.loss.lost.get(), self.loss.notify.get())
        {
            notify(lost);
        }
    }

    /// Takes the batcher out of service: requests that wait, and those that still come, get UNAVAILABLE with the reason. Runs
    /// that are going on end as they do. Only the first call has an effect.
    pub fn lose(&self, lost: Lost) {
        if self.loss.lost.set(lost).is_err() {
            return;
        }
        for lane in self.in_place.iter().chain([&self.shared]) {
            // Pushes look for the loss under this lock: none comes after this.
            let mut state = lane.state();
            let waiting = state.queue.drain();
            lane.tell(&state);
            drop(state);
            self.refuse_lost(waiting);
        }
        if let (Some(lost), Some(notify)) = (self.loss.lost.get(), self.loss.notify.get()) {
            notify(lost);
        }
    }

    /// Why requests can't be served any more, if so.
    pub(super) fn lost(&self) -> Option<Error> {
        let lost = self.loss.lost.get()?;
        Some(Error::new(Code::Unavailable, format!("{} is out of service: {}", self.label, lost.why)))
    }

    fn refuse_lost(&self, waiting: Vec<Waiting<Job>>) {
        let now = Instant::now();
        for waiting in waiting {
            let error = if waiting.is_late(now) { None } else { self.lost() };
            waiting.job.refuse(error.unwrap_or_else(|| self.too_late()));
        }
    }
}
