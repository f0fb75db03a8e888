//! CUDA graphs of an instance, one for each size of batch: to replay one takes a single launch. A replay reads and writes the
//! addresses that the graph was captured with.

use bytes::Bytes;
use ort::{memory::MemoryInfo, session::RunOptions};
use std::{mem::take, sync::Arc};

use super::{
    graph_sizes,
    pinned_memory::{PinnedAllocator, PinnedBytes},
};
use crate::{
    engine::{
        session_thread::{SessionRun, SessionThread},
        value::Value,
    },
    tensor::{ModelInputs, Shape, Tensor},
};

/// The CUDA graphs of an instance.
#[derive(Default)]
pub(in crate::engine) struct CudaGraphs(Vec<CudaGraph>);

/// The CUDA graph for batches that are filled up to one size.
pub(in crate::engine) struct CudaGraph {
    rows: usize,
    options: Arc<RunOptions>,
    /// Values over the memory below. It is lent to the thread that runs it.
    run: SessionRun,
    inputs: Vec<GraphInput>,
    outputs: Vec<GraphOutput>,
}

struct GraphInput {
    written: PinnedBytes,
    row_bytes: usize,
}

struct GraphOutput {
    written: PinnedBytes,
    row_bytes: usize,
    /// The output of an ordinary run, for its datatype and inner shape.
    like: Tensor,
}

impl CudaGraphs {
    /// The graph for these requests, which is the smallest that they fit in, and their rows.
    pub(in crate::engine) fn fitting(&mut self, requests: &[&ModelInputs]) -> Option<(&mut CudaGraph, usize)> {
        if self.0.is_empty() || requests.iter().any(|request| !request.optional.is_empty()) {
            return None;
        }
        let rows = requests.iter().map(|request| request.rows()).sum();
        let graph = self.0.iter_mut().find(|graph| graph.rows >= rows)?;
        (rows > 0 && graph.takes(requests)).then_some((graph, rows))
    }

    pub(in crate::engine) fn add(&mut self, graph: CudaGraph) {
        let place = self.0.partition_point(|other| other.rows < graph.rows);
        self.0.insert(place, graph);
    }

    pub(in crate::engine) fn clear(&mut self) {
        self.0.clear();
    }
}

impl CudaGraph {
    /// Captures the run of these requests, which gave `like` in an ordinary run.
    ///
    /// # Errors
    /// For people: the reason that it can't be captured.
    pub(in crate::engine) fn capture(
        thread: &SessionThread,
        memory: &Arc<PinnedAllocator>,
        described: &MemoryInfo<'static>,
        requests: &[&ModelInputs],
        like: Vec<Tensor>,
    ) -> Result<Self, String> {
        let rows = requests.iter().map(|request| request.rows()).sum();
        let message = |error: ort::Error| error.to_string();
        let mut run = SessionRun::default();
        let mut inputs = Vec::new();
        for tensor in requests.first().into_iter().flat_map(|request| &request.required) {
            let (written, row_bytes, value) = fixed(memory, described, tensor, rows)?;
            inputs.push(GraphInput { written, row_bytes });
            run.inputs.push(value);
        }
        let mut outputs = Vec::new();
        for (index, like) in like.into_iter().enumerate() {
            if like.shape().extents().first() != Some(&rows) {
                return Err(format!("output {index} has shape {} for {rows} rows", like.shape()));
            }
            let (written, row_bytes, value) = fixed(memory, described, &like, rows)?;
            outputs.push(GraphOutput { written, row_bytes, like });
            run.places.push(Some(value));
        }
        let options = thread.next_graph_options().map_err(message)?;
        let mut graph = CudaGraph { rows, options, run, inputs, outputs };
        graph.fill(requests);
        let (run, ran) = thread.capture(take(&mut graph.run), &graph.options);
        graph.run = run;
        ran.map(|_| graph).map_err(message)
    }

    /// True if the rows of all inputs are as long as those that were captured.
    fn takes(&self, requests: &[&ModelInputs]) -> bool {
        requests.iter().all(|request| {
            let mut inputs = self.inputs.iter().zip(&request.required);
            inputs.all(|(input, tensor)| tensor.data().len() == request.rows() * input.row_bytes)
        })
    }

    /// Writes a batch, filled up, to where the run reads it.
    pub(in crate::engine) fn fill(&mut self, requests: &[&ModelInputs]) {
        for (index, GraphInput { written, row_bytes }) in self.inputs.iter_mut().enumerate() {
            let parts = requests.iter().map(|request| request.required[index].data());
            graph_sizes::fill(written.bytes_mut(), *row_bytes, parts);
        }
    }

    /// Replays the graph.
    pub(in crate::engine) fn replay(&mut self, thread: &SessionThread) -> ort::Result<()> {
        let (run, ran) = thread.replay(take(&mut self.run), &self.options);
        self.run = run;
        ran.map(drop)
    }

    /// The first so many rows of the replay's outputs: copied, since the next replay writes to the same memory.
    pub(in crate::engine) fn outputs(&self, rows: usize) -> crate::error::Result<Vec<Tensor>> {
        let cut = |GraphOutput { written, row_bytes, like }: &GraphOutput| {
            let data = Bytes::copy_from_slice(&written.as_ref()[..rows * row_bytes]);
            Tensor::new(like.datatype(), like.shape().with_rows(rows), data)
        };
        self.outputs.iter().map(cut).collect()
    }
}

/// Memory for a whole batch of what `like` is some rows of, the bytes of a row, and a value over it.
#[allow(unsafe_code, reason = "hands ONNX Runtime memory of fixed addresses")]
fn fixed(
    memory: &Arc<PinnedAllocator>,
    described: &MemoryInfo<'static>,
    like: &Tensor,
    rows: usize,
) -> Result<(PinnedBytes, usize, Value), String> {
    let shape: Shape = like.shape().with_rows(rows);
    let length = shape.bytes(like.datatype()).map_err(|error| error.to_string())?;
    let length = length.ok_or("BYTES have no fixed size")?;
    let message = |error: ort::Error| error.to_string();
    let written = memory.block(length).map_err(message)?.zeroed();
    let extents: Vec<i64> = shape.to_wire().collect();
    // SAFETY: it is that long and aligned for every datatype, and the graph that owns it drops the value first. It changes
    // between runs only: the caller has the graph for himself, and waits for its runs.
    let value =
        unsafe { Value::over(like.datatype(), &extents, described, written.start(), length) }.map_err(message)?;
    Ok((written, length / rows.max(1), value))
}
