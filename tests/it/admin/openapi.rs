//! The description of the HTTP API is right, complete, and true.

use http::Method;
use std::collections::BTreeSet;

use super::{call, change, repository};
use crate::support::{client::get, python, server::Server};

#[tokio::test(flavor = "multi_thread")]
async fn openapi_routes_all_answer() {
    let repository = repository();
    let server = Server::start(repository.path());
    let answer = get(server.admin, "/admin/v1/openapi.json").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let document = answer.json();
    let mut calls = BTreeSet::new();
    let mut routes = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            routes += 1;
            calls.insert(operation["operationId"].as_str().unwrap().to_owned());
            assert!(operation["summary"].as_str().unwrap().len() > 10, "{path}");
            // Other tests cover the effect of a call; here it exists.
            let path = path.replace("{model}", "add").replace("{version}", "3").replace("{alias}", "canary");
            if path.ends_with("/watch") {
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = call(server.admin, method.clone(), path.strip_prefix("/admin/v1").unwrap(), "{}").await;
            let is_there = answer.status != 405 && !(answer.status == 404 && answer.error().contains("nothing at"));
            assert!(is_there, "{method} {path}: {answer:?}");
        }
    }
    let methods =
        include_str!("../../../proto/admin.proto").lines().filter_map(|line| line.trim().strip_prefix("rpc "));
    let methods: Vec<_> = methods.map(|line| line.split('(').next().unwrap()).collect();
    assert_eq!(methods.len(), 17);
    assert!(routes > methods.len());
    for method in methods {
        assert!(calls.contains(method), "{method} is not described");
    }
}

/// By a validator that others wrote; and what the server answers is what the description says.
#[tokio::test(flavor = "multi_thread")]
async fn openapi_document_is_valid_and_matches_answers() {
    let repository = repository();
    let server = Server::start(repository.path());
    change(&server, "/models/add/weights", r#"{"weights": {"2": 9, "3": 1}}"#).await;
    let test = "openapi_document_is_valid_and_matches_answers";
    let address = server.admin.to_string();
    let script = move || python::run(test, "openapi.py", &[&address]);
    let Some(printed) = tokio::task::spawn_blocking(script).await.unwrap() else { return };
    assert_eq!(printed.trim(), "OpenAPI 3.1.0: valid; 7 answers keep to it");
}
