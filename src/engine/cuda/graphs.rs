//! Runs that are recorded (CUDA graphs), one for each size of batch: to replay one takes a single launch. What is replayed
//! reads and writes the addresses that it was recorded with.

use bytes::Bytes;
use ort::{memory::MemoryInfo, session::RunOptions};
use std::{mem::take, sync::Arc};

use super::{
    graph_sizes,
    pinned_memory::{Memory, Written},
};
use crate::engine::{
    session_thread::{Own, Run},
    value::Value,
};
use crate::tensor::{ModelInputs, Shape, Tensor};

/// The recorded runs of an instance.
#[derive(Default)]
pub(in crate::engine) struct Graphs(Vec<Graph>);

/// The recorded run of batches that are filled up to one size.
pub(in crate::engine) struct Graph {
    rows: usize,
    options: Arc<RunOptions>,
    /// Values over the memory below. It is lent to the thread that runs it.
    run: Run,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

struct Input {
    written: Written,
    row_bytes: usize,
}

struct Output {
    written: Written,
    row_bytes: usize,
    /// What came in a run that was not recorded, for its datatype and inner shape.
    like: Tensor,
}

impl Graphs {
    /// The recorded run for these requests, which is the smallest that they fit in, and their rows.
    pub(in crate::engine) fn fitting(&mut self, requests: &[&ModelInputs]) -> Option<(&mut Graph, usize)> {
        if self.0.is_empty() || requests.iter().any(|request| !request.optional.is_empty()) {
            return None;
        }
        let rows = requests.iter().map(|request| request.rows()).sum();
        let graph = self.0.iter_mut().find(|graph| graph.rows >= rows)?;
        (rows > 0 && graph.takes(requests)).then_some((graph, rows))
    }

    pub(in crate::engine) fn add(&mut self, graph: Graph) {
        let place = self.0.partition_point(|other| other.rows < graph.rows);
        self.0.insert(place, graph);
    }

    pub(in crate::engine) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Graph {
    /// Records the run of these requests, which gave `like` when it was not recorded.
    ///
    /// # Errors
    /// For people: why it can't be recorded.
    pub(in crate::engine) fn record(
        own: &Own,
        memory: &Arc<Memory>,
        described: &MemoryInfo<'static>,
        requests: &[&ModelInputs],
        like: Vec<Tensor>,
    ) -> Result<Self, String> {
        let rows = requests.iter().map(|request| request.rows()).sum();
        let told = |error: ort::Error| error.to_string();
        let mut run = Run::default();
        let mut inputs = Vec::new();
        for tensor in requests.first().into_iter().flat_map(|request| &request.required) {
            let (written, row_bytes, value) = fixed(memory, described, tensor, rows)?;
            inputs.push(Input { written, row_bytes });
            run.inputs.push(value);
        }
        let mut outputs = Vec::new();
        for (index, like) in like.into_iter().enumerate() {
            if like.shape().extents().first() != Some(&rows) {
                return Err(format!("output {index} has shape {} for {rows} rows", like.shape()));
            }
            let (written, row_bytes, value) = fixed(memory, described, &like, rows)?;
            outputs.push(Output { written, row_bytes, like });
            run.places.push(Some(value));
        }
        let options = own.next_options().map_err(told)?;
        let mut graph = Graph { rows, options, run, inputs, outputs };
        graph.fill(requests);
        let (run, ran) = own.record(take(&mut graph.run), &graph.options);
        graph.run = run;
        ran.map(|_| graph).map_err(told)
    }

    /// Whether the rows of all inputs are as long as those that were recorded.
    fn takes(&self, requests: &[&ModelInputs]) -> bool {
        requests.iter().all(|request| {
            let mut inputs = self.inputs.iter().zip(&request.required);
            inputs.all(|(input, tensor)| tensor.data().len() == request.rows() * input.row_bytes)
        })
    }

    /// Writes a batch, filled up, to where the run reads it.
    pub(in crate::engine) fn fill(&mut self, requests: &[&ModelInputs]) {
        for (index, Input { written, row_bytes }) in self.inputs.iter_mut().enumerate() {
            let parts = requests.iter().map(|request| request.required[index].data());
            graph_sizes::fill(written.bytes_mut(), *row_bytes, parts);
        }
    }

    /// Replays the run.
    pub(in crate::engine) fn replay(&mut self, own: &Own) -> ort::Result<()> {
        let (run, ran) = own.replay(take(&mut self.run), &self.options);
        self.run = run;
        ran.map(drop)
    }

    /// What the replay gave for the first so many rows: copied, since the next replay writes to the same place.
    pub(in crate::engine) fn outputs(&self, rows: usize) -> crate::error::Result<Vec<Tensor>> {
        let cut = |Output { written, row_bytes, like }: &Output| {
            let data = Bytes::copy_from_slice(&written.as_ref()[..rows * row_bytes]);
            Tensor::new(like.datatype(), like.shape().with_rows(rows), data)
        };
        self.outputs.iter().map(cut).collect()
    }
}

/// Memory for a whole batch of what `like` is some rows of, the bytes of a row, and a value over it.
#[allow(unsafe_code, reason = "hands ONNX Runtime memory of fixed addresses")]
fn fixed(
    memory: &Arc<Memory>,
    described: &MemoryInfo<'static>,
    like: &Tensor,
    rows: usize,
) -> Result<(Written, usize, Value), String> {
    let shape: Shape = like.shape().with_rows(rows);
    let length = shape.bytes(like.datatype()).map_err(|error| error.to_string())?;
    let length = length.ok_or("BYTES have no fixed size")?;
    let told = |error: ort::Error| error.to_string();
    let written = memory.block(length).map_err(told)?.zeroed();
    let extents: Vec<i64> = shape.to_wire().collect();
    // SAFETY: it is that long and aligned for every datatype, and the graph that owns it drops the value first. It changes
    // between runs only: the caller has the graph for himself, and waits for its runs.
    let value = unsafe { Value::over(like.datatype(), &extents, described, written.start(), length) }.map_err(told)?;
    Ok((written, length / rows.max(1), value))
}
