//! `onnxd infer`: requests a prediction from a running server over HTTP.
//!
//! The input is converted to tensors as the model's metadata declares them, and sent as binary tensors. The answer comes as
//! JSON.

mod element;
mod headers;
mod input;
mod npy;
mod output;

use http::{HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use serde_json::{Value, json};
use std::{fmt::Write as _, io};

use super::{
    cli::Infer,
    http_client::{Client, Question},
};
use crate::{
    tensor::{Datatype, Tensor},
    url::percent_encoded,
};
use element::InputSpec;
use headers::{JSON_LENGTH, ROUTING_KEY};
use input::InputSource;

/// Asks a server for a prediction and prints it.
///
/// # Errors
/// For people: the input, the server or the way to it is wrong.
pub fn run(options: &Infer) -> Result<(), String> {
    let sources = InputSource::read_all(&options.inputs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime can't be started: {error}"))?;
    let client = Client::of_inferences(&options.url, options.timeout);
    let key = options.routing_key.iter().map(|key| (ROUTING_KEY, key.clone()));
    let common: Headers = options.headers.iter().cloned().chain(key).collect();
    let get = async |path: &str| {
        let headers = common.clone();
        client.ask(Question { headers, ..Question::get(path) }).await.map(|(_, body)| body)
    };
    let text = runtime.block_on(async {
        let mut path = format!("/v2/models/{}", percent_encoded(&options.model));
        if let Some(version) = &options.model_version {
            let _ = write!(path, "/versions/{version}");
        }
        let (json_length, body) = match input::whole_request(&sources) {
            Some(request) => (request.len(), request.as_bytes().to_vec()),
            None => {
                let specs = specs(&options.model, &get(&path).await?)?;
                binary_request(&input::tensors(&specs, sources)?)
            }
        };
        let mut headers = common.clone();
        if json_length < body.len() {
            headers.push((JSON_LENGTH, HeaderValue::from(json_length)));
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")));
        } else {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        let path = format!("{path}/infer");
        let answer = client.ask(Question { method: Method::POST, path: &path, headers, body: body.into() }).await?;
        let reason = output::reason(&answer);
        let json = output::json_of(answer)?;
        if options.json {
            return Ok(format!("{}\n", json.trim_end()));
        }
        let mut answer = output::InferAnswer::read(&json)?;
        if let Some(version) = answer.version_with_classes() {
            let path = format!("/v2/models/{}/versions/{}", percent_encoded(&options.model), percent_encoded(version));
            // Without the metadata, columns are numbered instead of named.
            if let Ok(metadata) = get(&path).await {
                answer.name_classes(|output| labels(&metadata, output));
            }
        }
        Ok::<_, String>(answer.table(reason.as_deref()))
    })?;
    match io::Write::write_all(&mut io::stdout().lock(), text.as_bytes()) {
        // A reader that has closed stdout is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("stdout: {error}")),
    }
}

/// Headers of a request.
type Headers = Vec<(HeaderName, HeaderValue)>;

/// Names of an output's classes; empty if the metadata has none.
fn labels(metadata: &[u8], output: &str) -> Vec<String> {
    let metadata: Value = serde_json::from_slice(metadata).unwrap_or_default();
    // A list of names, in JSON.
    let labels = metadata["properties"][format!("labels:{output}")].as_str();
    labels.and_then(|labels| serde_json::from_str(labels).ok()).unwrap_or_default()
}

/// Inputs that the model takes.
fn specs(model: &str, metadata: &[u8]) -> Result<Vec<InputSpec>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("the metadata of model '{model}' can't be understood: {why}");
    let metadata: Value = serde_json::from_slice(metadata).map_err(|error| wrong(&error))?;
    let inputs = metadata["inputs"].as_array().ok_or_else(|| wrong(&"it has no inputs"))?;
    // A list of names, in JSON.
    let optional =
        metadata["properties"]["optional_inputs"].as_str().and_then(|names| serde_json::from_str(names).ok());
    let optional: Vec<String> = optional.unwrap_or_default();
    let spec = |input: &Value| {
        let name = input["name"].as_str()?.to_owned();
        let shape = input["shape"].as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?;
        let datatype = Datatype::from_name(input["datatype"].as_str()?)?;
        let is_optional = optional.contains(&name);
        Some(InputSpec { name, datatype, shape, is_optional })
    };
    inputs.iter().map(|input| spec(input).ok_or_else(|| wrong(input))).collect()
}

/// JSON with binary tensors behind it, and the length of the JSON.
fn binary_request(tensors: &[(&InputSpec, Tensor)]) -> (usize, Vec<u8>) {
    let input = |(spec, tensor): &(&InputSpec, Tensor)| {
        let parameters = json!({"binary_data_size": tensor.data().len()});
        let (datatype, shape) = (spec.datatype.name(), tensor.shape().extents());
        json!({"name": spec.name, "datatype": datatype, "shape": shape, "parameters": parameters})
    };
    let inputs: Vec<_> = tensors.iter().map(input).collect();
    let mut body = json!({"inputs": inputs}).to_string().into_bytes();
    let length = body.len();
    tensors.iter().for_each(|(_, tensor)| body.extend_from_slice(tensor.data()));
    (length, body)
}
