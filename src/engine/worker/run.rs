//! Runs of a worker's session, over inputs and outputs in the shared file.

use bytes::Bytes;
use ort::{memory::MemoryInfo, session::RunOptions};
use std::{collections::HashMap, ptr};

use super::{
    memory::{Mapping, SharedFile},
    messages::{Area, AreaTensor, RunCommand},
};
use crate::{
    engine::{
        batch_values::output_tensor, cuda::predicted_shapes::PredictedShapes, failure_cause::FailureCause,
        run_error::run_error, session::SharedSession, strings, value::Value,
    },
    error::{Error, Result},
    tensor::{self, ALIGNMENT, Datatype, Shape, Signature},
};

/// A model with what is known of its outputs.
pub(super) struct LoadedModel {
    session: SharedSession,
    signature: Signature,
    predicted: PredictedShapes,
}

/// Outputs of a run.
pub(super) enum Made {
    /// All outputs are in the output area.
    InPlace(Vec<AreaTensor>),
    /// They lie in the worker's memory; the inputs had so many rows.
    Elsewhere(Vec<tensor::Tensor>, usize),
}

/// Outputs after an attempt to write them to the output area.
pub(super) enum WriteOutcome {
    All(Vec<AreaTensor>),
    /// The area is smaller than this.
    Lacks(u64, Made),
}

/// Mapped areas of the file, by their offset.
#[derive(Default)]
pub(super) struct Areas(HashMap<u64, (Mapping, usize)>);

impl Areas {
    /// Where an area begins in this process, and its size.
    fn get(&mut self, file: &SharedFile, area: Area) -> Result<(*mut u8, usize)> {
        let size = usize::try_from(area.size).map_err(|error| Error::internal(error.to_string()))?;
        if size == 0 {
            return Ok((ptr::null_mut(), 0));
        }
        // A place keeps its size for as long as the file lives.
        if self.0.get(&area.offset).is_none_or(|(_, known)| *known != size) {
            let mapping = Mapping::new(file, area.offset, size);
            let mapping =
                mapping.map_err(|error| Error::internal(format!("shared memory can't be mapped: {error}")))?;
            self.0.insert(area.offset, (mapping, size));
        }
        Ok(self.0.get(&area.offset).map_or((ptr::null_mut(), 0), |(mapping, size)| (mapping.start(), *size)))
    }

    fn bytes_mut(&mut self, file: &SharedFile, area: Area) -> Result<&mut [u8]> {
        let (_, size) = self.get(file, area)?;
        Ok(self.0.get_mut(&area.offset).map_or(&mut [], |(mapping, _)| mapping.bytes_mut(size)))
    }
}

impl LoadedModel {
    pub(super) fn new(session: SharedSession, signature: Signature) -> Self {
        let predicted = PredictedShapes::new(&signature);
        LoadedModel { session, signature, predicted }
    }

    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs a batch.
    pub(super) fn run(
        &mut self,
        run: &RunCommand,
        file: &SharedFile,
        areas: &mut Areas,
        memory: &MemoryInfo<'static>,
        options: Option<&RunOptions>,
    ) -> Result<Made> {
        for offset in &run.retired {
            areas.0.remove(offset);
        }
        let input = areas.get(file, run.input.unwrap_or_default())?;
        let (mut values, mut optional, mut regions) = (Vec::new(), Vec::new(), Vec::new());
        for tensor in &run.inputs {
            let index = tensor.index as usize;
            let spec = self.signature.all_inputs().nth(index);
            let spec = spec.ok_or_else(|| Error::internal(format!("the model has no input {index}")))?;
            let (value, region) = input_value(spec.datatype, tensor, input, memory)?;
            regions.push(region);
            match index.checked_sub(self.signature.inputs.len()) {
                Some(index) => optional.push((index, value)),
                None => values.push(value),
            }
        }
        if values.len() != self.signature.inputs.len() {
            return Err(Error::internal(format!("{} of the model's inputs came", values.len())));
        }
        let extents = run.inputs.first().map_or(&[][..], |tensor| &tensor.extents);
        let rows = extents.first().map_or(1, |extent| *extent as usize);
        // Optional inputs may change the outputs' shapes, and a kernel may write no output for an empty input.
        let is_plain = optional.is_empty() && run.inputs.iter().all(|tensor| tensor.length > 0);
        if is_plain
            && let Some((places, outputs)) =
                self.places(rows, areas.bytes_mut(file, run.output.unwrap_or_default())?, memory)?
        {
            let ran = self.session.run_into(&values, &optional, &places, options, false);
            match ran {
                Ok(_) => return Ok(Made::InPlace(outputs)),
                // Stopped.
                Err(error) if FailureCause::of(&error) == FailureCause::Stopped => return Err(run_error(&error)),
                // The places may be to blame: the run without them shows it.
                Err(_) => {}
            }
            let made = self.session.run_into(&values, &optional, &[], options, false);
            let made = made.map_err(|error| run_error(&error))?;
            self.predicted.was_wrong();
            return self.elsewhere(made, &regions, rows);
        }
        // Kernels of sums over nothing leave their outputs as they were.
        let zeroed = run.inputs.iter().any(|tensor| tensor.length == 0);
        let made = self.session.run_into(&values, &optional, &[], options, zeroed);
        let made = made.map_err(|error| run_error(&error))?;
        self.elsewhere(made, &regions, rows)
    }

    /// Places for all outputs in the area, where the shapes of all are known and there is room. They are cleared: a kernel that
    /// leaves a part of its output unwritten is not to show what was there before.
    #[allow(unsafe_code, reason = "hands ONNX Runtime memory for outputs")]
    #[allow(clippy::type_complexity, reason = "values, and what the server is told of them")]
    fn places(
        &self,
        rows: usize,
        area: &mut [u8],
        memory: &MemoryInfo<'static>,
    ) -> Result<Option<(Vec<Option<Value>>, Vec<AreaTensor>)>> {
        let (mut end, mut found) = (0usize, Vec::new());
        for (index, spec) in self.signature.outputs.iter().enumerate() {
            let Some(shape) = self.predicted.shape(index, spec, rows) else { return Ok(None) };
            let Some(length) = shape.bytes(spec.datatype)?.filter(|length| *length > 0) else { return Ok(None) };
            let start = end.next_multiple_of(ALIGNMENT);
            end = start.saturating_add(length);
            found.push((spec.datatype, shape, start, length));
        }
        let Some(taken) = area.get_mut(..end) else { return Ok(None) };
        taken.fill(0);
        let (mut values, mut outputs) = (Vec::new(), Vec::new());
        for (datatype, shape, start, length) in found {
            let extents: Vec<i64> = shape.to_wire().collect();
            let place = &mut taken[start..start + length];
            // SAFETY: the place has the length that the shape takes, begins at a multiple of 64 in an area that begins at a page,
            // and is nothing else's. The area stays mapped for longer than the run, with which the value is dropped.
            let value = unsafe { Value::over(datatype, &extents, memory, place.as_mut_ptr(), length) };
            values.push(Some(value.map_err(|error| run_error(&error))?));
            outputs.push(described(outputs.len(), &shape, start, length));
        }
        Ok(Some((values, outputs)))
    }

    fn elsewhere(&self, made: Vec<Option<Value>>, inputs: &[std::ops::Range<usize>], rows: usize) -> Result<Made> {
        let mut outputs = Vec::with_capacity(made.len());
        for (spec, value) in self.signature.outputs.iter().zip(made) {
            let value = value.ok_or_else(|| Error::internal(format!("no output '{}' came back", spec.name)))?;
            outputs.push(output_tensor(value, spec, inputs).map_err(Error::internal)?);
        }
        Ok(Made::Elsewhere(outputs, rows))
    }

    /// Has outputs lie in the area.
    pub(super) fn write(
        &mut self,
        made: Made,
        area: Area,
        file: &SharedFile,
        areas: &mut Areas,
    ) -> Result<WriteOutcome> {
        let (outputs, rows) = match made {
            Made::InPlace(outputs) => return Ok(WriteOutcome::All(outputs)),
            Made::Elsewhere(outputs, rows) => (outputs, rows),
        };
        let (mut end, mut starts) = (0usize, Vec::new());
        for output in &outputs {
            let start = end.next_multiple_of(ALIGNMENT);
            starts.push(start);
            end = start.saturating_add(output.data().len());
        }
        let Some(taken) = areas.bytes_mut(file, area)?.get_mut(..end) else {
            return Ok(WriteOutcome::Lacks(end as u64, Made::Elsewhere(outputs, rows)));
        };
        let mut written = Vec::new();
        for (index, (output, start)) in outputs.iter().zip(starts).enumerate() {
            let length = output.data().len();
            taken[start..start + length].copy_from_slice(output.data());
            written.push(described(index, output.shape(), start, length));
            self.predicted.observe(index, &self.signature.outputs[index], rows, output.shape());
        }
        Ok(WriteOutcome::All(written))
    }
}

fn described(index: usize, shape: &Shape, start: usize, length: usize) -> AreaTensor {
    let extents = shape.extents().iter().map(|extent| *extent as u64).collect();
    AreaTensor { offset: start as u64, length: length as u64, extents, index: index as u32 }
}

/// An input as ONNX Runtime takes it, and the addresses that it lies at.
#[allow(unsafe_code, reason = "hands ONNX Runtime the shared memory without a copy")]
fn input_value(
    datatype: Datatype,
    tensor: &AreaTensor,
    (area, size): (*mut u8, usize),
    memory: &MemoryInfo<'static>,
) -> Result<(Value, std::ops::Range<usize>)> {
    let wrong = || Error::internal("the server described an input wrongly: this is a defect");
    let extents: Vec<usize> = tensor.extents.iter().map(|extent| *extent as usize).collect();
    let shape = Shape::new(extents);
    let (start, length) = (tensor.offset as usize, tensor.length as usize);
    if start.checked_add(length).is_none_or(|end| end > size) || !start.is_multiple_of(ALIGNMENT) {
        return Err(wrong());
    }
    let extents: Vec<i64> = shape.to_wire().collect();
    let Some(expected) = shape.bytes(datatype)? else {
        // SAFETY: the area has these bytes, which nothing writes to while this call lasts.
        let data = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(area.add(start), length) } };
        let data = tensor::Tensor::new(datatype, shape, Bytes::copy_from_slice(data))?.into_data();
        let value = strings::input_value(&extents, std::iter::once(&data)).map_err(|error| run_error(&error))?;
        return Ok((value, 0..0));
    };
    if expected != length {
        return Err(wrong());
    }
    // Of nothing there may be no area.
    let data = if length == 0 { ptr::without_provenance(ALIGNMENT) } else { area.wrapping_add(start).cast_const() };
    // SAFETY: the area has so many bytes there, aligned to 64; it stays mapped, and the server does not write to it, until the run
    // is answered, before which the value is dropped.
    let value = unsafe { Value::over(datatype, &extents, memory, data, length) }.map_err(|error| run_error(&error))?;
    Ok((value, data.addr()..data.addr() + length))
}
