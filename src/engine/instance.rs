use bytes::Bytes;
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, SessionInputValue},
    value::{DynValue, Outlet, Shape as OrtShape, ValueType},
};
use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    buffer::Buffer,
    element::{datatype, input_value},
};
use crate::tensor::{Dimension, Shape, Signature, Tensor, TensorSpec};

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
    /// The outputs in the model's order, each over all rows of the batch; or ONNX Runtime's words.
    pub outputs: Result<Vec<Tensor>, String>,
    /// Time to stack the inputs.
    pub input: Duration,
    /// Time in ONNX Runtime.
    pub run: Duration,
}

impl Instance {
    pub(super) fn new(session: Session) -> Result<Self, String> {
        let inputs = specs("input", session.inputs())?;
        let signature = Signature { inputs, outputs: specs("output", session.outputs())? };
        let buffers = signature.inputs.iter().map(|_| Buffer::default()).collect();
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(|error| format!("ONNX Runtime has no CPU memory: {error}"))?;
        Ok(Instance { session, signature, buffers, memory })
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs requests as one batch. Each request has one tensor per input, checked against the signature; within an input, all
    /// have the same inner shape, and are stacked along axis 0 in the order given. A single request runs as it is, scalars
    /// included.
    pub fn run(&mut self, requests: &[&[Tensor]]) -> Ran {
        let started = Instant::now();
        let mut values = Vec::with_capacity(self.signature.inputs.len());
        let mut regions = Vec::with_capacity(self.signature.inputs.len());
        for (index, buffer) in self.buffers.iter_mut().enumerate() {
            match stack_input(index, buffer, requests, &self.memory) {
                Ok((value, region)) => {
                    values.push(value);
                    regions.push(region);
                }
                Err(error) => {
                    return Ran { outputs: Err(error.to_string()), input: started.elapsed(), run: Duration::ZERO };
                }
            }
        }
        let stacked = Instant::now();
        let ran = self.session.run::<0>(values.as_slice());
        let run = stacked.elapsed();
        let outputs = ran.map_err(|error| error.to_string()).and_then(|mut outputs| {
            let names = self.signature.outputs.iter();
            names
                .map(|spec| {
                    let value =
                        outputs.remove(&*spec.name).ok_or_else(|| format!("no output '{}' came back", spec.name))?;
                    output_tensor(value, spec, &regions)
                })
                .collect()
        });
        Ran { outputs, input: stacked - started, run }
    }
}

/// The stacked value of input `index`, and the addresses that it lies at.
#[allow(unsafe_code, reason = "hands ONNX Runtime the stacked memory without a copy")]
fn stack_input<'v>(
    index: usize,
    buffer: &mut Buffer,
    requests: &[&'v [Tensor]],
    memory: &MemoryInfo<'static>,
) -> ort::Result<(SessionInputValue<'v>, Range<usize>)> {
    let first = &requests[0][index];
    let parts = requests.iter().map(|request| request[index].data());
    let length = parts.clone().map(Bytes::len).sum::<usize>();
    let data = buffer.stack(first.datatype(), parts);
    let mut extents: Vec<i64> = first.shape().to_wire().collect();
    if let (Some(rows), true) = (extents.first_mut(), requests.len() > 1) {
        *rows = requests.iter().map(|request| request[index].shape().rows() as i64).sum();
    }
    // SAFETY: `data` is aligned for the datatype and holds the bytes of all the requests' tensors, whose lengths fit their
    // shapes by construction. It is the tensors' own memory or the instance's buffer; both outlive the value, which the run
    // consumes before the buffer is used again. ONNX Runtime does not write to the inputs of a graph.
    let value =
        unsafe { input_value(first.datatype(), memory.clone(), data.cast_mut().cast(), OrtShape::new(extents)) }?;
    Ok((value, data.addr()..data.addr() + length))
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
    let shape = Shape::from_wire(shape).map_err(|error| wrong(error.to_string()))?;
    let length = shape.bytes(spec.datatype).map_err(|error| wrong(error.to_string()))?;
    if length == 0 {
        return Tensor::new(spec.datatype, shape, Bytes::new()).map_err(|error| wrong(error.to_string()));
    }
    let value = value.downcast::<ort::value::DynTensorValueType>().map_err(|error| wrong(error.to_string()))?;
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

/// What the model declares of its inputs or outputs.
fn specs(kind: &str, outlets: &[Outlet]) -> Result<Vec<TensorSpec>, String> {
    outlets.iter().map(|outlet| spec(outlet).map_err(|why| format!("{kind} '{}' {why}", outlet.name()))).collect()
}

/// What the model declares of an input or output, or why it can't be served.
fn spec(outlet: &Outlet) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(format!("is {}: only tensors are served", outlet.dtype()));
    };
    let Some(datatype) = datatype(*ty) else {
        return Err(format!("has elements of type {ty}, which is not served yet"));
    };
    let dimension = |(&extent, symbol): (&i64, &String)| match usize::try_from(extent) {
        Ok(extent) => Dimension::Fixed(extent),
        Err(_) => Dimension::Symbolic((!symbol.is_empty()).then(|| symbol.as_str().into())),
    };
    let shape = shape.iter().zip(dimension_symbols.iter()).map(dimension).collect();
    Ok(TensorSpec { name: outlet.name().into(), datatype, shape })
}
