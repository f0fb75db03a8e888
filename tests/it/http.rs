//! The Open Inference Protocol over HTTP.

mod wrong;

use axum::body::Body;
use http::{Method, Request, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    client::{float_bytes, get, post, post_with, send, with_binary},
    embedded::Embedded,
    onnx,
};

const INFER: &str = "/v2/models/pair/infer";

/// `sum` and `difference` of [1,2] and [3,5].
fn good() -> Value {
    json!({ "inputs": [
        { "name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2] },
        { "name": "b", "datatype": "FP32", "shape": [1, 2], "data": [[3.0, 5e0]] },
    ]})
}

/// The same with its elements behind the JSON.
fn good_binary() -> (Value, Vec<u8>) {
    let mut json = good();
    for input in json["inputs"].as_array_mut().unwrap() {
        input.as_object_mut().unwrap().remove("data");
        input["parameters"] = json!({ "binary_data_size": 8 });
    }
    (json, float_bytes(&[1.0, 2.0, 3.0, 5.0]))
}

fn repository() -> TempDir {
    let repository = TempDir::new().unwrap();
    onnx::pair().save(&repository.path().join("pair/1/model.onnx"));
    repository
}

#[tokio::test(flavor = "multi_thread")]
async fn json_answers_name_the_model_and_version() {
    let repository = repository();
    onnx::pair().save(&repository.path().join("pair/12/model.onnx"));
    let server = Embedded::start(repository.path()).await;

    let answer = post(server.http, INFER, good().to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["onnxd-model-version"], "12");
    let expected = json!({ "model_name": "pair", "model_version": "12", "outputs": [
        { "name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [4.0, 7.0] },
        { "name": "difference", "datatype": "FP32", "shape": [1, 2], "data": [-2.0, -3.0] },
    ]});
    assert_eq!(answer.json(), expected);

    let mut request = good();
    request["id"] = json!("a \"quoted\" id \u{1f980}");
    request["outputs"] = json!([{ "name": "difference" }]);
    // Unknown members are not the server's business.
    request["parameters"] = json!({ "timeout": u64::MAX, "priority": 1, "mine": { "any": ["thing"] } });
    request["mine"] = json!(null);
    let answer = post(server.http, "/v2/models/pair/versions/1/infer", request.to_string()).await;
    let expected = json!({ "id": "a \"quoted\" id \u{1f980}", "model_name": "pair", "model_version": "1", "outputs": [
        { "name": "difference", "datatype": "FP32", "shape": [1, 2], "data": [-2.0, -3.0] },
    ]});
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.headers["onnxd-model-version"], "1");

    // Null is the same as nothing, as many serializers write it.
    let mut request = good();
    for key in ["id", "parameters", "outputs"] {
        request[key] = json!(null);
    }
    request["inputs"][0]["parameters"] = json!(null);
    let answer = post(server.http, INFER, request.to_string()).await.json();
    assert_eq!((&answer["id"], &answer["outputs"][0]["data"]), (&json!(null), &json!([4.0, 7.0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_travel_in_binary_as_asked() {
    let repository = repository();
    onnx::identity(onnx::FLOAT, &["batch", "2"]).save(&repository.path().join("identity.onnx"));
    onnx::identity(onnx::FLOAT, &["1", "n"]).save(&repository.path().join("open.onnx"));
    // As many converters have it: axis 0 has no name.
    onnx::identity(onnx::FLOAT, &["", "n"]).save(&repository.path().join("both.onnx"));
    let server = Embedded::start(repository.path()).await;
    let both = float_bytes(&[4.0, 7.0, -2.0, -3.0]);

    // Everything in binary by one parameter, or by each output's own.
    let each = json!([
        { "name": "sum", "parameters": { "binary_data": true } },
        { "name": "difference", "parameters": { "binary_data": true } },
    ]);
    for (key, value) in [("parameters", json!({ "binary_data_output": true })), ("outputs", each)] {
        let (mut json, data) = good_binary();
        json["id"] = json!("7");
        json[key] = value;
        let (body, headers) = with_binary(&json, &data);
        let answer = post_with(server.http, INFER, &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/octet-stream");
        assert_eq!(answer.headers["onnxd-model-version"], "1");
        let (json, data) = answer.binary();
        let expected = json!({ "id": "7", "model_name": "pair", "model_version": "1", "outputs": [
            { "name": "sum", "datatype": "FP32", "shape": [1, 2], "parameters": { "binary_data_size": 8 } },
            { "name": "difference", "datatype": "FP32", "shape": [1, 2], "parameters": { "binary_data_size": 8 } },
        ]});
        assert_eq!((json, data.to_vec()), (expected, both.clone()));
    }

    // One in JSON, one in binary, in and out; an output's own word counts more than the request's.
    let (mut json, _) = good_binary();
    json["inputs"][0] = good()["inputs"][0].clone();
    json["parameters"] = json!({ "binary_data_output": true });
    json["outputs"] = json!([{ "name": "difference" }, { "name": "sum", "parameters": { "binary_data": false } }]);
    let (body, headers) = with_binary(&json, &float_bytes(&[3.0, 5.0]));
    let (json, data) = post_with(server.http, INFER, &headers, body).await.binary();
    let expected = json!({ "model_name": "pair", "model_version": "1", "outputs": [
        { "name": "difference", "datatype": "FP32", "shape": [1, 2], "parameters": { "binary_data_size": 8 } },
        { "name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [4.0, 7.0] },
    ]});
    assert_eq!((json, data.to_vec()), (expected, float_bytes(&[-2.0, -3.0])));

    // The bare elements of the only input: one row, or as many as an open axis takes.
    for (model, row) in [("identity", vec![0.5, -0.5]), ("open", vec![1.0, 2.0, 3.0]), ("both", vec![1.0, 2.0])] {
        let headers = [("inference-header-content-length", "0".to_string())];
        let path = format!("/v2/models/{model}/infer");
        let (json, data) = post_with(server.http, &path, &headers, float_bytes(&row)).await.binary();
        assert_eq!((&json["outputs"][0]["shape"], data.to_vec()), (&json!([1, row.len()]), float_bytes(&row)));
    }
}

/// JSON of other programs: a byte order mark in front, and base64 without padding.
#[tokio::test(flavor = "multi_thread")]
async fn json_of_other_writers_is_read() {
    let repository = repository();
    onnx::identity(onnx::STRING, &["batch"]).save(&repository.path().join("words.onnx"));
    let server = Embedded::start(repository.path()).await;
    let answer = post(server.http, INFER, format!("\u{feff}{}", good())).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([4.0, 7.0]));
    for base64 in ["YQ==", "YQ"] {
        let input = json!({ "name": "x", "datatype": "BYTES", "shape": [1], "data": [{ "b64": base64 }] });
        let answer = post(server.http, "/v2/models/words/infer", json!({ "inputs": [input] }).to_string()).await;
        assert_eq!(answer.json()["outputs"][0]["data"], json!(["a"]), "{base64}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_inference_accept_any_model_name() {
    let repository = repository();
    let name = "my \"odd\" m\u{f6}del+1%";
    onnx::pair().save(&repository.path().join(format!("{name}/3.onnx")));
    let server = Embedded::start(repository.path()).await;

    let expected = json!({
        "name": "onnxd", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data", "parameters"],
    });
    assert_eq!(get(server.http, "/v2").await.json(), expected);
    let mut reported = get(server.http, "/v2/models/pair").await.json();
    assert_eq!(reported["properties"]["batching"], "on: up to 64 rows");
    reported.as_object_mut().unwrap().remove("properties");
    let tensors = |names: [&str; 2]| names.map(|name| json!({ "name": name, "datatype": "FP32", "shape": [-1, 2] }));
    let mut expected = json!({
        "name": "pair", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": tensors(["a", "b"]), "outputs": tensors(["sum", "difference"]),
    });
    assert_eq!(reported, expected);
    assert_eq!(get(server.http, "/v2/models/pair/versions/1").await.json()["versions"], json!(["1"]));

    let path = "/v2/models/my%20%22odd%22%20m%C3%B6del+1%25";
    let mut reported = get(server.http, path).await.json();
    reported.as_object_mut().unwrap().remove("properties");
    (expected["name"], expected["versions"]) = (json!(name), json!(["3"]));
    assert_eq!(reported, expected);
    let answer = post(server.http, &format!("{path}/versions/3/infer"), good().to_string()).await;
    assert_eq!((answer.status, &answer.json()["model_name"]), (StatusCode::OK, &json!(name)));
    assert_eq!(get(server.http, &format!("{path}/ready")).await.status, StatusCode::OK);
}

/// A connection of HTTP/1.1 answers one request after the other, the failed ones too; HTTP/2 needs no upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_may_be_http2() {
    let repository = repository();
    let server = Embedded::start(repository.path()).await;

    let stream = TcpStream::connect(server.http).await.unwrap();
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(driver);
    for (method, path, body, status) in [
        (Method::POST, INFER, good().to_string(), StatusCode::OK),
        (Method::POST, INFER, "{".into(), StatusCode::BAD_REQUEST),
        (Method::GET, "/v2/nothing", String::new(), StatusCode::NOT_FOUND),
        (Method::POST, INFER, good().to_string(), StatusCode::OK),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        connection.ready().await.unwrap();
        let answer = connection.send_request(request.body(Body::from(body)).unwrap()).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (status, Version::HTTP_11));
        answer.into_body().collect().await.unwrap();
    }
    drop(connection);
    driver.await.unwrap().unwrap();

    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(format!("http://{}{INFER}", server.http)).body(Body::from(good().to_string()));
    let answer = client.request(request.unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["outputs"][0]["data"], json!([4.0, 7.0]));

    // A body may also come in chunks of unknown total length.
    let chunks = good().to_string().into_bytes().into_iter().map(|byte| Ok::<_, String>(vec![byte]));
    let request = Request::post(format!("http://{}{INFER}", server.http))
        .body(Body::from_stream(futures_util::stream::iter(chunks)));
    assert_eq!(send(request.unwrap()).await.status, StatusCode::OK);
}

/// A body that is too large is refused by the length that its header gives, before any of it has come.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_bodies_are_rejected_at_once() {
    let repository = repository();
    let server = Embedded::start(repository.path()).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("limit of 67108864 bytes (--max-http-json)"), "{answer}");
    assert_eq!(post(server.http, INFER, good().to_string()).await.status, StatusCode::OK);
}
