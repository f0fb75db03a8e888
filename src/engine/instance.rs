use bytes::Bytes;
use ort::{
    error::ErrorCode,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, SessionInputValue},
    value::{DynValue, Shape as OrtShape, ValueType},
};
use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    RUNNING,
    buffer::Buffer,
    element::{datatype, input_value},
    strings,
};
use crate::{
    error::{Error, Result},
    tensor::{ModelInputs, Shape, Signature, Tensor, TensorSpec},
};

/// One ONNX Runtime session with the buffers that batches are stacked in. Runs one batch at a time.
pub struct Instance {
    session: Session,
    signature: Signature,
    buffers: Vec<Buffer>,
    memory: MemoryInfo<'static>,
}

/// What a run gave.
#[derive(Debug)]
pub struct Ran {
    /// The outputs in the model's order, each over all rows of the batch; or ONNX Runtime's words, as an error of the client's
    /// where they say that the inputs are to blame.
    pub outputs: Result<Vec<Tensor>>,
    /// Time to stack the inputs.
    pub input: Duration,
    /// Time in ONNX Runtime.
    pub run: Duration,
}

impl Instance {
    pub(super) fn new(session: Session, signature: Signature) -> Result<Self, String> {
        let inputs = signature.inputs.iter().chain(&signature.optional_inputs);
        let buffers = inputs.map(|_| Buffer::default()).collect();
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(|error| format!("ONNX Runtime has no CPU memory: {error}"))?;
        Ok(Instance { session, signature, buffers, memory })
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs requests as one batch. Their inputs have been checked against the signature; within an input, all have the same
    /// inner shape, and are stacked along axis 0 in the order given. A single request runs as it is, scalars included; one
    /// that gives optional inputs is always single.
    pub fn run(&mut self, requests: &[&ModelInputs]) -> Ran {
        let started = Instant::now();
        let inputs = match self.stack(requests) {
            Ok(inputs) => inputs,
            Err(error) => {
                let outputs = Err(run_error(&error));
                return Ran { outputs, input: started.elapsed(), run: Duration::ZERO };
            }
        };
        let Stacked { values, optional, regions } = inputs;
        let stacked = Instant::now();
        RUNNING.set(true);
        let ran = if optional.is_empty() {
            self.session.run::<0>(values.as_slice())
        } else {
            let required = self.signature.inputs.iter().map(|spec| &*spec.name).zip(values);
            let given =
                optional.into_iter().map(|(index, value)| (&*self.signature.optional_inputs[index].name, value));
            self.session.run::<0>(required.chain(given).collect::<Vec<_>>())
        };
        RUNNING.set(false);
        let run = stacked.elapsed();
        let outputs = ran.map_err(|error| run_error(&error)).and_then(|mut outputs| {
            let names = self.signature.outputs.iter();
            names
                .map(|spec| {
                    let value = outputs.remove(&*spec.name);
                    let value = value.ok_or_else(|| format!("no output '{}' came back", spec.name));
                    value.and_then(|value| output_tensor(value, spec, &regions)).map_err(Error::internal)
                })
                .collect()
        });
        Ran { outputs, input: stacked - started, run }
    }

    /// The inputs of a run: those of the requests, stacked.
    fn stack<'v>(&mut self, requests: &[&'v ModelInputs]) -> ort::Result<Stacked<'v>> {
        let mut stacked = Stacked::default();
        let (required, optional) = self.buffers.split_at_mut(self.signature.inputs.len());
        for (index, buffer) in required.iter_mut().enumerate() {
            let parts = requests.iter().map(|request| &request.required[index]);
            let (value, region) = stack_input(buffer, parts, &self.memory)?;
            stacked.values.push(value);
            stacked.regions.push(region);
        }
        for (index, tensor) in requests.iter().flat_map(|request| &request.optional) {
            let (value, region) = stack_input(&mut optional[*index], std::iter::once(tensor), &self.memory)?;
            stacked.optional.push((*index, value));
            stacked.regions.push(region);
        }
        Ok(stacked)
    }
}

/// The inputs of a run, over memory of the requests and the instance.
#[derive(Default)]
struct Stacked<'v> {
    /// One per input that must be given.
    values: Vec<SessionInputValue<'v>>,
    /// The optional ones that are given, with their index.
    optional: Vec<(usize, SessionInputValue<'v>)>,
    /// The addresses that they lie at.
    regions: Vec<Range<usize>>,
}

/// What ONNX Runtime says of a run that failed. It tells an input that no check could refuse, such as an index beyond a table.
fn run_error(error: &ort::Error) -> Error {
    match error.code() {
        ErrorCode::InvalidArgument => Error::invalid(error.to_string()),
        _ => Error::internal(error.to_string()),
    }
}

/// The stacked value of one input of each request, and the addresses that it lies at.
#[allow(unsafe_code, reason = "hands ONNX Runtime the stacked memory without a copy")]
fn stack_input<'v>(
    buffer: &mut Buffer,
    parts: impl ExactSizeIterator<Item = &'v Tensor> + Clone,
    memory: &MemoryInfo<'static>,
) -> ort::Result<(SessionInputValue<'v>, Range<usize>)> {
    let mut tensors = parts.clone();
    let Some(first) = tensors.next() else {
        return Err(ort::Error::new("there is no request in the batch"));
    };
    let mut extents: Vec<i64> = first.shape().to_wire().collect();
    if let (Some(rows), true) = (extents.first_mut(), parts.len() > 1) {
        *rows = parts.clone().map(|part| part.shape().rows() as i64).sum();
    }
    let shape = OrtShape::new(extents);
    let data = parts.map(Tensor::data);
    let Some(size) = first.datatype().size() else {
        return strings::input_value(shape, data).map(|value| (value, 0..0));
    };
    let length = data.clone().map(Bytes::len).sum::<usize>();
    let start = buffer.stack(size, data);
    // SAFETY: `start` is aligned for the datatype and holds the bytes of all the requests' tensors, whose lengths fit their
    // shapes by construction. It is the tensors' own memory or the instance's buffer; both outlive the value, which the run
    // consumes before the buffer is used again. ONNX Runtime does not write to the inputs of a graph.
    let value = unsafe { input_value(first.datatype(), memory.clone(), start.cast_mut().cast(), shape) };
    let value = value.unwrap_or_else(|| Err(ort::Error::new("an element of known size has no value type")))?;
    Ok((value, start.addr()..start.addr() + length))
}

/// Takes over an output. Its memory stays ONNX Runtime's until the last slice of it is dropped; nothing is copied, unless it
/// lies in an input (a graph may pass an input through), which will be overwritten.
#[allow(unsafe_code, reason = "reads the output's memory, whose type is known only at run time")]
fn output_tensor(value: DynValue, spec: &TensorSpec, inputs: &[Range<usize>]) -> Result<Tensor, String> {
    let wrong = |what: String| format!("output '{}' {what}", spec.name);
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(wrong(format!("is {}, not a tensor", value.dtype())));
    };
    if datatype(*ty) != Some(spec.datatype) {
        return Err(wrong(format!("came as {ty}, expected {}", spec.datatype)));
    }
    let extents = shape.iter().map(|&extent| usize::try_from(extent)).collect::<Result<_, _>>();
    let shape = Shape::new(extents.map_err(|_| wrong(format!("came with the shape {shape:?}")))?);
    let elements = shape.elements().map_err(|error| wrong(error.to_string()))?;
    if elements == 0 {
        return Tensor::new(spec.datatype, shape, Bytes::new()).map_err(|error| wrong(error.to_string()));
    }
    let length = shape.bytes(spec.datatype).map_err(|error| wrong(error.to_string()))?;
    let value = value.downcast::<ort::value::DynTensorValueType>().map_err(|error| wrong(error.to_string()))?;
    let Some(length) = length else {
        let data = strings::output_data(&value, elements).map_err(wrong)?;
        return Tensor::new(spec.datatype, shape, data).map_err(|error| wrong(error.to_string()));
    };
    let start = value.data_ptr().cast::<u8>();
    let memory = OutputMemory { start, length, _value: value };
    let data = if inputs.iter().any(|input| input.contains(&start.addr())) {
        Bytes::copy_from_slice(memory.as_ref())
    } else {
        Bytes::from_owner(memory)
    };
    Tensor::new(spec.datatype, shape, data).map_err(|error| wrong(error.to_string()))
}

/// The memory of an output value, which it keeps alive.
struct OutputMemory {
    start: *const u8,
    length: usize,
    _value: ort::value::DynTensor,
}

// SAFETY: the pointer is into the value, which is Send and Sync itself and is never written to.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Send for OutputMemory {}

impl AsRef<[u8]> for OutputMemory {
    #[allow(unsafe_code, reason = "reads the output's memory")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: ONNX Runtime says that the value has `length` initialised bytes (elements of its shape) at `start`; they
        // live as long as the value and nothing writes to them.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}
