//! Drives lanes: takes a batch and an idle instance, runs the batch on the instance, and schedules what is left.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::{
    inline,
    queue::NextStep,
    schedulable::Schedulable,
    sync::{Arc, thread},
    version_batcher::{Batcher, LaneId},
    worker_deaths::DiedIn,
};
use crate::engine::{Model, stop_reason};

impl<M: Model> Batcher<M> {
    /// Has the lane driven, after the lanes that are scheduled already.
    pub(super) fn schedule(self: &Arc<Self>, lane: LaneId) {
        match lane {
            LaneId::Compute => self.compute.schedule(self.clone()),
            LaneId::Inline(_) => inline::schedule(self.clone()),
        }
    }

    /// Drives a lane, and returns the number of requests that ran. A panic would be a defect; it must not take away the thread
    /// that drives.
    pub(super) fn drive_guarded(self: &Arc<Self>, lane: LaneId) -> usize {
        catch_unwind(AssertUnwindSafe(|| self.drive(lane))).unwrap_or_else(|_| {
            let (model, version) = (&*self.model, self.version);
            tracing::error!(model, version, "batch panicked, a defect of the server");
            0
        })
    }

    /// Takes a batch that is due and runs it on an idle instance, if there is both. Called by the threads that drive the lane.
    /// Returns the number of requests that ran.
    fn drive(self: &Arc<Self>, id: LaneId) -> usize {
        let (lane, is_inline) = (self.lane(id), matches!(id, LaneId::Inline(_)));
        if !is_inline && lane.is_crowded() {
            // Threads that are reading requests go first, and what they read joins the batch. Where none wants the CPU this
            // costs less than a microsecond.
            thread::yield_now();
        }
        let mut contents = lane.lock();
        // Read under the lock: no job in the queue arrived later.
        let now = Instant::now();
        contents.scheduled = contents.scheduled.saturating_sub(1);
        if contents.timer.is_some_and(|timer| timer <= now) {
            contents.timer = None;
        }
        let Some((device, mut instance)) = contents.idle.take() else { return 0 };
        if instance.death().is_some() {
            drop(contents);
            self.restart_worker(device, instance, DiedIn::Idle);
            return 0;
        }
        let (next, dropped, run) = contents.take(now);
        lane.update_gauge(&contents);
        let batch = match next {
            NextStep::Run(batch) => batch,
            NextStep::WaitUntil(until) => {
                contents.idle.put(device, instance);
                let earlier = contents.timer.is_none_or(|timer| until < timer);
                if earlier {
                    contents.timer = Some(until);
                }
                drop(contents);
                if earlier {
                    self.compute.schedule_at(until, self.clone());
                }
                self.refuse(dropped, now);
                return 0;
            }
            NextStep::Idle => {
                contents.idle.put(device, instance);
                drop(contents);
                self.refuse(dropped, now);
                return 0;
            }
        };
        // A push may bring more than one batch, and a batch that waits for more jobs has to be watched meanwhile.
        let more = !contents.queue.is_empty() && contents.scheduled < contents.idle.len();
        contents.scheduled += usize::from(more);
        drop(contents);
        if more {
            self.schedule(id);
        }
        let requests = batch.len();
        lane.set_crowded(requests > 1);
        self.refuse(dropped, now);
        self.run(&mut instance, batch, now, id);
        if instance.death().is_some() {
            lane.lock().forget_run(run);
            self.restart_worker(device, instance, DiedIn::Run);
            return requests;
        }
        let lost = instance.lost();
        let mut contents = lane.lock();
        if stop_reason().is_some() {
            contents.run_stopped(run);
        } else if let Some(rates) = contents.run_ended(run, is_inline) {
            lane.set_rates(rates);
        }
        match lost {
            None => contents.idle.put(device, instance),
            Some(lost) => {
                contents.idle.lose(device);
                drop(contents);
                self.lose(lost);
                return requests;
            }
        }
        let more = !contents.queue.is_empty();
        contents.scheduled += usize::from(more);
        drop(contents);
        if more {
            // To the end of the queue: versions take turns.
            self.schedule(id);
        }
        requests
    }
}

impl<M: Model> Schedulable for Batcher<M> {
    fn slots(&self) -> usize {
        self.settings.slots
    }

    fn expected_run_time(&self) -> Option<Duration> {
        self.compute_run_time.expected()
    }

    fn drive_compute(self: Arc<Self>) {
        self.drive_guarded(LaneId::Compute);
    }

    fn drive_inline(self: Arc<Self>, io_thread: usize) -> usize {
        self.drive_guarded(LaneId::Inline(io_thread))
    }
}
