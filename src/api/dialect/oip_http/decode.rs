//! Bodies into requests: JSON, and the binary tensors behind it.

use axum::http::HeaderMap;
use bytes::Bytes;
use std::time::Instant;

use crate::{
    api::{
        dialect::{
            Decoded,
            input::{datatype, input_error},
            parameters::{Parameter, RequestParameters, TensorParameters, is_known},
        },
        headers::JSON_LENGTH,
        transport::{CHECKED_PER_PARSED, MAX_INLINE_BYTES, has_checked_elements},
    },
    error::{Error, Result},
    json::{Reader, TensorObject, ValueKind, once},
    tensor::{Inputs, NamedTensor, Request, Shape, Tensor},
    traffic::Selector,
};

/// The outputs that go out in binary.
pub(crate) struct BinaryOutputs {
    /// The outputs that the request names, with what it says of them.
    pub outputs: Vec<(String, Option<bool>)>,
    /// The others.
    pub default: bool,
}

impl BinaryOutputs {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        let named = self.outputs.iter().find(|(name, _)| name == output);
        named.and_then(|(_, binary)| *binary).unwrap_or(self.default)
    }
}

/// Inputs of a request at most, and outputs that it names: an empty one takes fifty times as much decoded as in JSON, and what
/// JSON takes beside its tensors is not counted. Models that were exported with an input for every column of a table have a
/// few thousand.
const MAX_TENSORS: usize = 1 << 16;

/// The body's JSON. Missing and wrong members are left for its reader to judge.
#[derive(Default)]
struct InferRequest<'a> {
    id: Option<String>,
    parameters: Option<Parameters>,
    inputs: Option<Vec<InputObject<'a>>>,
    outputs: Option<Vec<RequestedOutput>>,
}

struct InputObject<'a> {
    tensor: TensorObject<'a>,
    parameters: Parameters,
}

struct RequestedOutput {
    name: String,
    parameters: Parameters,
}

type Parameters = Vec<(String, Parameter)>;

impl<'a> InferRequest<'a> {
    fn read(json: &'a [u8]) -> Result<Self, String> {
        const BINARY: &str = "Inference-Header-Content-Length tells where binary data begins";
        let no_text =
            |error: std::str::Utf8Error| format!("it is no UTF-8 from byte {} on; {BINARY}", error.valid_up_to());
        let text = str::from_utf8(json).map_err(no_text)?;
        let mut reader = Reader::new(text);
        let mut request = InferRequest::default();
        reader.object(|reader, key| match key {
            "id" => once(&mut request.id, key, reader, |reader| reader.string().map(Into::into)),
            "parameters" => once(&mut request.parameters, key, reader, parameters),
            "inputs" => once(&mut request.inputs, key, reader, |reader| list(reader, input)),
            "outputs" => once(&mut request.outputs, key, reader, |reader| list(reader, requested_output)),
            _ => reader.skip(),
        })?;
        match reader.is_at_end() {
            true => Ok(request),
            false => Err(reader.error(format_args!("there is more behind it; {BINARY}"))),
        }
    }
}

fn list<'a, T>(reader: &mut Reader<'a>, read: impl Fn(&mut Reader<'a>) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut elements = Vec::new();
    reader.array(|reader| {
        if elements.len() == MAX_TENSORS {
            return Err(reader.error(format_args!("more than {MAX_TENSORS} elements")));
        }
        elements.push(read(reader)?);
        Ok(())
    })?;
    Ok(elements)
}

fn input<'a>(reader: &mut Reader<'a>) -> Result<InputObject<'a>, String> {
    let mut read = None;
    let tensor = TensorObject::read(reader, |reader, key| match key {
        "parameters" => once(&mut read, key, reader, parameters),
        _ => reader.skip(),
    })?;
    Ok(InputObject { tensor, parameters: read.unwrap_or_default() })
}

fn requested_output(reader: &mut Reader<'_>) -> Result<RequestedOutput, String> {
    let (mut name, mut read) = (None, None);
    let before = reader.clone();
    reader.object(|reader, key| match key {
        "name" => once(&mut name, key, reader, |reader| reader.string().map(Into::into)),
        "parameters" => once(&mut read, key, reader, parameters),
        _ => reader.skip(),
    })?;
    let name = name.ok_or_else(|| before.error("an output without `name`"))?;
    Ok(RequestedOutput { name, parameters: read.unwrap_or_default() })
}

/// Parameters, as every protocol has them. A value that is no scalar is not for this server.
fn parameters(reader: &mut Reader<'_>) -> Result<Parameters, String> {
    let mut parameters = Parameters::new();
    reader.object(|reader, key| {
        // Unknown parameters are not kept: a long list of them would take ten times as much as in JSON.
        if !is_known(key) {
            return reader.skip();
        }
        if parameters.iter().any(|(name, _)| name == key) {
            return Err(reader.error(format_args!("the key `{key}` stands there twice")));
        }
        let value = match reader.peek()? {
            ValueKind::Boolean => Parameter::Bool(reader.boolean()?),
            ValueKind::String => Parameter::String(reader.string()?.into()),
            ValueKind::Number => number(reader.number()?),
            ValueKind::Null | ValueKind::Array | ValueKind::Object => return reader.skip(),
        };
        parameters.push((key.to_owned(), value));
        Ok(())
    })?;
    Ok(parameters)
}

fn number(text: &str) -> Parameter {
    match (text.parse(), text.parse()) {
        (Ok(value), _) => Parameter::Int(value),
        (Err(_), Ok(value)) => Parameter::Uint(value),
        (Err(_), Err(_)) => Parameter::Double(text.parse().unwrap_or(f64::NAN)),
    }
}

/// Bytes of JSON that take as long to parse as a body takes to decode.
pub(super) fn cost(body: &[u8], json_length: Option<usize>) -> usize {
    let (json, binary) = body.split_at(json_length.unwrap_or(body.len()).min(body.len()));
    let checked = binary.len() / CHECKED_PER_PARSED;
    let is_checked = || json.len() <= MAX_INLINE_BYTES && has_checked_elements(json);
    // Most bodies are small: nobody looks into them.
    json.len() + if checked > MAX_INLINE_BYTES && is_checked() { checked } else { 0 }
}

/// An inference request that came at `now`, of whose body so much is JSON.
pub(super) fn request(
    model: String,
    selector: Selector,
    json_length: Option<usize>,
    mut body: Bytes,
    now: Instant,
) -> Result<Decoded<BinaryOutputs>> {
    if json_length == Some(0) {
        // A raw binary request: the body is the only input, and the answer is binary.
        let inputs = Inputs::Raw(body);
        let outputs = Vec::new();
        let request = Request { model, selector, routing_key: None, inputs, outputs, priority: 0, deadline: None };
        let form = BinaryOutputs { outputs: Vec::new(), default: true };
        return Ok(Decoded { request, id: String::new(), form, keeps_message: true });
    }
    let json = body.split_to(json_length.unwrap_or(body.len()));
    let invalid =
        |why: String| Error::invalid(format!("the request for model '{model}' is not a valid JSON request: {why}"));
    let parsed = InferRequest::read(&json).map_err(invalid)?;
    let given = parsed.inputs.ok_or_else(|| invalid("`inputs` is missing".into()))?;
    let RequestParameters { deadline, priority, routing_key, binary_data_output } =
        RequestParameters::read(&model, parsed.parameters.unwrap_or_default().into_iter(), now)?;
    let mut inputs = Vec::with_capacity(given.len());
    for (index, input) in given.into_iter().enumerate() {
        inputs.push(named_tensor(&model, index, input, &mut body)?);
    }
    if !body.is_empty() {
        let left = body.len();
        return Err(Error::invalid(format!("unexpected additional input data for model '{model}': {left} bytes")));
    }
    let mut outputs = Vec::new();
    for output in parsed.outputs.unwrap_or_default() {
        let what = format!("output '{}' of model '{model}'", output.name);
        let read = TensorParameters::read(&what, output.parameters.into_iter())?;
        outputs.push((output.name, read.binary_data));
    }
    let wanted = outputs.iter().map(|(name, _)| name.clone()).collect();
    let inputs = Inputs::Named(inputs);
    let request = Request { model, selector, routing_key, inputs, outputs: wanted, priority, deadline };
    let form = BinaryOutputs { outputs, default: binary_data_output };
    // Data outside of the body was allocated while the body was there.
    Ok(Decoded { request, id: parsed.id.unwrap_or_default(), form, keeps_message: true })
}

/// The JSON's length in its header; `None` within where it is no length, or where there are two of which another
/// server on the way may have believed the other.
pub(in crate::api) fn announced_json_length(headers: &HeaderMap) -> Option<Option<usize>> {
    let mut values = headers.get_all(JSON_LENGTH).iter();
    let first = values.next()?;
    let agreed = values.all(|other| other == first);
    // Read as a number it might have a sign.
    let digits = first.to_str().ok().filter(|text| agreed && text.bytes().all(|byte| byte.is_ascii_digit()));
    Some(digits.and_then(|digits| digits.parse().ok()))
}

/// Length of the JSON, where the header gives it.
pub(in crate::api) fn json_length(model: &str, headers: &HeaderMap, body: usize) -> Result<Option<usize>> {
    let Some(announced) = announced_json_length(headers) else {
        return Ok(None);
    };
    announced.filter(|length| *length <= body).map(Some).ok_or_else(|| {
        let got: Vec<_> = headers.get_all(JSON_LENGTH).iter().map(|value| format!("{value:?}")).collect();
        Error::invalid(format!(
            "Inference-Header-Content-Length of the request for model '{model}' must be between 0 and the body's {body} bytes, got {}",
            got.join(" and ")
        ))
    })
}

/// One input: its elements stand in the JSON, or are the next bytes behind it.
fn named_tensor(model: &str, index: usize, input: InputObject<'_>, binary: &mut Bytes) -> Result<NamedTensor> {
    let InputObject { mut tensor, parameters } = input;
    let missing =
        |what: &str| Error::invalid(format!("`inputs[{index}]` of the request for model '{model}' has no `{what}`"));
    let name = tensor.name.take().ok_or_else(|| missing("name"))?;
    let error = |what: String| input_error(model, &name, what);
    let datatype = datatype(model, &name, tensor.datatype.as_deref().ok_or_else(|| missing("datatype"))?)?;
    let extents = tensor.shape.as_deref().ok_or_else(|| missing("shape"))?;
    let shape = Shape::from_wire(extents).map_err(|why| error(why.to_string()))?;
    let what = format!("input '{name}' of model '{model}'");
    let read = TensorParameters::read(&what, parameters.into_iter())?;
    let tensor = match (tensor.elements(datatype).map_err(error)?, read.binary_data_size) {
        (Some(_), Some(_)) => {
            return Err(error("give either data or the parameter binary_data_size, not both".into()));
        }
        (None, None) => {
            return Err(error("there is no data: give data, or the parameter binary_data_size".into()));
        }
        (None, Some(size)) if size <= binary.len() => Tensor::new(datatype, shape, binary.split_to(size)),
        (None, Some(size)) => {
            return Err(error(format!(
                "expected {size} bytes of binary data behind the JSON, got {} bytes; is Inference-Header-Content-Length set?",
                binary.len()
            )));
        }
        (Some(elements), None) => elements.into_tensor(shape),
    };
    let tensor = tensor.map_err(|why| error(why.to_string()))?;
    Ok(NamedTensor { name, tensor })
}
