//! Times of a request's phases, reported to the client who asks.

use axum::body::Body;
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message;
use std::collections::BTreeMap;

use super::{WAYS, Way, ask, repository};
use crate::support::{
    client::{float_bytes, raw_request},
    server::Server,
};

const ASKS: (&str, &[u8]) = ("onnxd-server-timing", b"1");

/// The metrics of a header, by the grammar of the standard as far as it is used: `name;dur=number` or `name;desc="text"`.
fn metrics(header: &str) -> BTreeMap<&str, f64> {
    let parsed = |metric: &'_ str| {
        let (name, parameter) = metric.split_once(';')?;
        let (key, value) = parameter.split_once('=')?;
        let value = if key == "desc" { value.strip_prefix('"')?.strip_suffix('"')? } else { value };
        Some((metric.find(name)?, name.len(), value.parse().ok()?))
    };
    let mut metrics = BTreeMap::new();
    for metric in header.split(", ") {
        let (start, length, value) = parsed(metric).unwrap_or_else(|| panic!("{header}"));
        metrics.insert(&metric[start..start + length], value);
    }
    metrics
}

const PHASES: [&str; 4] = ["queue", "input", "run", "output"];

#[tokio::test(flavor = "multi_thread")]
async fn server_timing_is_sent_on_request() {
    let repository = repository();
    let server = Server::start(repository.path());
    for way in WAYS {
        for (model, rows, batch) in [("add", 3, 3), ("aside", 3, 3), ("alone", 3, 1), ("split", 10, 4)] {
            let response = ask(&server, way, model, rows, &[ASKS]).await;
            let metrics = metrics(response.get("server-timing").unwrap_or_else(|| panic!("{way:?} {response:?}")));
            assert_eq!(
                metrics.keys().copied().collect::<Vec<_>>(),
                ["batch-size", "input", "output", "queue", "run", "total"]
            );
            assert_eq!(metrics["batch-size"], f64::from(batch), "{way:?} {model}");
            let phases: f64 = PHASES.iter().map(|phase| metrics[phase]).sum();
            // Pieces may run at the same time; and each number is cut to a microsecond.
            assert!(model == "split" || phases <= metrics["total"] + 0.005, "{way:?} {model} {metrics:?}");
            assert!(metrics["run"] > 0.0 && metrics["total"] > 0.0, "{way:?} {model} {metrics:?}");
        }
        // A request that fails has not run.
        let response = ask(&server, way, "missing", 1, &[ASKS]).await;
        assert_eq!(metrics(response.get("server-timing").unwrap()).keys().copied().collect::<Vec<_>>(), ["total"]);
        for (headers, is_told) in [
            (vec![], false),
            (vec![("onnxd-server-timing", &b"0"[..])], false),
            (vec![("onnxd-server-timing", &b"\xff"[..])], false),
            (vec![("onnxd-server-timing", &b"True"[..])], true),
        ] {
            let response = ask(&server, way, "add", 1, &headers).await;
            assert_eq!(response.get("server-timing").is_some(), is_told, "{way:?} {headers:?}");
            assert_eq!(response.get("x-request-id"), None);
        }
    }
}

/// The headers and trailers of a call.
async fn call(server: &Server, model: &str) -> (http::HeaderMap, http::HeaderMap) {
    let message = raw_request(model, "x", "FP32", &[1, 2], float_bytes(&[0.5, 0.5])).encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(format!("http://{}/inference.GRPCInferenceService/ModelInfer", server.grpc))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-request-id", "mine")
        .header("onnxd-server-timing", "1");
    let response = client.request(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    (head.headers, trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_timing_comes_in_the_trailers() {
    let repository = repository();
    let server = Server::start(repository.path());
    let (headers, trailers) = call(&server, "add").await;
    assert_eq!(headers["x-request-id"], "mine");
    assert!(
        !headers.contains_key("server-timing") && trailers.contains_key("server-timing"),
        "{headers:?} {trailers:?}"
    );
    assert_eq!(trailers["grpc-status"], "0");
    // Where there is no message there are nothing but trailers.
    let (headers, trailers) = call(&server, "missing").await;
    assert!(trailers.is_empty() && headers.contains_key("server-timing") && headers["x-request-id"] == "mine");
    assert_eq!(headers["grpc-status"], "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn batched_requests_report_their_batch_size() {
    let repository = repository();
    std::fs::write(repository.path().join("aside/config.toml"), "max_queue_delay = \"1h\"\nmax_batch_size = 2")
        .unwrap();
    let server = Server::start(repository.path());
    // Two rows make the batch full, and end the delay.
    let (first, second) =
        tokio::join!(ask(&server, Way::Plain, "aside", 1, &[ASKS]), ask(&server, Way::Grpc, "aside", 1, &[ASKS]));
    for response in [first, second] {
        assert_eq!(metrics(response.get("server-timing").unwrap())["batch-size"], 2.0, "{response:?}");
    }
}
