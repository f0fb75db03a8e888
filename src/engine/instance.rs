mod in_worker;

use bytes::Bytes;
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
};
use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    batch_buffer::Buffer,
    batch_run::BatchRun,
    cpu::{
        allocator::{Pool, take_refusal},
        cached_binding::Kept,
    },
    cuda::{device_run::Staged, pinned_memory::Memory, predicted_shapes::Foreseen},
    model_file::{NeedsElements, RowAnalysis},
    run_control::controlled,
    run_error::run_error,
    session::SharedSession,
    strings,
    value::Value,
    worker::Worker,
};
use crate::{
    error::{Error, Result},
    host::crash::{Activity, Phase},
    metrics::HeldMemory,
    tensor::{Datatype, ModelInputs, Shape, Signature, Tensor, TensorSpec},
};

/// What runs a model, one batch at a time: an ONNX Runtime session with the buffers that batches are stacked in.
pub struct Instance {
    /// `None` where it is in a worker process.
    session: Option<Arc<SharedSession>>,
    signature: Arc<Signature>,
    buffers: Vec<Buffer>,
    /// The run that is kept; `None` where no run may be.
    kept: Option<Kept>,
    foreseen: Foreseen,
    memory: Arc<MemoryInfo<'static>>,
    /// Memory of its runs.
    pool: Arc<Pool>,
    uneven: Option<Arc<str>>,
    hazard: Option<Arc<str>>,
    zero_extents: Arc<NeedsElements>,
    rows: Arc<RowAnalysis>,
    /// What runs it where that is a device.
    staged: Option<Box<Staged>>,
    /// The process that runs it, where that is not this one.
    worker: Option<Box<Worker>>,
    /// What a crash of this process names it by.
    activity: Option<Arc<Activity>>,
}

impl Instance {
    pub(super) fn new(
        session: Session,
        signature: Signature,
        uneven: Option<String>,
        pool: Arc<Pool>,
    ) -> Result<Self, String> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(|error| format!("ONNX Runtime has no CPU memory: {error}"))?;
        let session = SharedSession::new(session, &signature, pool.clone())?;
        let (buffers, foreseen) = (buffers(&signature), Foreseen::new(&signature));
        let uneven = uneven.map(Into::into);
        let (session, signature, memory) = (Some(session.into()), signature.into(), memory.into());
        Ok(Instance {
            session,
            signature,
            buffers,
            kept: None,
            foreseen,
            memory,
            pool,
            uneven,
            hazard: None,
            zero_extents: Arc::default(),
            rows: Arc::default(),
            staged: None,
            worker: None,
            activity: None,
        })
    }

    /// The same, for a provider that reads inputs and writes outputs where they lie: runs are kept. Others copy what is bound when
    /// it is bound, and a run that is kept would answer what the first one was asked.
    pub(super) fn keeping_runs(self) -> Self {
        Instance { kept: Some(Kept::default()), ..self }
    }

    /// The same, for a device that fetches batches from this memory.
    pub(super) fn staged(mut self, memory: Memory, recorded: bool) -> Result<Self, String> {
        let session = self.session.clone().ok_or("it runs in a process of its own")?;
        let (signature, described) = (self.signature.clone(), self.memory.clone());
        self.staged = Some(Staged::new(session, signature, memory, described, recorded)?.into());
        Ok(self)
    }

    /// The session, for what it has; `None` where it is in a worker process.
    pub(super) fn session(&self) -> Option<&SharedSession> {
        self.session.as_deref()
    }

    /// Another over the same session: it has buffers of its own, and takes no more memory than those. One in a worker process
    /// has no session to share.
    pub fn sharing(&self) -> Self {
        Instance {
            session: self.session.clone(),
            signature: self.signature.clone(),
            buffers: buffers(&self.signature),
            kept: self.kept.as_ref().map(|_| Kept::default()),
            foreseen: Foreseen::new(&self.signature),
            memory: self.memory.clone(),
            pool: self.pool.sibling(),
            uneven: self.uneven.clone(),
            hazard: self.hazard.clone(),
            zero_extents: self.zero_extents.clone(),
            rows: self.rows.clone(),
            staged: self.staged.as_ref().map(|staged| staged.sharing().into()),
            worker: None,
            activity: self.activity.clone(),
        }
    }

    /// What its session holds of the host's memory. Instances over one session share it.
    pub fn held_memory(&self) -> &Arc<HeldMemory> {
        self.pool.account().held()
    }

    /// Why runs of as many rows may differ much in what they cost, for people; `None` where they don't, as far as the model's
    /// graph tells.
    pub fn uneven(&self) -> Option<&str> {
        self.uneven.as_deref()
    }

    /// Why one request could end the process that runs the model, for people; `None` where no such way is known.
    pub fn hazard(&self) -> Option<&str> {
        self.hazard.as_deref()
    }

    /// Which extents of a request may not be zero, as far as the model's graph tells.
    pub fn needs_elements(&self) -> &Arc<NeedsElements> {
        &self.zero_extents
    }

    /// Rows of a batch, as the model's graph treats them.
    pub fn row_analysis(&self) -> &Arc<RowAnalysis> {
        &self.rows
    }

    /// The same with what the look at the model's graph has found.
    pub(super) fn with_findings(self, hazard: Option<String>, zero_extents: NeedsElements, rows: RowAnalysis) -> Self {
        let hazard = hazard.map(Into::into);
        Instance { hazard, zero_extents: zero_extents.into(), rows: rows.into(), ..self }
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs requests as one batch. Their inputs have been checked against the signature; within an input, all have the same
    /// inner shape, and are stacked along axis 0 in the order given. A single request runs as it is, scalars included; one
    /// that gives optional inputs is always single.
    pub fn run(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        controlled(|| self.run_now(requests))
    }

    /// Has a crash in one of its runs name this.
    pub fn with_activity(self, activity: Arc<Activity>) -> Self {
        Instance { activity: Some(activity), ..self }
    }

    fn run_now(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        let _running = self.activity.as_ref().map(|activity| activity.begin(Phase::Run));
        if let Some(staged) = &mut self.staged {
            return staged.run(requests);
        }
        if let Some(worker) = &mut self.worker {
            return worker.run(requests);
        }
        let started = Instant::now();
        if let Some(kept) = self.kept.as_mut().and_then(|kept| kept.fitting(requests)) {
            kept.fill(requests[0]);
            let filled = Instant::now();
            let ran = kept.run();
            let run = filled.elapsed();
            if ran.is_ok() {
                return BatchRun { outputs: kept.outputs(), input: filled - started, run };
            }
            // An ordinary run tells whether that is to blame.
            if let Some(kept) = &mut self.kept {
                kept.forget();
            }
            let ran = self.run_anew(requests, started);
            if ran.outputs.is_ok() {
                self.foreseen.was_wrong();
            }
            return ran;
        }
        let ran = self.run_anew(requests, started);
        if let ([request], Ok(outputs)) = (requests, &ran.outputs)
            && self.kept.as_mut().is_some_and(Kept::is_due)
        {
            self.keep(request, outputs);
        }
        ran
    }

    /// Keeps the run of a lone request, if the shapes of its outputs are sure to come again.
    fn keep(&mut self, request: &ModelInputs, outputs: &[Tensor]) {
        let rows = request.rows();
        let named = || self.signature.outputs.iter().zip(outputs).enumerate();
        if named()
            .all(|(index, (spec, output))| self.foreseen.shape(index, spec, rows).as_ref() == Some(output.shape()))
            && let (Some(kept), Some(session)) = (&mut self.kept, &self.session)
        {
            kept.keep(session, &self.pool, &self.memory, request, outputs);
        }
        for (index, (spec, output)) in self.signature.outputs.iter().zip(outputs).enumerate() {
            self.foreseen.came(index, spec, rows, output.shape());
        }
    }

    /// Runs requests with values that are made for them.
    pub(super) fn run_anew(&mut self, requests: &[&ModelInputs], started: Instant) -> BatchRun {
        let inputs = match self.stack(requests) {
            Ok(inputs) => inputs,
            Err(error) => {
                let outputs = Err(run_error(&error));
                return BatchRun { outputs, input: started.elapsed(), run: Duration::ZERO };
            }
        };
        let Stacked { values, optional, regions } = inputs;
        let stacked = Instant::now();
        // Kernels of sums over nothing leave their outputs as they were.
        let zeroed = has_zero_extent(requests);
        let ran = match &self.session {
            Some(session) => session.run(&values, &optional, &self.pool, zeroed),
            None => Err(ort::Error::new("it has no session in this process: this is a defect of the server")),
        };
        let run = stacked.elapsed();
        self.buffers.iter_mut().for_each(Buffer::release_large);
        let outputs = ran.map_err(|error| run_error(&error)).and_then(|outputs| {
            let named = self.signature.outputs.iter().zip(outputs);
            named
                .map(|(spec, value)| {
                    let value = value.ok_or_else(|| format!("no output '{}' came back", spec.name));
                    value.and_then(|value| output_tensor(value, spec, &regions)).map_err(Error::internal)
                })
                .collect()
        });
        BatchRun { outputs, input: stacked - started, run }
    }

    /// The same, though runs of as many rows have been recorded.
    pub fn run_unrecorded(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        controlled(|| match &mut self.staged {
            Some(staged) => staged.run_unrecorded(requests),
            None => self.run_now(requests),
        })
    }

    /// Records the run of these requests: from now on batches of no more rows are filled up to as many, and replay it.
    ///
    /// # Errors
    /// For people: why it can't be recorded.
    pub fn record(&mut self, requests: &[&ModelInputs]) -> Result<(), String> {
        let staged = self.staged.as_mut().ok_or("it does not run on a device")?;
        controlled(|| staged.record(requests))
    }

    /// Replays no recorded runs any more.
    pub fn forget(&mut self) {
        if let Some(staged) = &mut self.staged {
            staged.forget();
        }
    }

    /// Whether memory is ready for any output before a run.
    #[cfg(test)]
    pub(super) fn foresees(&self) -> bool {
        self.staged.as_ref().is_some_and(|staged| staged.foresees())
    }

    /// Whether a run is kept.
    #[cfg(test)]
    pub(super) fn keeps(&self) -> bool {
        self.kept.as_ref().is_some_and(Kept::is_some)
    }

    /// The inputs of a run: those of the requests, stacked.
    fn stack(&mut self, requests: &[&ModelInputs]) -> ort::Result<Stacked> {
        take_refusal();
        let mut stacked = Stacked::default();
        let (required, optional) = self.buffers.split_at_mut(self.signature.inputs.len());
        for (index, buffer) in required.iter_mut().enumerate() {
            let parts = requests.iter().map(|request| &request.required[index]);
            let (value, region) = stack_input(buffer, parts, &self.memory, &self.pool)?;
            stacked.values.push(value);
            stacked.regions.push(region);
        }
        for (index, tensor) in requests.iter().flat_map(|request| &request.optional) {
            let (value, region) =
                stack_input(&mut optional[*index], std::iter::once(tensor), &self.memory, &self.pool)?;
            stacked.optional.push((*index, value));
            stacked.regions.push(region);
        }
        Ok(stacked)
    }
}

/// Whether any tensor of the requests has no elements.
fn has_zero_extent(requests: &[&ModelInputs]) -> bool {
    let optional = |request: &&ModelInputs| request.optional.iter().any(|(_, tensor)| is_empty(tensor));
    requests.iter().any(|request| request.required.iter().any(is_empty) || optional(request))
}

fn is_empty(tensor: &Tensor) -> bool {
    tensor.shape().extents().contains(&0)
}

/// One for each input.
fn buffers(signature: &Signature) -> Vec<Buffer> {
    signature.all_inputs().map(|_| Buffer::default()).collect()
}

/// The inputs of a run, over memory of the requests and the instance.
#[derive(Default)]
struct Stacked {
    /// One per input that must be given.
    values: Vec<Value>,
    /// The optional ones that are given, with their index.
    optional: Vec<(usize, Value)>,
    /// The addresses that they lie at.
    regions: Vec<Range<usize>>,
}

/// The stacked value of one input of each request, and the addresses that it lies at.
#[allow(unsafe_code, reason = "hands ONNX Runtime the stacked memory without a copy")]
fn stack_input<'p>(
    buffer: &mut Buffer,
    parts: impl ExactSizeIterator<Item = &'p Tensor> + Clone,
    memory: &MemoryInfo<'static>,
    pool: &Arc<Pool>,
) -> ort::Result<(Value, Range<usize>)> {
    let (datatype, extents) = extents(parts.clone())?;
    let data = parts.map(Tensor::data);
    if datatype.size().is_none() {
        return strings::input_value(&extents, data).map(|value| (value, 0..0));
    }
    let length = data.clone().map(Bytes::len).sum::<usize>();
    let start = buffer.stack(data, pool)?;
    // SAFETY: `start` is aligned to 64 bytes and holds the bytes of all the requests' tensors, whose lengths fit their
    // shapes by construction. It is the tensors' own memory or the instance's buffer; both outlive the value, which is dropped
    // with the run before the buffer is used again.
    let value = unsafe { Value::over(datatype, &extents, memory, start, length) }?;
    Ok((value, start.addr()..start.addr() + length))
}

/// The datatype of an input's tensors, and the extents of the one that they are stacked to.
pub(super) fn extents<'p>(
    mut parts: impl ExactSizeIterator<Item = &'p Tensor> + Clone,
) -> ort::Result<(Datatype, Vec<i64>)> {
    let mut rest = parts.clone();
    let first = parts.next().ok_or_else(|| ort::Error::new("there is no request in the batch"))?;
    let mut extents: Vec<i64> = first.shape().to_wire().collect();
    if let (Some(rows), true) = (extents.first_mut(), rest.len() > 1) {
        *rows = rest.by_ref().map(|part| part.shape().rows() as i64).sum();
    }
    Ok((first.datatype(), extents))
}

/// Takes over an output. Its memory stays ONNX Runtime's until the last slice of it is dropped; nothing is copied, unless it
/// lies in an input (a graph may pass an input through), which will be overwritten.
#[allow(unsafe_code, reason = "reads the output's memory, whose type is known only at run time")]
pub(super) fn output_tensor(value: Value, spec: &TensorSpec, inputs: &[Range<usize>]) -> Result<Tensor, String> {
    let wrong = |what: String| format!("output '{}' {what}", spec.name);
    let (datatype, extents) = value.describe().map_err(|error| wrong(format!("is not a tensor: {error}")))?;
    if datatype != Some(spec.datatype) {
        let came = datatype.map_or("elements that the protocol has no datatype for", Datatype::name);
        return Err(wrong(format!("came as {came}, expected {}", spec.datatype)));
    }
    let shape = extents.iter().map(|&extent| usize::try_from(extent)).collect::<Result<_, _>>();
    let shape = Shape::new(shape.map_err(|_| wrong(format!("came with the shape {extents:?}")))?);
    let elements = shape.elements().map_err(|error| wrong(error.to_string()))?;
    let length = shape.bytes(spec.datatype).map_err(|error| wrong(error.to_string()))?;
    let data = match length {
        _ if elements == 0 => Bytes::new(),
        None => strings::output_data(&value, elements).map_err(wrong)?,
        Some(length) => {
            let start = value.data().map_err(|error| wrong(error.to_string()))?;
            let memory = OutputMemory { start, length, _value: value };
            if inputs.iter().any(|input| input.contains(&start.addr())) {
                Bytes::copy_from_slice(memory.as_ref())
            } else {
                Bytes::from_owner(memory)
            }
        }
    };
    Tensor::new(spec.datatype, shape, data).map_err(|error| wrong(error.to_string()))
}

/// The memory of an output value, which it keeps alive.
struct OutputMemory {
    start: *const u8,
    length: usize,
    _value: Value,
}

// SAFETY: the pointer is into the value, which is Send itself and is never written to.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Send for OutputMemory {}

impl AsRef<[u8]> for OutputMemory {
    #[allow(unsafe_code, reason = "reads the output's memory")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: ONNX Runtime says that the value has `length` bytes (elements of its shape) at `start`; they live as long as the
        // value and nothing writes to them. They are initialised: kernels write their outputs, and where one may leave some
        // unwritten (`model_file/unwritten.rs`, runs with an empty input) the allocator has zeroed them.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}
