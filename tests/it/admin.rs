//! Admin calls, over gRPC, HTTP and the command line.

mod access;
mod calls;
mod commands;
mod durable;
mod limits;
mod openapi;
mod source;
mod standby;
mod undo;
mod unload;
mod watch;
mod wrong;

use axum::body::Body;
use http::{Method, Request};
use onnxd::api::proto::admin::admin_service_client::AdminServiceClient;
use serde_json::Value;
use std::{fs, net::SocketAddr, path::Path};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::support::{
    client::{Answer, get, send},
    onnx,
    server::{Server, eventually},
};

/// A repository with the model `add`: versions 1 to 3 add their number, 4 can't be loaded.
fn repository() -> TempDir {
    let repository = TempDir::new().unwrap();
    for version in 1..=3 {
        save_version(repository.path(), version);
    }
    save_broken(repository.path(), 4);
    repository
}

fn save_version(repository: &Path, version: u64) {
    onnx::add(version as f32).save(&repository.join(format!("add/{version}/model.onnx")));
}

fn save_broken(repository: &Path, version: u64) {
    let folder = repository.join(format!("add/{version}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("model.onnx"), "no model").unwrap();
}

type Client = AdminServiceClient<Channel>;

async fn client(server: &Server) -> Client {
    let channel = Channel::from_shared(format!("http://{}", server.admin)).unwrap().connect().await.unwrap();
    AdminServiceClient::new(channel)
}

/// An admin call over HTTP, with its path behind `/admin/v1`.
async fn call(address: SocketAddr, method: Method, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder().method(method).uri(format!("http://{address}/admin/v1{path}"));
    send(request.body(body.into()).unwrap()).await
}

async fn post(server: &Server, path: &str, body: impl Into<Body>) -> Answer {
    call(server.admin, Method::POST, path, body).await
}

/// A change that must be made.
async fn change(server: &Server, path: &str, body: impl Into<Body>) -> Value {
    let answer = post(server, path, body).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// The model `add` as the admin API reports it.
async fn model(server: &Server) -> Value {
    get(server.admin, "/admin/v1/models/add").await.json()
}

/// The version that answers a request that names none.
async fn answering(server: &Server) -> String {
    let body = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]}"#;
    let answer = crate::support::client::post(server.http, "/v2/models/add/infer", body).await;
    answer.json()["model_version"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Replaces the config.toml of the model `add`.
fn configure(repository: &Path, config: &str) {
    let aside = repository.join("add/.config");
    fs::write(&aside, config).unwrap();
    fs::rename(aside, repository.join("add/config.toml")).unwrap();
}

/// Edits config.toml, and waits until the server has read it: what comes later into the repository is there.
async fn edit(server: &Server, repository: &Path, config: &str) {
    configure(repository, config);
    let name = format!("marker{}", fs::read_dir(repository).unwrap().count());
    onnx::add(1.0).save(&repository.join(format!("{name}/1/model.onnx")));
    let path = format!("/v2/models/{name}/ready");
    eventually("the repository was read", async || get(server.http, &path).await.status == 200).await;
}
