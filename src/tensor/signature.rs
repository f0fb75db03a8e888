use std::{
    fmt::{self, Display},
    sync::Arc,
};

use super::{Datatype, Inputs, NamedTensor, Shape, Tensor, write_list};
use crate::error::{Error, Result};

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The inputs, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// The outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, which may hold any characters.
    pub name: Arc<str>,
    /// Type of the elements.
    pub datatype: Datatype,
    /// The axes. Declared output shapes can be wrong: they are told to clients, never relied on.
    pub shape: Vec<Dimension>,
}

/// One axis of a model's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// Always this extent.
    Fixed(usize),
    /// Any extent; the name, where the model gives one, is shared by axes that have the same extent.
    Symbolic(Option<Arc<str>>),
}

impl Dimension {
    /// The extent as the wire has it: -1 for any.
    pub fn to_wire(&self) -> i64 {
        match self {
            Dimension::Fixed(extent) => *extent as i64,
            Dimension::Symbolic(_) => -1,
        }
    }
}

impl Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_wire().fmt(f)
    }
}

impl Signature {
    /// Whether axis 0 of every input can be the batch: there is one, and its extent is not fixed.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn open_batch_axis(&self) -> Result<(), String> {
        if self.inputs.is_empty() {
            return Err("the model has no inputs".into());
        }
        self.inputs.iter().try_for_each(TensorSpec::open_batch_axis)
    }

    /// Whether axis 0 of every input and output is the batch, by the model's own word: one symbolic dimension that all share.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn batch_axis(&self) -> Result<(), String> {
        self.open_batch_axis()?;
        self.outputs.iter().try_for_each(TensorSpec::open_batch_axis)?;
        let mut shared: Option<(&TensorSpec, &str)> = None;
        for spec in self.inputs.iter().chain(&self.outputs) {
            let Some(Dimension::Symbolic(Some(name))) = spec.shape.first() else {
                return Err(format!("axis 0 of '{}' has no name that says it is the batch", spec.name));
            };
            match shared {
                None => shared = Some((spec, name)),
                Some((_, other)) if *other == **name => {}
                Some((first, other)) => {
                    return Err(format!(
                        "axis 0 of '{}' is '{other}', but axis 0 of '{}' is '{name}'",
                        first.name, spec.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// The request's tensors in the model's order, every one checked against the signature.
    ///
    /// # Errors
    /// Names the model, the tensor, what was expected and what came.
    pub fn check(&self, model: &str, inputs: Inputs) -> Result<Vec<Tensor>> {
        let named = match inputs {
            Inputs::Named(named) => named,
            Inputs::Raw(data) => return Ok(vec![self.raw_input(model, data)?]),
        };
        let mut ordered: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        for NamedTensor { name, tensor } in named {
            let Some(index) = self.inputs.iter().position(|spec| *spec.name == *name) else {
                let names = names(self.inputs.iter());
                return Err(Error::invalid(format!(
                    "unexpected inference input '{name}' for model '{model}'; its inputs are {names}"
                )));
            };
            self.inputs[index].check(model, &tensor)?;
            if ordered[index].replace(tensor).is_some() {
                return Err(Error::invalid(format!("input '{name}' already exists in request for model '{model}'")));
            }
        }
        if ordered.iter().any(Option::is_none) {
            let given = ordered.iter().flatten().count();
            let missing =
                names(self.inputs.iter().zip(&ordered).filter(|(_, got)| got.is_none()).map(|(spec, _)| spec));
            return Err(Error::invalid(format!(
                "expected {} inputs but got {given} inputs for model '{model}'; missing {missing}",
                self.inputs.len(),
            )));
        }
        Ok(ordered.into_iter().flatten().collect())
    }

    /// Indices of the outputs wanted; of all where none is named.
    ///
    /// # Errors
    /// An output that the model does not have, or one named twice.
    pub fn wanted_outputs(&self, model: &str, wanted: &[String]) -> Result<Vec<usize>> {
        if wanted.is_empty() {
            return Ok((0..self.outputs.len()).collect());
        }
        let mut indices = Vec::with_capacity(wanted.len());
        for name in wanted {
            let Some(index) = self.outputs.iter().position(|spec| *spec.name == **name) else {
                let names = names(self.outputs.iter());
                return Err(Error::invalid(format!(
                    "unexpected inference output '{name}' for model '{model}'; its outputs are {names}"
                )));
            };
            if indices.contains(&index) {
                return Err(Error::invalid(format!("output '{name}' is requested twice from model '{model}'")));
            }
            indices.push(index);
        }
        Ok(indices)
    }

    /// Bare bytes as one row of the only input: what the binary tensor extension calls a raw binary request. At most one axis
    /// besides the batch may be variable, since the number of bytes can settle just one.
    fn raw_input(&self, model: &str, data: bytes::Bytes) -> Result<Tensor> {
        let [spec] = self.inputs.as_slice() else {
            return Err(Error::invalid(format!(
                "a raw binary request needs a model with exactly one input, model '{model}' has {}",
                self.inputs.len()
            )));
        };
        let batched = self.batch_axis().is_ok();
        let mut extents = Vec::with_capacity(spec.shape.len());
        let mut open = None;
        for (axis, dimension) in spec.shape.iter().enumerate() {
            match dimension {
                Dimension::Fixed(extent) => extents.push(*extent),
                Dimension::Symbolic(_) if axis == 0 && batched => extents.push(1),
                Dimension::Symbolic(_) => {
                    if open.replace(axis).is_some() {
                        return Err(Error::invalid(format!(
                            "a raw binary request can leave one axis open, input '{}' of model '{model}' has more: {spec}",
                            spec.name
                        )));
                    }
                    extents.push(1);
                }
            }
        }
        if let Some(axis) = open {
            let unit = Shape::new(extents.clone()).bytes(spec.datatype)?.max(1);
            extents[axis] = data.len() / unit;
        }
        let tensor = Tensor::new(spec.datatype, Shape::new(extents), data);
        tensor.map_err(|error| spec.error(model, error.message()))
    }
}

impl TensorSpec {
    fn open_batch_axis(&self) -> Result<(), String> {
        match self.shape.first() {
            None => Err(format!("'{}' is a scalar, so it has no batch axis", self.name)),
            Some(Dimension::Fixed(extent)) => Err(format!("axis 0 of '{}' has the fixed extent {extent}", self.name)),
            Some(Dimension::Symbolic(_)) => Ok(()),
        }
    }

    /// An error about this input.
    fn error(&self, model: &str, what: impl Display) -> Error {
        Error::invalid(format!("input '{}' of model '{model}': {what}", self.name))
    }

    fn check(&self, model: &str, tensor: &Tensor) -> Result<()> {
        if tensor.datatype() != self.datatype {
            return Err(
                self.error(model, format_args!("expected datatype {}, got {}", self.datatype, tensor.datatype()))
            );
        }
        let extents = tensor.shape().extents();
        let fits = extents.len() == self.shape.len()
            && extents.iter().zip(&self.shape).all(|(&extent, dimension)| match dimension {
                Dimension::Fixed(expected) => extent == *expected,
                Dimension::Symbolic(_) => true,
            });
        if fits {
            Ok(())
        } else {
            Err(self.error(model, format_args!("expected shape {self}, got {}", tensor.shape())))
        }
    }
}

/// The shape, as messages show it: -1 stands for any extent.
impl Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.shape)
    }
}

/// `'a', 'b'`, for messages.
fn names<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> String {
    specs.map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ")
}
