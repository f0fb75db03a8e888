//! Runs on a device: batches are stacked in memory that the device fetches them from by itself, and it writes the answers to
//! such memory, so that the copies of one run go on beside another.
//!
//! ONNX Runtime gets this memory as the host's own: it then copies on the run's own stream, and the driver, which knows
//! the memory, does so without waiting. `IoBinding` does not fit: what is bound is copied when it is bound, on a stream that
//! another run of the session may have got meanwhile; to wait for that is to wait for everything on the device; and an output
//! that is bound to page-locked memory, without a shape, stays on the device, since ONNX Runtime takes either for the other.

use bytes::Bytes;
use ort::memory::MemoryInfo;
use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    graphs::{CudaGraph, CudaGraphs},
    pinned_memory::{Block, PinnedAllocator},
    predicted_shapes::PredictedShapes,
    staging_buffer::StagingBuffer,
};
use crate::{
    engine::{
        batch_run::BatchRun,
        batch_values::{output_tensor, stacked_extents},
        run_error::run_error,
        session::SharedSession,
        session_thread::{Runner, SessionRun, SessionThread},
        strings,
        value::Value,
    },
    error::{Error, Result},
    tensor::{ModelInputs, Shape, Signature, Tensor, TensorSpec, concatenate},
};

/// Runs a session for a device, one batch at a time.
pub(in crate::engine) struct DeviceRun {
    runner: Runner,
    pub signature: Arc<Signature>,
    memory: Arc<PinnedAllocator>,
    /// The description of the memory for ONNX Runtime.
    described: Arc<MemoryInfo<'static>>,
    buffers: Vec<StagingBuffer>,
    /// For each output: the input that it is, where the graph passes one through.
    passed: Box<[Option<usize>]>,
    pub predicted: PredictedShapes,
    graphs: CudaGraphs,
}

/// Memory for outputs, with the shape that it is for.
type OutputMemory = Vec<Option<(Block, Shape)>>;

impl DeviceRun {
    /// Runs of a session on a device. With `captures_graphs` all happen on one thread.
    ///
    /// # Errors
    /// For people: there is no thread for them.
    pub(in crate::engine) fn new(
        session: Arc<SharedSession>,
        signature: Arc<Signature>,
        memory: PinnedAllocator,
        described: Arc<MemoryInfo<'static>>,
        captures_graphs: bool,
    ) -> Result<Self, String> {
        let runner = if captures_graphs {
            Runner::OneThread(SessionThread::start(session)?.into())
        } else {
            Runner::AnyThread(session)
        };
        Ok(DeviceRun::over(runner, signature, memory.into(), described))
    }

    /// Another over the same session.
    pub(in crate::engine) fn sharing(&self) -> Self {
        DeviceRun::over(self.runner.clone(), self.signature.clone(), self.memory.clone(), self.described.clone())
    }

    fn over(
        runner: Runner,
        signature: Arc<Signature>,
        memory: Arc<PinnedAllocator>,
        described: Arc<MemoryInfo<'static>>,
    ) -> Self {
        let buffers = signature.all_inputs().map(|_| StagingBuffer::default()).collect();
        let passed = signature.outputs.iter().map(|output| {
            let mut inputs = signature.all_inputs();
            inputs.position(|input| input.name == output.name && input.datatype.size().is_some())
        });
        let (passed, predicted) = (passed.collect(), PredictedShapes::new(&signature));
        DeviceRun { runner, signature, memory, described, buffers, passed, predicted, graphs: CudaGraphs::default() }
    }

    pub(in crate::engine) fn run(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        let started = Instant::now();
        if let Runner::OneThread(thread) = &self.runner
            && let Some((graph, rows)) = self.graphs.fitting(requests)
        {
            graph.fill(requests);
            let filled = Instant::now();
            let replayed = graph.replay(thread).map_err(|error| run_error(&error));
            let run = filled.elapsed();
            return BatchRun { outputs: replayed.and_then(|()| graph.outputs(rows)), input: filled - started, run };
        }
        self.run_without_graphs(requests)
    }

    /// Runs requests as if no graph had been captured.
    pub(in crate::engine) fn run_without_graphs(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        let started = Instant::now();
        let rows = requests.iter().map(|request| request.rows()).sum();
        let (run, regions) = match self.stack(requests) {
            Ok(stacked) => stacked,
            Err(error) => {
                let outputs = Err(run_error(&error));
                return BatchRun { outputs, input: started.elapsed(), run: Duration::ZERO };
            }
        };
        // Optional inputs may change the outputs' shapes.
        let is_plain = requests.iter().all(|request| request.optional.is_empty());
        let places = if is_plain { self.places(rows) } else { OutputMemory::new() };
        let stacked = Instant::now();
        let ran = self.run_into(run, places);
        let run = stacked.elapsed();
        let outputs = ran.map_err(|error| run_error(&error));
        let outputs = outputs.and_then(|(values, places)| self.outputs(requests, values, places, &regions));
        BatchRun { outputs, input: stacked - started, run }
    }

    /// Captures the run of these requests as a CUDA graph: batches of no more rows are then filled up to as many, and replay it.
    ///
    /// # Errors
    /// For people: the reason that it can't be captured.
    pub(in crate::engine) fn capture_graph(&mut self, requests: &[&ModelInputs]) -> Result<(), String> {
        let Runner::OneThread(thread) = self.runner.clone() else {
            return Err("the session was not made for that".into());
        };
        let like = self.run_without_graphs(requests).outputs.map_err(|error| error.to_string())?;
        let graph = CudaGraph::capture(&thread, &self.memory, &self.described, requests, like)?;
        self.graphs.add(graph);
        Ok(())
    }

    /// Drops all CUDA graphs.
    pub(in crate::engine) fn drop_graphs(&mut self) {
        self.graphs.clear();
    }

    /// The inputs of a run, and the addresses that they lie at.
    fn stack(&mut self, requests: &[&ModelInputs]) -> ort::Result<(SessionRun, Vec<Range<usize>>)> {
        let mut run = SessionRun::default();
        let mut regions = Vec::new();
        let (required, optional) = self.buffers.split_at_mut(self.signature.inputs.len());
        for (index, buffer) in required.iter_mut().enumerate() {
            let parts = requests.iter().map(|request| &request.required[index]);
            let (value, region) = stack_input(buffer, parts, &self.memory, &self.described)?;
            run.inputs.push(value);
            regions.push(region);
        }
        for (index, tensor) in requests.iter().flat_map(|request| &request.optional) {
            let parts = std::iter::once(tensor);
            let (value, region) = stack_input(&mut optional[*index], parts, &self.memory, &self.described)?;
            run.optional.push((*index, value));
            regions.push(region);
        }
        Ok((run, regions))
    }

    /// Memory for the outputs whose shape is predicted, as far as there is some: ONNX Runtime finds some for the others.
    fn places(&self, rows: usize) -> OutputMemory {
        let place = |(index, spec): (usize, &TensorSpec)| {
            let shape = self.predicted.shape(index, spec, rows)?;
            let length = shape.bytes(spec.datatype).ok().flatten().filter(|length| *length > 0)?;
            Some((self.memory.block(length).ok()?, shape))
        };
        self.signature.outputs.iter().enumerate().map(place).collect()
    }

    /// Makes a run that writes to the places; where that fails, one without, since they may be to blame.
    #[allow(unsafe_code, reason = "hands ONNX Runtime memory for outputs")]
    fn run_into(
        &mut self,
        mut run: SessionRun,
        places: OutputMemory,
    ) -> ort::Result<(Vec<Option<Value>>, OutputMemory)> {
        for (spec, place) in self.signature.outputs.iter().zip(&places) {
            let value = place.as_ref().map(|(block, shape)| {
                let (extents, length) = (shape.to_wire().collect::<Vec<_>>(), block.length());
                // SAFETY: the block is that long, aligned for every datatype, and nothing else's; the value is dropped with
                // the run, before the block is.
                unsafe { Value::over(spec.datatype, &extents, &self.described, block.start(), length) }
            });
            run.places.push(value.transpose()?);
        }
        let (mut run, outputs) = self.runner.run(run);
        match outputs {
            Ok(values) => Ok((values, places)),
            Err(error) if places.iter().all(Option::is_none) => Err(error),
            Err(_) => {
                run.places.clear();
                let values = self.runner.run(run).1?;
                self.predicted.was_wrong();
                Ok((values, Vec::new()))
            }
        }
    }

    /// An output that is an input: as it came, since ONNX Runtime copies it back from the device without waiting for it to get
    /// there.
    fn passed(&self, index: usize, requests: &[&ModelInputs]) -> Option<Tensor> {
        let input = self.passed[index]?;
        let Some(optional) = input.checked_sub(self.signature.inputs.len()) else {
            let parts: Vec<&Tensor> = requests.iter().map(|request| &request.required[input]).collect();
            return if let [only] = *parts { Some(only.clone()) } else { concatenate(&parts) };
        };
        let mut given = requests.iter().flat_map(|request| &request.optional);
        given.find(|(index, _)| *index == optional).map(|(_, tensor)| tensor.clone())
    }

    /// The outputs of a run, in their places and elsewhere.
    #[allow(unsafe_code, reason = "reads memory that ONNX Runtime has written")]
    fn outputs(
        &mut self,
        requests: &[&ModelInputs],
        values: Vec<Option<Value>>,
        places: OutputMemory,
        regions: &[Range<usize>],
    ) -> Result<Vec<Tensor>> {
        let rows = requests.iter().map(|request| request.rows()).sum();
        let mut places = places.into_iter();
        let mut outputs = Vec::with_capacity(values.len());
        for (index, (spec, value)) in self.signature.outputs.iter().zip(values).enumerate() {
            let place = places.next().flatten();
            if let Some(tensor) = self.passed(index, requests) {
                outputs.push(tensor);
                continue;
            }
            let tensor = match (place, value) {
                (Some((block, shape)), _) => {
                    // SAFETY: the run went well, and it has written outputs that have places to these, as a whole: it holds
                    // their size against the place's.
                    let written = unsafe { block.written() };
                    Tensor::new(spec.datatype, shape, Bytes::from_owner(written))?
                }
                (None, Some(value)) => {
                    let tensor = output_tensor(value, spec, regions).map_err(Error::internal)?;
                    self.predicted.observe(index, spec, rows, tensor.shape());
                    tensor
                }
                (None, None) => return Err(Error::internal(format!("no output '{}' came back", spec.name))),
            };
            outputs.push(tensor);
        }
        Ok(outputs)
    }
}

/// The stacked value of one input of each request, and the addresses that it lies at.
#[allow(unsafe_code, reason = "hands ONNX Runtime the stacked memory without a copy")]
fn stack_input<'p>(
    buffer: &mut StagingBuffer,
    parts: impl ExactSizeIterator<Item = &'p Tensor> + Clone,
    memory: &Arc<PinnedAllocator>,
    described: &MemoryInfo<'static>,
) -> ort::Result<(Value, Range<usize>)> {
    let (datatype, extents) = stacked_extents(parts.clone())?;
    let data = parts.map(Tensor::data);
    if datatype.size().is_none() {
        return strings::input_value(&extents, data).map(|value| (value, 0..0));
    }
    let length = data.clone().map(Bytes::len).sum::<usize>();
    let start = buffer.stack(memory, data)?;
    // SAFETY: `start` is aligned for every datatype and holds the bytes of all the requests' tensors, whose lengths fit their
    // shapes by construction. It is the buffer's memory, which outlives the value: that is dropped with the run, before the
    // buffer is used again.
    let value = unsafe { Value::over(datatype, &extents, described, start, length) }?;
    Ok((value, start.addr()..start.addr() + length))
}
