//! A batch while it runs: its jobs, and the senders of their outputs.

use smallvec::SmallVec;
use std::{
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    job::{Job, JobOutput, JobSender},
    queue::Waiting,
};
use crate::{
    error::{Error, Result},
    metrics::StopReason,
};

/// Jobs of a batch, by their index.
pub(super) type Members = SmallVec<[usize; 8]>;

/// A batch that runs.
pub(super) enum Batch {
    /// On an I/O thread: its clients live on the same thread, so nobody could stop it for their sake.
    Unshared(Vec<Waiting<Job>>),
    /// On another thread: the watchdog sees who still waits, and answers where the run does not end.
    Shared(Arc<SharedBatch>),
}

/// A batch that the watchdog sees.
pub(super) struct SharedBatch {
    jobs: Vec<Waiting<Job>>,
    /// One for each job; `None` once it is answered.
    senders: Mutex<Vec<Option<JobSender>>>,
}

impl Batch {
    pub(super) fn shared(mut jobs: Vec<Waiting<Job>>) -> Self {
        let senders = jobs.iter_mut().map(|waiting| waiting.job.sender.take()).collect();
        Batch::Shared(Arc::new(SharedBatch { jobs, senders: Mutex::new(senders) }))
    }

    pub(super) fn jobs(&self) -> &[Waiting<Job>] {
        match self {
            Batch::Unshared(jobs) => jobs,
            Batch::Shared(shared) => &shared.jobs,
        }
    }

    /// Answers a job, unless that was done already. Nobody may wait for it any more.
    pub(super) fn answer(&mut self, member: usize, answer: Result<JobOutput>) {
        let sender = match self {
            Batch::Unshared(jobs) => jobs[member].job.sender.take(),
            Batch::Shared(shared) => shared.senders().get_mut(member).and_then(Option::take),
        };
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }

    /// Jobs that somebody still waits for.
    pub(super) fn alive(&self, members: &[usize], now: Instant) -> Members {
        let is_alive = |member: &usize| match self {
            Batch::Unshared(jobs) => !jobs[*member].is_dead(now),
            Batch::Shared(shared) => shared.death(*member, &shared.senders(), now).is_none(),
        };
        members.iter().copied().filter(is_alive).collect()
    }
}

impl SharedBatch {
    /// Why nobody waits for any of these jobs any more; `None` while somebody does.
    pub(super) fn end_of_interest(&self, members: &[usize], now: Instant) -> Option<StopReason> {
        let senders = self.senders();
        let mut reason = StopReason::Cancelled;
        for member in members {
            if self.death(*member, &senders, now)? == StopReason::Deadline {
                reason = StopReason::Deadline;
            }
        }
        Some(reason)
    }

    /// Answers all jobs that have no answer yet.
    pub(super) fn refuse_all(&self, error: &Error) {
        for sender in take(&mut *self.senders()).into_iter().flatten() {
            let _ = sender.send(Err(error.clone()));
        }
    }

    /// Why nobody waits for a job any more.
    fn death(&self, member: usize, senders: &[Option<JobSender>], now: Instant) -> Option<StopReason> {
        if self.jobs[member].is_late(now) {
            return Some(StopReason::Deadline);
        }
        let waits = senders.get(member).and_then(Option::as_ref).is_some_and(|sender| !sender.is_closed());
        (!waits).then_some(StopReason::Cancelled)
    }

    fn senders(&self) -> MutexGuard<'_, Vec<Option<JobSender>>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Code, tensor::ModelInputs};
    use std::time::Duration;
    use tokio::sync::oneshot;

    /// A batch of jobs, with what waits for each.
    fn batch(deadlines: &[Option<Instant>]) -> (Batch, Vec<oneshot::Receiver<Result<JobOutput>>>) {
        let (arrived, mut answers) = (Instant::now(), Vec::new());
        let job = |deadline: &Option<Instant>| {
            let (sender, answer) = oneshot::channel();
            answers.push(answer);
            let inputs: ModelInputs = Vec::new().into();
            let job = Job { inputs, is_first: true, sender: Some(sender) };
            Waiting { deadline: *deadline, ..Waiting::lone(arrived, job) }
        };
        let jobs = deadlines.iter().map(job).collect();
        (Batch::shared(jobs), answers)
    }

    #[test]
    fn batch_stops_when_every_client_left_or_expired() {
        let now = Instant::now();
        let (mut batch, mut answers) = batch(&[None, Some(now + Duration::from_secs(1)), None]);
        let shared = |batch: &Batch| match batch {
            Batch::Shared(shared) => shared.clone(),
            Batch::Unshared(_) => unreachable!(),
        };
        let end = |batch: &Batch, members: &[usize], now: Instant| shared(batch).end_of_interest(members, now);
        let later = now + Duration::from_secs(1);
        assert_eq!(end(&batch, &[0, 1, 2], later), None);
        drop(answers.remove(0));
        assert_eq!(end(&batch, &[0, 1], now), None);
        assert_eq!(end(&batch, &[0], now), Some(StopReason::Cancelled));
        assert_eq!(end(&batch, &[0, 1], later), Some(StopReason::Deadline));
        assert_eq!(batch.alive(&[0, 1, 2], later).as_slice(), [2]);
        batch.answer(2, Err(Error::internal("first")));
        assert_eq!(end(&batch, &[0, 1, 2], later), Some(StopReason::Deadline));
        shared(&batch).refuse_all(&Error::new(Code::DeadlineExceeded, "abandoned"));
        batch.answer(1, Err(Error::internal("too late")));
        let answers = answers.into_iter().map(|mut answer| answer.try_recv().unwrap().err().unwrap().to_string());
        assert_eq!(answers.collect::<Vec<_>>(), ["abandoned", "first"]);
        assert_eq!(end(&batch, &[0, 1, 2], now), Some(StopReason::Cancelled));
    }
}
