//! The lines of the access log.

use serde_json::{Value, json};
use std::time::Instant;

use super::{WAYS, Way, ask, body, http, lines, log_file, repository, start};
use crate::support::{
    client::{float_bytes, infer, inference, int64_bytes, metric, raw_request},
    h1::Connection,
    load::{NO_TIME_LIMITS, occupy, pending},
    onnx,
    server::eventually,
};

#[tokio::test(flavor = "multi_thread")]
async fn log_line_matches_its_answer() {
    let repository = repository();
    let (_folder, path) = log_file();
    let server = start(&repository, &path, &[]);
    for (index, way) in WAYS.into_iter().enumerate() {
        let headers: [(&str, &[u8]); 2] = [("x-request-id", b"mine"), ("onnxd-server-timing", b"1")];
        let reported = ask(&server, way, "split", 10, &headers).await;
        let line = lines(&path, index + 1).await.pop().unwrap();
        let is_http = way != Way::Grpc;
        let expected = [
            ("protocol", json!(if is_http { "http" } else { "grpc" })),
            ("request_id", json!("mine")),
            ("message_id", json!("message")),
            ("model", json!("split")),
            ("version", json!(1)),
            ("reason", json!(reported.get("onnxd-routing-reason").unwrap())),
            ("code", json!("ok")),
            ("status", json!(reported.status)),
            ("rows", json!(10)),
            ("batch_rows", json!(4)),
        ];
        for (name, value) in expected {
            assert_eq!(line[name], value, "{way:?} {name}: {line}");
        }
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        if is_http {
            assert_eq!(line["bytes_in"], body(10, "message").to_string().len(), "{line}");
            assert_eq!(line["bytes_out"].to_string(), reported.get("content-length").unwrap(), "{line}");
        }
        for (phase, milliseconds) in
            reported.get("server-timing").unwrap().split(", ").map(|metric| metric.split_once(';').unwrap())
        {
            let name = if phase == "total" { "duration" } else { phase };
            let Some(milliseconds) = milliseconds.strip_prefix("dur=") else { continue };
            let logged = line[format!("{name}_seconds")].as_f64().unwrap() * 1000.0;
            assert!((logged - milliseconds.parse::<f64>().unwrap()).abs() <= 0.0011, "{phase}: {line} {reported:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_logged_with_error_and_version() {
    let repository = repository();
    onnx::lookup().save(&repository.path().join("lookup/1/model.onnx"));
    let (_folder, path) = log_file();
    // None of them is sampled.
    let server = start(&repository, &path, &["--access-log-sample", "0", "--max-http-json", "1KiB"]);
    let client = inference(&server).await;
    assert_eq!(ask(&server, Way::Plain, "add", 1, &[]).await.status, 200);
    for (index, (way, model, rows)) in
        [(Way::Plain, "missing", 1), (Way::Hyper, "missing", 1), (Way::Plain, "add", 500), (Way::Hyper, "add", 500)]
            .into_iter()
            .enumerate()
    {
        let reported = ask(&server, way, model, rows, &[]).await;
        let line = lines(&path, index + 1).await.pop().unwrap();
        assert_eq!((&line["model"], &line["status"]), (&json!(model), &json!(reported.status)), "{line}");
        let code = if rows == 1 { "not_found" } else { "resource_exhausted" };
        assert!(line["code"] == code && line.get("version").is_none() && line.get("rows").is_none(), "{line}");
    }
    // A version that fails is named.
    let request = raw_request("lookup", "x", "INT64", &[1, 1], int64_bytes(&[9]));
    let status = infer(&client, request).await.unwrap_err();
    let wrong = raw_request("add", "x", "FP32", &[1, 3], float_bytes(&[0.0; 3]));
    let refused = infer(&client, wrong).await.unwrap_err();
    let lines = lines(&path, 6).await;
    for (line, status, model) in [(&lines[4], status, "lookup"), (&lines[5], refused, "add")] {
        assert_eq!(
            (&line["error"], &line["status"]),
            (&json!(status.message()), &json!(status.code() as i32)),
            "{line}"
        );
        assert_eq!((&line["model"], &line["version"], &line["reason"]), (&json!(model), &json!(1), &json!("default")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn departed_client_is_logged_as_cancelled() {
    let repository = repository();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    let (_folder, path) = log_file();
    let server = start(&repository, &path, &[&["--access-log-sample", "0"], &NO_TIME_LIMITS[..]].concat());
    let busy = occupy(&server).await;
    let input = json!({ "name": "iterations", "datatype": "INT64", "shape": [1, 1], "data": [1] });
    let body = json!({ "inputs": [input] }).to_string();
    for (index, odd) in ["", "TE: trailers\r\n"].into_iter().enumerate() {
        let mut connection = Connection::open(server.http).unwrap();
        let head = format!(
            "POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\n{odd}X-Request-Id: gone\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.send(format!("{head}{body}").as_bytes()).unwrap();
        pending(&server, 2.0).await;
        drop(connection);
        let line = lines(&path, index + 1).await.pop().unwrap();
        assert_eq!(
            (&line["code"], &line["status"], &line["request_id"]),
            (&json!("cancelled"), &json!(499), &json!("gone"))
        );
        assert_eq!(line["model"], "slow", "{line}");
    }
    busy.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_line_stays_one_line_for_any_request() {
    let repository = repository();
    let (_folder, path) = log_file();
    let server = start(&repository, &path, &[]);
    let nasty = "a\n\"b\"\\\r\u{0}\u{2028}\u{1f980}";
    for way in [Way::Plain, Way::Hyper] {
        let odd: &[(&str, &[u8])] = if way == Way::Plain { &[] } else { &[("te", b"trailers")] };
        let reported = http(&server, "add", odd, &body(1, nasty).to_string()).await;
        assert_eq!(reported.status, 200);
        http(&server, "a%0A%22%7D%0Db", odd, "{}").await;
        http(&server, "a%FFb", odd, "{}").await;
        http(&server, "add", odd, "\u{0}\n\"").await;
    }
    let mut message = raw_request(nasty, "x", "FP32", &[1, 2], float_bytes(&[0.0; 2]));
    message.id = format!("{nasty}{}", "long ".repeat(100_000));
    infer(&inference(&server).await, message).await.unwrap_err();
    // A path that is no UTF-8 names no model.
    let lines: Vec<Value> = lines(&path, 7).await;
    for line in &lines[..6] {
        assert!(line["protocol"] == "http" && line["client"].is_string(), "{line}");
    }
    for at in [0, 3] {
        assert_eq!(lines[at]["message_id"], nasty);
        assert_eq!(lines[at + 1]["model"], "a\n\"}\rb");
        assert_eq!(lines[at + 2]["status"], 400, "{}", lines[at + 2]);
    }
    assert_eq!((&lines[6]["model"], &lines[6]["status"]), (&json!(nasty), &json!(5)));
    let id = lines[6]["message_id"].as_str().unwrap();
    assert!(id.starts_with(nasty) && id.len() < 300, "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_floods_are_logged_in_part_and_counted() {
    const FLOOD: usize = 2000;
    let repository = repository();
    let (_folder, path) = log_file();
    let server = start(&repository, &path, &["--access-log-sample", "0"]);
    let request = b"POST /v2/models/missing/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"inputs\":[]}";
    let began = Instant::now();
    let mut connection = Connection::open(server.http).unwrap();
    for _ in 0..FLOOD / 100 {
        connection.send(&request.repeat(100)).unwrap();
        (0..100).for_each(|_| assert_eq!(connection.reply().unwrap().status, 404));
    }
    let left_out = metric(&server, "onnxd_access_log_dropped_total", &["reason=\"errors\""]).await;
    let reported = FLOOD - left_out as usize;
    let lines = lines(&path, reported).await;
    let most = 100 * (began.elapsed().as_secs() as usize + 2);
    assert!(reported >= 100 && reported <= most, "{reported} of {most}");
    // The next line reports how many were left out, but for those behind the last.
    let known: u64 = lines.iter().filter_map(|line| line["errors_left_out"].as_u64()).sum();
    assert!(known as f64 <= left_out, "{known} of {left_out}");
    eventually("the next second", async || {
        ask(&server, Way::Plain, "missing", 1, &[]).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["errors_left_out"].as_u64());
        all.sum::<u64>() as f64 >= left_out
    })
    .await;
    // None of a sample of all is left out.
    let (_folder, path) = log_file();
    let server = start(&repository, &path, &["--access-log-sample", "1.0"]);
    let mut connection = Connection::open(server.http).unwrap();
    connection.send(&request.repeat(300)).unwrap();
    (0..300).for_each(|_| assert_eq!(connection.reply().unwrap().status, 404));
    super::lines(&path, 300).await;
}
