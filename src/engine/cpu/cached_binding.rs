//! The run of a lone small request, kept for the next of the same shapes. To describe memory to ONNX Runtime, to have it find
//! some for the outputs and to ask what came takes a third of what it takes to run a small model.

use bytes::Bytes;
use ort::memory::MemoryInfo;
use std::sync::Arc;

use super::{allocator::Pool, binding::Binding};
use crate::engine::{batch_buffer::Fixed, session::SharedSession, value::Value};
use crate::{
    error::Result,
    tensor::{ModelInputs, Tensor},
};

/// Bytes of inputs and outputs at most, which are copied.
const SMALL: usize = 16 << 10;

/// Lone requests before the run of one is kept, and of other shapes before it gives way to one of those.
const PATIENCE: u32 = 100;

/// The run that is kept, if there is one.
#[derive(Default)]
pub(in crate::engine) struct Kept {
    run: Option<KeptRun>,
    /// Lone requests since the last that it was for, or since one was to be kept.
    missed: u32,
}

/// A run with the memory that it reads and writes.
pub(in crate::engine) struct KeptRun {
    // Goes before the memory that is bound, and the session.
    binding: Binding,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    session: Arc<SharedSession>,
    pool: Arc<Pool>,
}

/// Where a tensor lies.
struct Place {
    memory: Fixed,
    /// What lay there first, for its datatype and shape.
    like: Tensor,
}

impl Kept {
    /// The run for these requests.
    pub(in crate::engine) fn fitting(&mut self, requests: &[&ModelInputs]) -> Option<&mut KeptRun> {
        let [request] = requests else { return None };
        let fits = self.run.as_ref().is_some_and(|run| run.takes(request));
        self.missed = if fits { 0 } else { self.missed.saturating_add(1) };
        self.run.as_mut().filter(|_| fits)
    }

    /// Whether the run of the present lone request is to be kept.
    pub(in crate::engine) fn is_due(&mut self) -> bool {
        let is_due = self.missed > PATIENCE;
        if is_due {
            self.missed = 0;
        }
        is_due
    }

    /// Keeps the run of a request that gave `outputs`, which always have these shapes when the inputs have theirs. Where that
    /// can't be, runs go on without.
    pub(in crate::engine) fn keep(
        &mut self,
        session: &Arc<SharedSession>,
        pool: &Arc<Pool>,
        memory: &MemoryInfo<'static>,
        request: &ModelInputs,
        outputs: &[Tensor],
    ) {
        let lengths = request.required.iter().chain(outputs).map(|tensor| tensor.data().len());
        let small = lengths.clone().sum::<usize>() <= SMALL && lengths.clone().all(|length| length > 0);
        let fixed = request.required.iter().all(|input| input.datatype().size().is_some());
        if small && fixed && request.optional.is_empty() {
            self.run = KeptRun::new(session, pool, memory, request, outputs).ok();
        }
    }

    /// Whether there is one.
    #[cfg(test)]
    pub(in crate::engine) fn is_some(&self) -> bool {
        self.run.is_some()
    }

    /// Keeps nothing.
    pub(in crate::engine) fn forget(&mut self) {
        self.run = None;
    }
}

impl KeptRun {
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
        let (session_kept, pool) = (session.clone(), pool.clone());
        let mut run = KeptRun { binding, inputs: Vec::new(), outputs: Vec::new(), session: session_kept, pool };
        for (name, tensor) in session.inputs().iter().zip(&request.required) {
            let (place, value) = place(memory, tensor)?;
            run.inputs.push(place);
            run.binding.input(name, &value)?;
        }
        for (name, tensor) in session.outputs().iter().zip(outputs) {
            let (place, value) = place(memory, tensor)?;
            run.outputs.push(place);
            run.binding.output(name, &value)?;
        }
        Ok(run)
    }

    fn takes(&self, request: &ModelInputs) -> bool {
        let mut inputs = self.inputs.iter().zip(&request.required);
        request.optional.is_empty() && inputs.all(|(place, tensor)| place.like.shape() == tensor.shape())
    }

    /// Writes a request to where the run reads it.
    pub(in crate::engine) fn fill(&mut self, request: &ModelInputs) {
        for (place, tensor) in self.inputs.iter_mut().zip(&request.required) {
            place.memory.bytes_mut().copy_from_slice(tensor.data());
        }
        // Kernels may leave some unwritten, and the last run's lie there.
        if self.pool.account().is_zeroed() {
            self.outputs.iter_mut().for_each(|place| place.memory.bytes_mut().fill(0));
        }
    }

    /// Makes the run.
    pub(in crate::engine) fn run(&mut self) -> ort::Result<()> {
        self.session.run_bound(&self.binding, &self.pool)
    }

    /// What it gave: copied, since the next one writes to the same place.
    pub(in crate::engine) fn outputs(&self) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for Place { memory, like } in &self.outputs {
            let data = Bytes::copy_from_slice(memory.bytes());
            outputs.push(Tensor::new(like.datatype(), like.shape().clone(), data)?);
        }
        Ok(outputs)
    }
}

/// Memory for what `like` is one of, and a value over it.
#[allow(unsafe_code, reason = "hands ONNX Runtime memory of fixed addresses")]
fn place(memory: &MemoryInfo<'static>, like: &Tensor) -> ort::Result<(Place, Value)> {
    let length = like.data().len();
    let mut fixed = Fixed::new(length);
    let extents: Vec<i64> = like.shape().to_wire().collect();
    // SAFETY: it is that long and aligned for every datatype. The binding, which keeps the value, goes before the memory, which
    // changes between runs only.
    let value = unsafe { Value::over(like.datatype(), &extents, memory, fixed.bytes_mut().as_ptr(), length) }?;
    // A tensor of its own: the present one may lie in a message.
    let like = Tensor::new(like.datatype(), like.shape().clone(), Bytes::copy_from_slice(like.data()));
    let like = like.map_err(|error| ort::Error::new(error.to_string()))?;
    Ok((Place { memory: fixed, like }, value))
}
