//! An instance: a session with the buffers that batches are stacked in, which runs one batch at a time.

mod in_worker;
#[cfg(test)]
mod test_access;

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
    batch_buffer::InputBuffer,
    batch_run::BatchRun,
    batch_values::{output_tensor, stacked_extents},
    cpu::{
        allocator::{Pool, take_refusal},
        cached_binding::CachedBinding,
    },
    cuda::{device_run::DeviceRun, pinned_memory::PinnedAllocator},
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
    host::crash::{Activity, ActivityPhase},
    metrics::HeldMemory,
    tensor::{ModelInputs, Signature, Tensor},
};

/// An ONNX Runtime session with the buffers that batches are stacked in. It runs one batch at a time.
pub struct Instance {
    /// `None` where it is in a worker process.
    session: Option<Arc<SharedSession>>,
    signature: Arc<Signature>,
    buffers: Vec<InputBuffer>,
    /// The binding of lone small requests; `None` where none may be cached.
    cached: Option<CachedBinding>,
    memory: Arc<MemoryInfo<'static>>,
    /// Memory of its runs.
    pool: Arc<Pool>,
    uneven: Option<Arc<str>>,
    hazard: Option<Arc<str>>,
    zero_extents: Arc<NeedsElements>,
    rows: Arc<RowAnalysis>,
    /// Runs on its device, where it has one.
    device: Option<Box<DeviceRun>>,
    /// The worker process that runs it, where it has one.
    worker: Option<Box<Worker>>,
    /// Name of it in the report of a crash of this process.
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
        let buffers = buffers(&signature);
        let uneven = uneven.map(Into::into);
        let (session, signature, memory) = (Some(session.into()), signature.into(), memory.into());
        Ok(Instance {
            session,
            signature,
            buffers,
            cached: None,
            memory,
            pool,
            uneven,
            hazard: None,
            zero_extents: Arc::default(),
            rows: Arc::default(),
            device: None,
            worker: None,
            activity: None,
        })
    }

    /// The same, for a provider that reads inputs and writes outputs where they lie: it caches a binding. Others copy what is
    /// bound when it is bound, and a later run would answer what the first one was asked.
    pub(super) fn with_cached_binding(self) -> Self {
        let new = |session: &Arc<SharedSession>| {
            CachedBinding::new(session.clone(), self.signature.clone(), self.memory.clone(), self.pool.clone())
        };
        Instance { cached: self.session.as_ref().map(new), ..self }
    }

    /// The same, for a device that fetches batches from this memory.
    pub(super) fn on_device(mut self, memory: PinnedAllocator, captures_graphs: bool) -> Result<Self, String> {
        let session = self.session.clone().ok_or("it runs in a process of its own")?;
        let (signature, described) = (self.signature.clone(), self.memory.clone());
        self.device = Some(DeviceRun::new(session, signature, memory, described, captures_graphs)?.into());
        Ok(self)
    }

    /// The session, for what it has; `None` where it is in a worker process.
    pub(super) fn session(&self) -> Option<&SharedSession> {
        self.session.as_deref()
    }

    /// Another over the same session: it has buffers of its own, and takes no more memory than those. One in a worker process
    /// has no session to share.
    pub fn sharing(&self) -> Self {
        let sharing = Instance {
            session: self.session.clone(),
            signature: self.signature.clone(),
            buffers: buffers(&self.signature),
            cached: None,
            memory: self.memory.clone(),
            pool: self.pool.sibling(),
            uneven: self.uneven.clone(),
            hazard: self.hazard.clone(),
            zero_extents: self.zero_extents.clone(),
            rows: self.rows.clone(),
            device: self.device.as_ref().map(|device| device.sharing().into()),
            worker: None,
            activity: self.activity.clone(),
        };
        if self.cached.is_some() { sharing.with_cached_binding() } else { sharing }
    }

    /// Host memory that its session holds. Instances over one session share it.
    pub fn held_memory(&self) -> &Arc<HeldMemory> {
        self.pool.account().held()
    }

    /// The reason that runs of as many rows may differ much in their cost, for people; `None` where they don't, as far as the model's
    /// graph shows.
    pub fn uneven(&self) -> Option<&str> {
        self.uneven.as_deref()
    }

    /// The reason that one request could end the process that runs the model, for people; `None` where no such way is known.
    pub fn hazard(&self) -> Option<&str> {
        self.hazard.as_deref()
    }

    /// Extents of a request that may not be zero, as far as the model's graph shows.
    pub fn needs_elements(&self) -> &Arc<NeedsElements> {
        &self.zero_extents
    }

    /// Rows of a batch, as the model's graph treats them.
    pub fn row_analysis(&self) -> &Arc<RowAnalysis> {
        &self.rows
    }

    /// The same with the findings of the look at the model's graph.
    pub(super) fn with_findings(self, hazard: Option<String>, zero_extents: NeedsElements, rows: RowAnalysis) -> Self {
        let hazard = hazard.map(Into::into);
        Instance { hazard, zero_extents: zero_extents.into(), rows: rows.into(), ..self }
    }

    /// The model's inputs and outputs.
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
        let _running = self.activity.as_ref().map(|activity| activity.begin(ActivityPhase::Run));
        if let Some(device) = &mut self.device {
            return device.run(requests);
        }
        if let Some(worker) = &mut self.worker {
            return worker.run(requests);
        }
        let started = Instant::now();
        if let Some(run) = self.cached.as_mut().and_then(|cached| cached.run(requests, started)) {
            return run;
        }
        let run = self.run_unbound(requests, started);
        if let Some(cached) = &mut self.cached {
            cached.observe(requests, &run);
        }
        run
    }

    /// Runs requests with values that are made for them.
    pub(super) fn run_unbound(&mut self, requests: &[&ModelInputs], started: Instant) -> BatchRun {
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
        self.buffers.iter_mut().for_each(InputBuffer::release_large);
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

    /// Runs requests as one batch, without CUDA graphs.
    pub fn run_without_graphs(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        controlled(|| match &mut self.device {
            Some(device) => device.run_without_graphs(requests),
            None => self.run_now(requests),
        })
    }

    /// Captures the run of these requests as a CUDA graph: from now on batches of no more rows are filled up to as many, and
    /// replay it.
    ///
    /// # Errors
    /// For people: the reason that it can't be captured.
    pub fn capture_graph(&mut self, requests: &[&ModelInputs]) -> Result<(), String> {
        let device = self.device.as_mut().ok_or("it does not run on a device")?;
        controlled(|| device.capture_graph(requests))
    }

    /// Drops all CUDA graphs.
    pub fn drop_graphs(&mut self) {
        if let Some(device) = &mut self.device {
            device.drop_graphs();
        }
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

/// True if any tensor of the requests has no elements.
fn has_zero_extent(requests: &[&ModelInputs]) -> bool {
    let optional = |request: &&ModelInputs| request.optional.iter().any(|(_, tensor)| is_empty(tensor));
    requests.iter().any(|request| request.required.iter().any(is_empty) || optional(request))
}

fn is_empty(tensor: &Tensor) -> bool {
    tensor.shape().extents().contains(&0)
}

/// One for each input.
fn buffers(signature: &Signature) -> Vec<InputBuffer> {
    signature.all_inputs().map(|_| InputBuffer::default()).collect()
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
    buffer: &mut InputBuffer,
    parts: impl ExactSizeIterator<Item = &'p Tensor> + Clone,
    memory: &MemoryInfo<'static>,
    pool: &Arc<Pool>,
) -> ort::Result<(Value, Range<usize>)> {
    let (datatype, extents) = stacked_extents(parts.clone())?;
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
