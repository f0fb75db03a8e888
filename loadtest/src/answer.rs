//! Answers, and their comparison with the expected ones.

use bytes::Bytes;
use onnxd::{
    api::proto::{InferTensorContents, ModelInferResponse},
    tensor::{Datatype, Shape, Tensor, Tolerance, first_difference, push_bytes_element},
};
use prost::Message as _;

use crate::{target::Protocol, tensors, tensors::Named};

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// The body; over gRPC the message without its prefix.
    pub body: Bytes,
    /// Length of the JSON where binary tensors stand behind it.
    pub json_length: Option<usize>,
}

/// Expected answer to a request.
#[derive(Debug)]
pub(crate) struct Expected {
    /// An answer that was right: equal bytes need no look at what they say.
    bytes: Option<Bytes>,
    outputs: Vec<Named>,
}

impl Expected {
    /// The answers are to be the same as this one.
    pub(crate) fn like(reply: &Reply, protocol: Protocol) -> Result<Self, String> {
        Ok(Expected { bytes: Some(reply.body.clone()), outputs: reply.outputs(protocol)? })
    }

    /// The answers are to have these outputs, and may have others.
    pub(crate) fn outputs(outputs: Vec<Named>) -> Self {
        Expected { bytes: None, outputs }
    }

    /// Compares an answer with the expected one.
    ///
    /// # Errors
    /// The answer differs. The message says where, for people.
    pub(crate) fn check(&self, reply: &Reply, protocol: Protocol) -> Result<(), String> {
        if self.bytes.as_ref() == Some(&reply.body) {
            return Ok(());
        }
        let got = reply.outputs(protocol)?;
        for expected in &self.outputs {
            let name = &expected.name;
            let found = got.iter().find(|output| output.name == *name);
            let got = &found.ok_or_else(|| format!("there is no output '{name}'"))?.tensor;
            let expected = &expected.tensor;
            let described = |tensor: &Tensor| format!("{} {}", tensor.datatype(), tensor.shape());
            if (expected.datatype(), expected.shape()) != (got.datatype(), got.shape()) {
                return Err(format!("output '{name}': expected {}, got {}", described(expected), described(got)));
            }
            if let Some(difference) = first_difference(expected, got, tolerance(got.datatype())) {
                let (element, expected, got) = (difference.element, difference.expected, difference.got);
                return Err(format!("output '{name}', element {element}: expected {expected}, got {got}"));
            }
        }
        Ok(())
    }
}

/// Answers may differ in the last bits, as a batch may be computed in another order.
fn tolerance(datatype: Datatype) -> Tolerance {
    match datatype {
        Datatype::Fp16 => Tolerance { absolute: 1e-3, relative: 2e-3 },
        Datatype::Bf16 => Tolerance { absolute: 1e-2, relative: 2e-2 },
        _ => Tolerance { absolute: 1e-5, relative: 1e-3 },
    }
}

impl Reply {
    /// The outputs.
    pub(crate) fn outputs(&self, protocol: Protocol) -> Result<Vec<Named>, String> {
        let outputs = match protocol {
            Protocol::Grpc => self.grpc_outputs(),
            Protocol::HttpBinary | Protocol::HttpJson => {
                let length = self.json_length.unwrap_or(self.body.len());
                let (text, behind) = self.body.split_at_checked(length).ok_or("shorter than its JSON's length")?;
                let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
                tensors::answer(text, behind)
            }
        };
        outputs.map_err(|why| format!("the answer can't be understood: {why}"))
    }

    fn grpc_outputs(&self) -> Result<Vec<Named>, String> {
        let answer = ModelInferResponse::decode(self.body.clone()).map_err(|error| error.to_string())?;
        // Where there are raw contents they are all outputs' (MLServer sends empty typed ones with them).
        let is_typed = answer.raw_output_contents.is_empty();
        let mut raw = answer.raw_output_contents.into_iter();
        let output = |output: onnxd::api::proto::model_infer_response::InferOutputTensor| {
            let datatype = Datatype::from_name(&output.datatype);
            let datatype = datatype.ok_or_else(|| format!("unknown datatype '{}'", output.datatype))?;
            let shape = Shape::from_wire(&output.shape).map_err(|error| error.to_string())?;
            let data = match output.contents {
                Some(contents) if is_typed => typed(datatype, contents)?.into(),
                _ => raw.next().ok_or("less raw contents than outputs")?,
            };
            let tensor = Tensor::new(datatype, shape, data);
            let tensor = tensor.map_err(|error| format!("output '{}': {error}", output.name))?;
            Ok(Named { name: output.name, tensor })
        };
        answer.outputs.into_iter().map(output).collect()
    }
}

/// The elements of typed contents, as the wire has raw ones.
fn typed(datatype: Datatype, contents: InferTensorContents) -> Result<Vec<u8>, String> {
    macro_rules! bytes_of {
        ($field:ident as $element:ty) => {
            contents.$field.iter().flat_map(|element| (*element as $element).to_le_bytes()).collect()
        };
    }
    Ok(match datatype {
        Datatype::Bool => contents.bool_contents.iter().map(|element| u8::from(*element)).collect(),
        Datatype::Int8 => bytes_of!(int_contents as i8),
        Datatype::Int16 => bytes_of!(int_contents as i16),
        Datatype::Int32 => bytes_of!(int_contents as i32),
        Datatype::Int64 => bytes_of!(int64_contents as i64),
        Datatype::Uint8 => bytes_of!(uint_contents as u8),
        Datatype::Uint16 => bytes_of!(uint_contents as u16),
        Datatype::Uint32 => bytes_of!(uint_contents as u32),
        Datatype::Uint64 => bytes_of!(uint64_contents as u64),
        Datatype::Fp32 => bytes_of!(fp32_contents as f32),
        Datatype::Fp64 => bytes_of!(fp64_contents as f64),
        Datatype::Fp16 | Datatype::Bf16 => return Err(format!("{datatype} has no typed contents")),
        Datatype::Bytes => {
            let mut data = Vec::new();
            for element in &contents.bytes_contents {
                push_bytes_element(&mut data, element)?;
            }
            data
        }
    })
}
