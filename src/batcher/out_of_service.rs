//! Takes a batcher out of service whose version broke while it served: its requests get UNAVAILABLE, and the registry is notified.

use std::time::Instant;

use super::{job::Job, queue::Waiting, version_batcher::Batcher};
use crate::{
    engine::Model,
    error::{Code, Error, Lost},
};

impl<M: Model> Batcher<M> {
    /// Sets the function that is called once the batcher is lost; at once if it is already. Only the first call has an effect.
    /// It may be called twice, and on any thread: it must not block.
    pub fn on_lost(&self, notify: impl Fn(&Lost) + Send + Sync + 'static) {
        self.loss.on_set(notify);
    }

    /// Takes the batcher out of service: requests that wait, and those that still come, get UNAVAILABLE with the reason. Runs
    /// that are going on end as they do. Only the first call has an effect.
    pub fn lose(&self, lost: Lost) {
        if !self.loss.set(lost) {
            return;
        }
        for lane in self.inline_lanes.iter().chain([&self.compute_lane]) {
            // Pushes check for the loss under this lock: none comes after this.
            let mut contents = lane.lock();
            let waiting = contents.queue.drain();
            lane.update_gauge(&contents);
            drop(contents);
            self.refuse_lost(waiting);
        }
        self.loss.call();
    }

    /// The error of requests that can't be served any more, if that is so.
    pub(super) fn lost(&self) -> Option<Error> {
        let lost = self.loss.get()?;
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
