use bytes::Bytes;
use std::{sync::Arc, time::Instant};

use super::Tensor;
use crate::traffic::Selector;

/// A request for an inference, as decoded from whatever protocol it came by.
#[derive(Debug)]
pub struct Request {
    /// The model's name.
    pub model: String,
    /// Selector of the version.
    pub selector: Selector,
    /// Key for the choice of a version, if the request gives one itself.
    pub routing_key: Option<String>,
    /// The input tensors.
    pub inputs: Inputs,
    /// Names of the outputs wanted, in the order wanted; empty: all of them in the model's order.
    pub outputs: Vec<String>,
    /// Its priority level, of which 1 is the highest; 0: the model's default.
    pub priority: u64,
    /// When the answer stops being useful: the request is dropped where it has not begun to run by then.
    pub deadline: Option<Instant>,
}

/// The tensors of a request.
#[derive(Debug)]
pub enum Inputs {
    /// Tensors with all that the protocol says of them, in any order.
    Named(Vec<NamedTensor>),
    /// The bare elements of the model's only input, which the model's signature gives a name, datatype and shape (of one
    /// row).
    Raw(Bytes),
}

/// A tensor with its name.
#[derive(Debug)]
pub struct NamedTensor {
    /// Name of the model's input.
    pub name: String,
    /// The value.
    pub tensor: Tensor,
}

/// Inputs of a run: the tensors of a request, checked against the model's signature.
#[derive(Debug, Clone)]
pub struct ModelInputs {
    /// One for each input that must be given, in the model's order.
    pub required: Vec<Tensor>,
    /// Optional inputs that were given, each with its index among the optional inputs.
    pub optional: Vec<(usize, Tensor)>,
}

impl ModelInputs {
    /// Extent of axis 0 of the first input; 1 where there is none.
    pub fn rows(&self) -> usize {
        self.required.first().map_or(1, |input| input.shape().rows())
    }

    /// Bytes of the inputs that must be given.
    pub fn bytes(&self) -> usize {
        self.required.iter().map(|input| input.data().len()).sum()
    }
}

/// Inputs none of which is optional.
impl From<Vec<Tensor>> for ModelInputs {
    fn from(required: Vec<Tensor>) -> Self {
        ModelInputs { required, optional: Vec::new() }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub struct Output {
    /// The outputs asked for, in the order asked for.
    pub tensors: Vec<OutputTensor>,
}

/// One output of an answer.
#[derive(Debug)]
pub struct OutputTensor {
    /// Name of the model's output; shared with the version's signature.
    pub name: Arc<str>,
    /// The value.
    pub tensor: Tensor,
}
