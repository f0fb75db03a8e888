//! Reports on requests beside their answers: ids, times, and the access log. Both ways of a request over HTTP report the same.

mod ids;
mod log;
mod sink;
mod timing;

use http::Request;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

use crate::support::{
    client::{float_bytes, inference, raw_request, send},
    onnx,
    server::{Server, eventually},
};

/// Way of a request to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Past hyper.
    Plain,
    Hyper,
    Grpc,
}

const WAYS: [Way; 3] = [Way::Plain, Way::Hyper, Way::Grpc];

/// Response: the status as the log has it, and the headers or metadata beside the answer.
#[derive(Debug)]
struct Told {
    status: u64,
    beside: BTreeMap<String, String>,
}

impl Told {
    fn get(&self, name: &str) -> Option<&str> {
        self.beside.get(name).map(String::as_str)
    }
}

/// A repository with models that add one to each element, of which each runs in another manner.
fn repository() -> TempDir {
    let repository = TempDir::new().unwrap();
    let add = |name: &str, config: &str| {
        let folder = repository.path().join(name);
        onnx::add(1.0).save(&folder.join("1/model.onnx"));
        fs::write(folder.join("config.toml"), config).unwrap();
    };
    add("add", "");
    add("aside", "in_place = \"off\"");
    add("alone", "batching = \"off\"");
    add("split", "max_batch_size = 4");
    repository
}

/// A folder, and the path of an access log in it.
fn log_file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("access.log");
    (folder, path)
}

fn start(repository: &TempDir, log: &Path, options: &[&str]) -> Server {
    Server::start_with(repository.path(), &[&["--access-log", log.to_str().unwrap()], options].concat())
}

/// The body of a request over HTTP with so many rows of `add`.
fn body(rows: usize, id: &str) -> Value {
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [rows, 2], "data": vec![0.5; rows * 2] });
    json!({ "id": id, "inputs": [input] })
}

/// Asks a model for rows.
async fn ask(server: &Server, way: Way, model: &str, rows: usize, headers: &[(&str, &[u8])]) -> Told {
    let body = body(rows, "message").to_string();
    match way {
        Way::Plain => http(server, model, headers, &body).await,
        Way::Hyper => http(server, model, &[headers, &[("te", b"trailers")]].concat(), &body).await,
        Way::Grpc => {
            let data = float_bytes(&vec![0.5; rows * 2]);
            let mut message = raw_request(model, "x", "FP32", &[rows as i64, 2], data);
            message.id = "message".into();
            let mut request = tonic::Request::new(message);
            for (name, value) in headers {
                let name = tonic::metadata::AsciiMetadataKey::from_bytes(name.as_bytes()).unwrap();
                let value = http::HeaderValue::from_bytes(value).unwrap();
                let mut headers = request.metadata().clone().into_headers();
                headers.insert(http::HeaderName::from_bytes(name.as_str().as_bytes()).unwrap(), value);
                *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
            }
            let (status, metadata) = match inference(server).await.model_infer(request).await {
                Ok(response) => (0, response.metadata().clone()),
                Err(status) => (status.code() as u64, status.metadata().clone()),
            };
            Told { status, beside: beside(&metadata.into_headers()) }
        }
    }
}

async fn http(server: &Server, model: &str, headers: &[(&str, &[u8])], body: &str) -> Told {
    let mut request = Request::post(format!("http://{}/v2/models/{model}/infer", server.http));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = send(request.body(body.to_owned().into()).unwrap()).await;
    Told { status: answer.status.as_u16().into(), beside: beside(&answer.headers) }
}

fn beside(headers: &http::HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// The lines of a log, once there are so many; each is an object.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let read = || {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
    };
    let mut lines: Vec<Value> = Vec::new();
    eventually("the lines are written", async || {
        lines = read();
        lines.len() >= count
    })
    .await;
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}
