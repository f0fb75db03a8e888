//! A server as a value: started and ended in this process, without a command line.

use onnxd::server::{Addresses, Ended, Server, Sockets};
use serde_json::json;
use std::net::TcpListener;
use tempfile::TempDir;

use crate::support::{client, embedded::config, onnx};

/// A repository with one model, which adds a number.
fn repository(number: f32) -> TempDir {
    let folder = TempDir::new().unwrap();
    onnx::add(number).save(&folder.path().join("add.onnx"));
    folder
}

/// The model's answer to 1.
async fn ask(addresses: &Addresses) -> f64 {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 1.0]}]});
    let answer = client::post(addresses.http.unwrap(), "/v2/models/add/infer", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["outputs"][0]["data"][0].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_is_started_asked_and_ended_in_process() {
    let (models, state) = (repository(2.0), TempDir::new().unwrap());
    let server = Server::start(config(models.path(), &state)).await.unwrap();
    server.ready().await;
    assert_eq!(ask(server.addresses()).await, 3.0);
    let http = server.addresses().http.unwrap();
    assert_eq!(server.shutdown().await, Ended::Done { abandoned: 0 });
    assert!(TcpListener::bind(http).is_ok(), "the port is still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_in_one_process_do_not_depend_on_each_other() {
    let (first, second) = (repository(1.0), repository(10.0));
    let states = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let first = Server::start(config(first.path(), &states[0])).await.unwrap();
    let second_config = config(second.path(), &states[1]);
    let other = Server::start(second_config.clone()).await.unwrap();
    first.ready().await;
    other.ready().await;
    assert_eq!((ask(first.addresses()).await, ask(other.addresses()).await), (2.0, 11.0));
    assert_eq!(first.shutdown().await, Ended::Done { abandoned: 0 });
    assert_eq!(ask(other.addresses()).await, 11.0);
    assert_eq!(other.shutdown().await, Ended::Done { abandoned: 0 });
    let again = Server::start(second_config).await.unwrap();
    again.ready().await;
    assert_eq!(ask(again.addresses()).await, 11.0);
    assert_eq!(again.shutdown().await, Ended::Done { abandoned: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn server_takes_the_sockets_that_it_is_given() {
    let (models, state) = (repository(2.0), TempDir::new().unwrap());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = socket.local_addr().unwrap();
    let sockets = Sockets { http: Some(socket), ..Sockets::default() };
    let server = Server::start_on(sockets, config(models.path(), &state), |_| ()).await.unwrap();
    server.ready().await;
    assert_eq!(server.addresses().http, Some(bound));
    assert_eq!(ask(server.addresses()).await, 3.0);
    assert_eq!(server.shutdown().await, Ended::Done { abandoned: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_a_repository_says_so_and_leaves_nothing_behind() {
    let state = TempDir::new().unwrap();
    let missing = state.path().join("missing");
    let why = Server::start(config(&missing, &state)).await.err().unwrap();
    assert!(why.contains("the model repository") && why.contains("missing"), "{why}");
}
