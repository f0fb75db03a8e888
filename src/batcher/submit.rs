//! Puts requests into the queue.

use smallvec::{SmallVec, smallvec};
use std::time::Instant;
use tokio::sync::oneshot;

use super::{
    forecast::Newcomer,
    inline,
    job::{Job, JobReceiver, QueuedRequest},
    queue::{self, Waiting},
    sync::{Arc, atomic::Ordering::Relaxed},
    version_batcher::{Batcher, LaneId},
};
use crate::{
    engine::Model,
    error::{Error, Result},
    metrics::Rejection,
    tensor::{ModelInputs, RowCutter},
};

/// Pieces that a request is cut into at most. Each takes memory of its own, and rows need not take any on the wire.
const MAX_PIECES: usize = 1 << 16;

impl<M: Model> Batcher<M> {
    /// Puts a request into the queue, in pieces where it has more rows than a batch may have. Its inputs have been checked
    /// against the signature, and have the same number of rows where axis 0 is the batch. Of priorities 1 is the highest, and 0
    /// stands for the default.
    ///
    /// # Errors
    /// There are more rows than a request may have, the queue is full or too slow, the deadline has passed, or the version is
    /// lost.
    pub fn submit(
        self: &Arc<Self>,
        inputs: ModelInputs,
        priority: u64,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<QueuedRequest> {
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.metrics.rejected(Rejection::Deadline);
            return Err(self.too_late());
        }
        let level = self.settings.levels.index(priority);
        if !self.is_cut(&inputs) {
            return self.submit_whole(inputs, level, deadline, now);
        }
        let newcomer =
            Newcomer { level, rows: inputs.rows(), job_rows: self.settings.max_batch_size, deadline, arrived: now };
        let jobs = self.pieces(&inputs)?.into_iter().enumerate();
        let (jobs, receivers): (Vec<_>, SmallVec<_>) =
            jobs.map(|(index, piece)| self.job(piece, index == 0, &newcomer)).unzip();
        self.enqueue(jobs, inputs.rows(), &newcomer)?;
        Ok(QueuedRequest { receivers, level, deadline, whole: Some(Box::new(inputs)) })
    }

    /// Puts a request into the queue as one job, however many rows it has.
    pub(super) fn submit_whole(
        self: &Arc<Self>,
        inputs: ModelInputs,
        level: usize,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<QueuedRequest> {
        let rows = inputs.rows();
        let job_rows = self.job_rows(&inputs);
        let newcomer = Newcomer { level, rows: job_rows, job_rows, deadline, arrived: now };
        let (job, receiver) = self.job(inputs, true, &newcomer);
        self.enqueue([job], rows, &newcomer)?;
        Ok(QueuedRequest { receivers: smallvec![receiver], level, deadline, whole: None })
    }

    /// Rows of a job as the queue counts them.
    fn job_rows(&self, inputs: &ModelInputs) -> usize {
        if self.settings.rows_independent && self.has_rows(inputs) { inputs.rows() } else { 1 }
    }

    /// True if a request's rows may be batched with those of others, or cut apart: its inputs have the extents that they must, and
    /// none is empty. The proof that rows are independent counts on it.
    fn has_rows(&self, inputs: &ModelInputs) -> bool {
        let extent = |(input, axis): (usize, usize)| inputs.required[input].shape().extents().get(axis).copied();
        let agree = self.settings.shared_extents.iter().all(|[first, second]| extent(*first) == extent(*second));
        let mut required = self.settings.required_extents.iter();
        agree
            && required.all(|(input, axis, required)| extent((*input, *axis)) == Some(*required))
            && inputs.required.iter().all(|input| !input.shape().extents().contains(&0))
    }

    /// A job for the queue, and the receiver of its outputs.
    fn job(&self, inputs: ModelInputs, is_first: bool, newcomer: &Newcomer) -> (Waiting<Job>, JobReceiver) {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            key: self.key(&inputs),
            rows: self.job_rows(&inputs),
            level: newcomer.level,
            arrived: newcomer.arrived,
            deadline: newcomer.deadline,
            is_rest: !is_first,
            number: 0,
            predicted: false,
            job: Job { inputs, is_first, sender: Some(sender) },
        };
        (waiting, receiver)
    }

    /// Puts the jobs of a request of so many rows into the queue, all or none.
    fn enqueue(
        self: &Arc<Self>,
        jobs: impl IntoIterator<Item = Waiting<Job>>,
        rows: usize,
        newcomer: &Newcomer,
    ) -> Result<()> {
        let (id, now) = (self.lane_for(rows), newcomer.arrived);
        let lane = self.lane(id);
        let mut contents = lane.lock();
        // Under the lock: the thread that loses the batcher empties the queue under it.
        if let Some(error) = self.lost() {
            return Err(error);
        }
        let (admitted, dropped) = contents.admit(newcomer);
        let admitted = admitted.map(|admitted| contents.push(jobs, admitted));
        lane.update_gauge(&contents);
        let wake = admitted.is_ok() && contents.scheduled < contents.idle.len();
        contents.scheduled += usize::from(wake);
        drop(contents);
        match id {
            _ if !wake => {}
            LaneId::Inline(_) if inline::is_lone_request() => _ = self.drive_guarded(id),
            _ => self.schedule(id),
        }
        self.refuse(dropped, now);
        admitted.map_err(|refusal| self.refused(refusal))
    }

    /// True if a request is cut into pieces.
    fn is_cut(&self, inputs: &ModelInputs) -> bool {
        self.settings.rows_independent && inputs.rows() > self.settings.max_batch_size && self.has_rows(inputs)
    }

    /// The request, cut into pieces of at most the rows of a batch.
    fn pieces(&self, inputs: &ModelInputs) -> Result<Vec<ModelInputs>> {
        let rows = inputs.rows();
        let most = self.settings.max_batch_size;
        let too_many = |limit: usize, why: String| {
            Error::invalid(format!("{}: a request may have at most {limit} rows ({why}), got {rows}", self.label))
        };
        if !inputs.optional.is_empty() {
            return Err(too_many(most, "of one batch, since it gives optional inputs".into()));
        }
        if rows.div_ceil(most) > MAX_PIECES {
            return Err(too_many(MAX_PIECES.saturating_mul(most), format!("{MAX_PIECES} batches of {most}")));
        }
        let mut cutters: Vec<RowCutter<'_>> = inputs.required.iter().map(RowCutter::new).collect();
        let mut piece = |start: usize| {
            let rows = most.min(rows - start);
            cutters.iter_mut().map(|cutter| cutter.take(rows)).collect::<Vec<_>>().into()
        };
        Ok((0..rows).step_by(most).map(&mut piece).collect())
    }

    /// The key that a job must have in common with others: the inputs' extents behind axis 0, where the signature leaves them open.
    /// One that gives optional inputs, which nothing says the rows of, runs alone.
    fn key(&self, inputs: &ModelInputs) -> queue::BatchKey {
        let open = |&(input, axis): &(usize, usize)| inputs.required[input].shape().extents()[axis];
        let is_alone = !inputs.optional.is_empty() || self.settings.batched && !self.has_rows(inputs);
        let alone = is_alone.then(|| self.next_alone.fetch_add(1, Relaxed));
        self.settings.open_axes.iter().map(open).chain(alone).collect()
    }
}
