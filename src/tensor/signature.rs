use std::{
    collections::HashMap,
    fmt::{self, Display},
    sync::Arc,
};

use super::{Datatype, Inputs, ModelInputs, NamedTensor, Shape, Tensor, push_bytes_element, write_list};
use crate::error::{Error, Result};

/// Inputs and outputs of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The inputs that every request must give, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// The inputs that have a default, which a request may replace.
    pub optional_inputs: Vec<TensorSpec>,
    /// The outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
    /// Axes of inputs that the model gives one name, which says that they have one extent: pairs of an input and its axis.
    same_extent: Vec<[(usize, usize); 2]>,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, which may hold any characters.
    pub name: Arc<str>,
    /// Type of the elements.
    pub datatype: Datatype,
    /// The axes; `None` where the model does not say how many there are. Declared output shapes can be wrong: they are shown
    /// to clients, never relied on.
    pub shape: Option<Vec<Dimension>>,
    /// Names of the classes along the last axis, where the model has them.
    pub labels: Vec<String>,
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
    /// Builds the signature of the inputs and outputs that a model declares.
    pub fn new(inputs: Vec<TensorSpec>, optional_inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Self {
        let mut named: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut same_extent = Vec::new();
        for (input, spec) in inputs.iter().enumerate() {
            for (axis, dimension) in spec.shape.iter().flatten().enumerate() {
                if let Dimension::Symbolic(Some(name)) = dimension {
                    match named.get(&**name) {
                        Some(&first) => same_extent.push([first, (input, axis)]),
                        None => drop(named.insert(name, (input, axis))),
                    }
                }
            }
        }
        Signature { inputs, optional_inputs, outputs, same_extent }
    }

    /// The inputs that a request may give: those that it must, then those with a default.
    pub fn all_inputs(&self) -> impl Iterator<Item = &TensorSpec> {
        self.inputs.iter().chain(&self.optional_inputs)
    }

    /// Two axes to which the model gives one name and the request different extents, as a message says it. That alone is no
    /// error, since ONNX Runtime does not hold models to the names; but where a run fails, it is the likely reason.
    pub fn disagreement(&self, inputs: &ModelInputs) -> Option<String> {
        let extent = |(input, axis): (usize, usize)| inputs.required[input].shape().extents().get(axis);
        let [first, second] = self.same_extent.iter().find(|[first, second]| extent(*first) != extent(*second))?;
        let shown = |(input, axis): (usize, usize)| {
            format!("axis {axis} of '{}' is {}", self.inputs[input].name, extent((input, axis)).copied().unwrap_or(0))
        };
        Some(format!("{}, but {}, which the model gives the same name", shown(*first), shown(*second)))
    }

    /// Pairs of axes that must agree in a request that shares a batch with others: axis 0 of the inputs, and axes behind it that the
    /// model gives one name. Proofs that rows are independent count on it.
    pub fn shared_extents(&self) -> Vec<[(usize, usize); 2]> {
        let rows = (1..self.inputs.len()).map(|input| [(0, 0), (input, 0)]);
        let named = self.same_extent.iter().filter(|[(_, first), (_, second)]| *first > 0 && *second > 0);
        rows.chain(named.copied()).collect()
    }

    /// Checks that axis 0 of every input can be the batch: there is such an axis, and its extent is not fixed.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn open_batch_axis(&self) -> Result<(), String> {
        if self.inputs.is_empty() {
            return Err("the model has no inputs".into());
        }
        self.inputs.iter().try_for_each(TensorSpec::open_batch_axis)
    }

    /// Checks that the model declares axis 0 of every input and output as the batch: one symbolic dimension that all share.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn batch_axis(&self) -> Result<(), String> {
        self.open_batch_axis()?;
        self.outputs.iter().try_for_each(TensorSpec::open_batch_axis)?;
        let mut shared: Option<(&TensorSpec, &str)> = None;
        for spec in self.inputs.iter().chain(&self.outputs) {
            let Some(Dimension::Symbolic(Some(name))) = spec.shape.iter().flatten().next() else {
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
    pub fn check(&self, model: &str, inputs: Inputs) -> Result<ModelInputs> {
        let named = match inputs {
            Inputs::Named(named) => named,
            Inputs::Raw(data) => return Ok(vec![self.raw_input(model, data)?].into()),
        };
        let twice =
            |name: &str| Error::invalid(format!("input '{name}' already exists in request for model '{model}'"));
        let mut required: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        let mut optional: Vec<(usize, Tensor)> = Vec::new();
        for NamedTensor { name, tensor } in named {
            if let Some(index) = position(&self.inputs, &name) {
                self.inputs[index].check(model, &tensor)?;
                if required[index].replace(tensor).is_some() {
                    return Err(twice(&name));
                }
            } else if let Some(index) = position(&self.optional_inputs, &name) {
                self.optional_inputs[index].check(model, &tensor)?;
                if optional.iter().any(|(given, _)| *given == index) {
                    return Err(twice(&name));
                }
                optional.push((index, tensor));
            } else {
                let names = names(self.all_inputs());
                return Err(Error::invalid(format!(
                    "unexpected inference input '{name}' for model '{model}'; its inputs are {names}"
                )));
            }
        }
        if required.iter().any(Option::is_none) {
            let given = required.iter().flatten().count();
            let missing =
                names(self.inputs.iter().zip(&required).filter(|(_, got)| got.is_none()).map(|(spec, _)| spec));
            return Err(Error::invalid(format!(
                "expected {} inputs but got {given} inputs for model '{model}'; missing {missing}",
                self.inputs.len(),
            )));
        }
        // In the same memory, unlike what `flatten` makes of it.
        let required: Option<Vec<Tensor>> = required.into_iter().collect();
        Ok(ModelInputs { required: required.unwrap_or_default(), optional })
    }

    /// Indices of the outputs wanted; `None`, which is all of them, where none is named.
    ///
    /// # Errors
    /// An output that the model does not have, or one named twice.
    pub fn wanted_outputs(&self, model: &str, wanted: &[String]) -> Result<Option<Vec<usize>>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut indices = Vec::with_capacity(wanted.len());
        for name in wanted {
            let Some(index) = position(&self.outputs, name) else {
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
        Ok(Some(indices))
    }

    /// Bare bytes as one row of the only input: what the binary tensor extension calls a raw binary request. At most one axis
    /// besides axis 0 may be variable, since the number of bytes can settle just one.
    fn raw_input(&self, model: &str, data: bytes::Bytes) -> Result<Tensor> {
        let [spec] = self.inputs.as_slice() else {
            return Err(Error::invalid(format!(
                "a raw binary request needs a model with exactly one input, model '{model}' has {}",
                self.inputs.len()
            )));
        };
        let Some(dimensions) = &spec.shape else {
            return Err(spec.error(model, "a raw binary request needs a declared shape, and this input has none"));
        };
        let is_open = |dimension: &Dimension| matches!(dimension, Dimension::Symbolic(_));
        let one_row = self.batch_axis().is_ok() || dimensions.iter().skip(1).any(is_open);
        let mut extents = Vec::with_capacity(dimensions.len());
        let mut open = None;
        for (axis, dimension) in dimensions.iter().enumerate() {
            match dimension {
                Dimension::Fixed(extent) => extents.push(*extent),
                Dimension::Symbolic(_) if axis == 0 && one_row => extents.push(1),
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
        let named = |error: Error| spec.error(model, error.message());
        // Of BYTES it holds one element, without the length that stands in front elsewhere.
        let (unit, data) = match Shape::new(extents.clone()).bytes(spec.datatype).map_err(named)? {
            Some(unit) => (unit.max(1), data),
            None => {
                let mut element = Vec::with_capacity(data.len() + size_of::<u32>());
                push_bytes_element(&mut element, &data).map_err(|why| spec.error(model, why))?;
                (element.len(), element.into())
            }
        };
        if let Some(axis) = open {
            extents[axis] = data.len() / unit;
        }
        Tensor::new(spec.datatype, Shape::new(extents), data).map_err(named)
    }
}

impl TensorSpec {
    /// The shape as the wire has it: -1 for an axis of any extent. A tensor of any rank is shown as one open axis, since the
    /// protocol has no word for it.
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape.as_ref().map_or_else(|| vec![-1], |shape| shape.iter().map(Dimension::to_wire).collect())
    }

    fn open_batch_axis(&self) -> Result<(), String> {
        let Some(shape) = &self.shape else {
            return Err(format!("'{}' declares no shape, so nothing says that axis 0 is the batch", self.name));
        };
        match shape.first() {
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
        let Some(shape) = &self.shape else { return Ok(()) };
        let extents = tensor.shape().extents();
        let fits = extents.len() == shape.len()
            && extents.iter().zip(shape).all(|(&extent, dimension)| match dimension {
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
        match &self.shape {
            Some(shape) => write_list(f, shape),
            None => f.write_str("of any rank"),
        }
    }
}

fn position(specs: &[TensorSpec], name: &str) -> Option<usize> {
    specs.iter().position(|spec| *spec.name == *name)
}

/// `'a', 'b'`, for messages.
fn names<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> String {
    specs.map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ")
}
