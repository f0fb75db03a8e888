//! Cached binding: the run of a lone small request with memory of fixed addresses, for the next request of the same shapes. It
//! saves describing memory to ONNX Runtime, having it find some for the outputs, and asking for their shapes.
//!
//! [`super::super::Instance::with_cached_binding`] is the only door: where the environment does not call it, nothing is cached. Without
//! this file the instance loses one field, which `run` asks first and shows its other runs.

use bytes::Bytes;
use ort::memory::MemoryInfo;
use std::{sync::Arc, time::Instant};

use super::{allocator::Pool, binding::Binding};
use crate::{
    engine::{
        batch_buffer::Fixed, batch_run::BatchRun, cuda::predicted_shapes::PredictedShapes, session::SharedSession,
        value::Value,
    },
    error::Result,
    tensor::{ModelInputs, Signature, Tensor},
};

/// Bytes of inputs and outputs at most, which are copied.
const MAX_BYTES: usize = 16 << 10;

/// Number of lone requests before one is bound, and of other shapes before one of those takes its place.
const MISSES_BEFORE_BINDING: u32 = 100;

/// The cached binding of an instance, if there is one yet.
pub(in crate::engine) struct CachedBinding {
    pub bound: Option<BoundRun>,
    /// Lone requests since the last that was of its shapes, or since one was to be bound.
    misses: u32,
    /// True if the last run with the binding failed, which was dropped then.
    has_failed: bool,
    predicted: PredictedShapes,
    session: Arc<SharedSession>,
    signature: Arc<Signature>,
    memory: Arc<MemoryInfo<'static>>,
    pool: Arc<Pool>,
}

/// A run with the memory that it reads and writes.
pub(in crate::engine) struct BoundRun {
    // Goes before the memory that is bound, and the session.
    binding: Binding,
    inputs: Vec<BoundTensor>,
    outputs: Vec<BoundTensor>,
    session: Arc<SharedSession>,
    pool: Arc<Pool>,
}

/// Memory of a tensor that is bound.
struct BoundTensor {
    memory: Fixed,
    /// The first tensor in it, for its datatype and shape.
    like: Tensor,
}

impl CachedBinding {
    /// Nothing is bound at first.
    pub(in crate::engine) fn new(
        session: Arc<SharedSession>,
        signature: Arc<Signature>,
        memory: Arc<MemoryInfo<'static>>,
        pool: Arc<Pool>,
    ) -> Self {
        let predicted = PredictedShapes::new(&signature);
        CachedBinding { bound: None, misses: 0, has_failed: false, predicted, session, signature, memory, pool }
    }

    /// Runs a lone request of the shapes that are bound. `None` if it has others, or the run failed: an ordinary run shows
    /// whether the binding is to blame.
    pub(in crate::engine) fn run(&mut self, requests: &[&ModelInputs], started: Instant) -> Option<BatchRun> {
        let [request] = requests else { return None };
        let Some(bound) = self.bound.as_mut().filter(|bound| bound.takes(request)) else {
            self.misses = self.misses.saturating_add(1);
            return None;
        };
        self.misses = 0;
        bound.fill(request);
        let filled = Instant::now();
        let ran = bound.run();
        let run = filled.elapsed();
        if ran.is_ok() {
            return Some(BatchRun { outputs: bound.outputs(), input: filled - started, run });
        }
        self.bound = None;
        self.has_failed = true;
        None
    }

    /// Learns of an ordinary run of requests that [`Self::run`] did not run. Binds a lone one once enough of them have come.
    pub(in crate::engine) fn observe(&mut self, requests: &[&ModelInputs], run: &BatchRun) {
        let has_failed = std::mem::take(&mut self.has_failed);
        let ([request], Ok(outputs)) = (requests, &run.outputs) else { return };
        if has_failed {
            self.predicted.was_wrong();
        } else if self.misses > MISSES_BEFORE_BINDING {
            self.misses = 0;
            self.bind(request, outputs);
        }
    }

    /// Binds the run of a request that gave these outputs, if their shapes are sure to come again when the inputs have theirs. Where
    /// that can't be, runs go on without.
    fn bind(&mut self, request: &ModelInputs, outputs: &[Tensor]) {
        let rows = request.rows();
        let mut named = self.signature.outputs.iter().zip(outputs).enumerate();
        let is_predicted = named
            .all(|(index, (spec, output))| self.predicted.shape(index, spec, rows).as_ref() == Some(output.shape()));
        let lengths = request.required.iter().chain(outputs).map(|tensor| tensor.data().len());
        let small = lengths.clone().sum::<usize>() <= MAX_BYTES && lengths.clone().all(|length| length > 0);
        let fixed = request.required.iter().all(|input| input.datatype().size().is_some());
        if is_predicted && small && fixed && request.optional.is_empty() {
            self.bound = BoundRun::new(&self.session, &self.pool, &self.memory, request, outputs).ok();
        }
        for (index, (spec, output)) in self.signature.outputs.iter().zip(outputs).enumerate() {
            self.predicted.observe(index, spec, rows, output.shape());
        }
    }
}

impl BoundRun {
    #[allow(unsafe_code, reason = "hands ONNX Runtime memory of fixed addresses")]
    fn new(
        session: &Arc<SharedSession>,
        pool: &Arc<Pool>,
        memory: &MemoryInfo<'static>,
        request: &ModelInputs,
        outputs: &[Tensor],
    ) -> ort::Result<Self> {
        // SAFETY: the session is kept, and goes after the binding.
        let binding = unsafe { Binding::new(session.session()) }?;
        let (inputs, outputs_of_run) = (Vec::new(), Vec::new());
        let mut run =
            BoundRun { binding, inputs, outputs: outputs_of_run, session: session.clone(), pool: pool.clone() };
        for (name, tensor) in session.inputs().iter().zip(&request.required) {
            let (bound, value) = bound_tensor(memory, tensor)?;
            run.inputs.push(bound);
            run.binding.input(name, &value)?;
        }
        for (name, tensor) in session.outputs().iter().zip(outputs) {
            let (bound, value) = bound_tensor(memory, tensor)?;
            run.outputs.push(bound);
            run.binding.output(name, &value)?;
        }
        Ok(run)
    }

    fn takes(&self, request: &ModelInputs) -> bool {
        let mut inputs = self.inputs.iter().zip(&request.required);
        request.optional.is_empty() && inputs.all(|(bound, tensor)| bound.like.shape() == tensor.shape())
    }

    /// Writes a request to the memory that the run reads.
    fn fill(&mut self, request: &ModelInputs) {
        for (bound, tensor) in self.inputs.iter_mut().zip(&request.required) {
            bound.memory.bytes_mut().copy_from_slice(tensor.data());
        }
        // Kernels may leave some unwritten, where the last run's outputs lie.
        if self.pool.account().is_zeroed() {
            self.outputs.iter_mut().for_each(|bound| bound.memory.bytes_mut().fill(0));
        }
    }

    /// Makes the run.
    fn run(&mut self) -> ort::Result<()> {
        self.session.run_bound(&self.binding, &self.pool)
    }

    /// Its outputs: copied, since the next run writes to the same memory.
    fn outputs(&self) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for BoundTensor { memory, like } in &self.outputs {
            let data = Bytes::copy_from_slice(memory.bytes());
            outputs.push(Tensor::new(like.datatype(), like.shape().clone(), data)?);
        }
        Ok(outputs)
    }
}

/// Memory for a tensor such as `like`, and a value over it.
#[allow(unsafe_code, reason = "hands ONNX Runtime memory of fixed addresses")]
fn bound_tensor(memory: &MemoryInfo<'static>, like: &Tensor) -> ort::Result<(BoundTensor, Value)> {
    let length = like.data().len();
    let mut fixed = Fixed::new(length);
    let extents: Vec<i64> = like.shape().to_wire().collect();
    // SAFETY: it is that long and aligned for every datatype. The binding, which keeps the value, goes before the memory, which
    // changes between runs only.
    let value = unsafe { Value::over(like.datatype(), &extents, memory, fixed.bytes_mut().as_ptr(), length) }?;
    // A tensor of its own: the present one may lie in a message.
    let like = Tensor::new(like.datatype(), like.shape().clone(), Bytes::copy_from_slice(like.data()));
    let like = like.map_err(|error| ort::Error::new(error.to_string()))?;
    Ok((BoundTensor { memory: fixed, like }, value))
}
