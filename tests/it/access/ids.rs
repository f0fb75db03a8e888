//! The ids of requests.

use serde_json::json;
use std::path::Path;

use super::{WAYS, ask, lines, log_file, repository, start};
use crate::support::{python, server::Server};

const WRONG: [&[u8]; 5] = [b"", b"a b", b"\xff", "\u{e4}".as_bytes(), &[b'x'; 129]];

#[tokio::test(flavor = "multi_thread")]
async fn valid_request_id_is_echoed() {
    let repository = repository();
    let server = Server::start(repository.path());
    for way in WAYS {
        for model in ["add", "missing"] {
            for id in ["1", "a/b:c=\"d\"", &"x".repeat(128)] {
                let reported = ask(&server, way, model, 1, &[("x-request-id", id.as_bytes())]).await;
                assert_eq!(reported.get("x-request-id"), Some(id), "{way:?} {reported:?}");
                assert_eq!([0, 200].contains(&reported.status), model == "add", "{way:?} {reported:?}");
            }
            for id in WRONG {
                let reported = ask(&server, way, model, 1, &[("x-request-id", id)]).await;
                assert_eq!(reported.get("x-request-id"), None, "{way:?} {reported:?}");
            }
            assert_eq!(ask(&server, way, model, 1, &[]).await.get("x-request-id"), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_gives_every_answer_an_id() {
    let repository = repository();
    let (_folder, path) = log_file();
    let server = start(&repository, &path, &[]);
    let mut expected = Vec::new();
    for way in WAYS {
        for id in WRONG {
            let reported = ask(&server, way, "add", 1, &[("x-request-id", id)]).await;
            expected.push(reported.get("x-request-id").unwrap().to_owned());
        }
        let made = ask(&server, way, "missing", 1, &[]).await;
        expected.push(made.get("x-request-id").unwrap().to_owned());
        // Version 7 of a UUID.
        assert!(expected.iter().all(|id| id.len() == 36 && &id[14..15] == "7"), "{expected:?}");
    }
    for way in WAYS {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (id, parent, known) in
            [("mine", format!("00-{trace}-00f067aa0ba902b7-01"), true), ("its", "00-x".into(), false)]
        {
            let headers = [("x-request-id", id.as_bytes()), ("traceparent", parent.as_bytes())];
            assert_eq!(ask(&server, way, "add", 1, &headers).await.get("x-request-id"), Some(id));
            expected.push(if known { trace.into() } else { id.into() });
        }
    }
    let lines = lines(&path, expected.len()).await;
    let reported = lines.iter().map(|line| line["trace_id"].as_str().unwrap_or(line["request_id"].as_str().unwrap()));
    assert_eq!(reported.collect::<Vec<_>>(), expected);
    let mut ids: Vec<_> = expected[..18].to_vec();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 18, "no two are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn tritonclient_sends_request_ids() {
    let repository = repository();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/simple/1/model.onnx");
    std::fs::create_dir_all(repository.path().join("simple/1")).unwrap();
    std::fs::copy(sample, repository.path().join("simple/1/model.onnx")).unwrap();
    let (_folder, path) = log_file();
    let server = start(&repository, &path, &[]);
    let (grpc, http) = (server.grpc.to_string(), server.http.to_string());
    let arguments = ["--grpc", &grpc, "--http", &http, "--repository", repository.path().to_str().unwrap()];
    if python::run("request_ids", "request_ids.py", &arguments).is_none() {
        return;
    }
    for line in lines(&path, 2).await {
        let protocol = line["protocol"].as_str().unwrap();
        assert_eq!(line["request_id"], format!("of-{protocol}"));
        assert_eq!(line["message_id"], format!("message-{protocol}"));
        assert_eq!(line["trace_id"], json!("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!((&line["rows"], &line["code"]), (&json!(2), &json!("ok")), "{line}");
    }
}
