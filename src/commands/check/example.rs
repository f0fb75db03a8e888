//! Example of a request that works, to be pasted into a shell.

use std::fmt::Write as _;

use crate::{
    json::{Elements, Reader, write_elements},
    router::Version,
    tensor::{Datatype, Inputs, ModelInputs, NamedTensor, Request, Shape, Tensor},
    traffic::Selector,
};

/// Command that calls a server on this machine.
pub(super) struct Example {
    pub command: String,
}

/// Elements of an input that are written out. A longer input has one value, which the shell repeats.
const WRITTEN_OUT: usize = 64;

/// Elements of an example at most.
const MAX_EXAMPLE_ELEMENTS: usize = 1 << 21;

/// An example with inputs like those that ran when the version was loaded, tried out by `ask`.
pub(super) fn find(
    version: &Version,
    ran: Option<ModelInputs>,
    mut ask: impl FnMut(Request) -> Result<(), String>,
) -> Result<Example, String> {
    let Some(ran) = ran else {
        return Err("no made-up inputs could be run; a test case can show what it answers".into());
    };
    let elements: usize = ran.required.iter().filter_map(|tensor| tensor.shape().elements().ok()).sum();
    if elements > MAX_EXAMPLE_ELEMENTS {
        return Err(format!("inputs of {elements} elements are too large to be made up here"));
    }
    let mut refusal = String::new();
    for number in [1, 0] {
        let inputs: Vec<ExampleInput> =
            ran.required.iter().map(|tensor| ExampleInput::like(tensor, number)).collect::<Result<_, _>>()?;
        let names = version.signature.inputs.iter().map(|spec| spec.name.to_string());
        let named = names.zip(&inputs).map(|(name, input)| NamedTensor { name, tensor: input.tensor.clone() });
        let request = Request {
            model: version.model.to_string(),
            selector: Selector::Version(version.version),
            routing_key: None,
            inputs: Inputs::Named(named.collect()),
            outputs: Vec::new(),
            priority: 0,
            deadline: None,
        };
        match ask(request) {
            Ok(()) => return Ok(Example { command: command(version, &inputs) }),
            Err(why) => refusal = why,
        }
    }
    Err(format!("no made-up inputs could be run ({refusal}); a test case can show what it answers"))
}

/// One input of the example.
struct ExampleInput {
    tensor: Tensor,
    /// The value of every element, where there are many.
    repeated: Option<String>,
}

impl ExampleInput {
    /// The tensor that ran if it is small, else one of its shape with the same number in every element.
    fn like(ran: &Tensor, number: u8) -> Result<Self, String> {
        let elements = ran.shape().elements().map_err(|error| error.to_string())?;
        if elements <= WRITTEN_OUT {
            return Ok(ExampleInput { tensor: ran.clone(), repeated: None });
        }
        let value = match ran.datatype() {
            Datatype::Bool => (number > 0).to_string(),
            Datatype::Bytes => format!("\"{number}\""),
            _ => number.to_string(),
        };
        let text = format!("[{}]", vec![value.as_str(); elements].join(","));
        let elements = Elements::read(&mut Reader::new(&text), ran.datatype(), elements)?;
        let shape: Shape = ran.shape().clone();
        let tensor = elements.into_tensor(shape).map_err(|error| error.to_string())?;
        Ok(ExampleInput { tensor, repeated: Some(value) })
    }
}

/// The command for a POSIX shell.
fn command(version: &Version, inputs: &[ExampleInput]) -> String {
    // Pieces of the body in order: literal text, and text with its number of repetitions.
    let mut pieces: Vec<Piece> = Vec::new();
    let mut body = String::from("{\"inputs\":[");
    for (index, (spec, input)) in version.signature.inputs.iter().zip(inputs).enumerate() {
        let name = serde_json::Value::from(&*spec.name);
        let (datatype, shape) = (input.tensor.datatype(), input.tensor.shape());
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(body, "{comma}{{\"name\":{name},\"datatype\":\"{datatype}\",\"shape\":{shape},\"data\":");
        match &input.repeated {
            Some(value) => {
                body.push('[');
                pieces.push(Piece::Text(std::mem::take(&mut body)));
                pieces.push(Piece::Repeated(value.clone(), shape.elements().unwrap_or_default()));
                body.push(']');
            }
            None => {
                let mut data = Vec::new();
                write_elements(&mut data, &input.tensor);
                body.push_str(&String::from_utf8_lossy(&data));
            }
        }
        body.push('}');
    }
    body.push_str("]}");
    let address = format!("localhost:8000/v2/models/{}/versions/{}/infer", escaped(&version.model), version.version);
    if pieces.is_empty() {
        return format!("curl -s {address} -d {}", quoted(&body));
    }
    pieces.push(Piece::Text(body));
    let printed = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => format!("printf %s {}", quoted(text)),
        Piece::Repeated(value, times) => format!("yes {} | head -n {times} | paste -sd, -", quoted(value)),
    });
    format!("{{ {}; }} | curl -s {address} -d @-", printed.collect::<Vec<_>>().join("; "))
}

enum Piece {
    Text(String),
    Repeated(String, usize),
}

/// Quotes a word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Escapes a part of a URL's path (RFC 3986, section 2.3 lists the characters that need no escape).
fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}
