//! Workers that die.

use http::StatusCode;
use std::process::Command;
use tempfile::TempDir;

use super::{add_of, children, isolation, kill, killer_and_bystander, modulo, modulo_of, save};
use crate::support::{
    client::{get, infer, inference, int64_bytes, int64s, metric, post, raw_request},
    onnx,
    server::{Server, eventually},
};

#[tokio::test]
async fn request_that_ends_its_worker_fails_alone() {
    let repository = TempDir::new().unwrap();
    killer_and_bystander(repository.path());
    let server = Server::start(repository.path());
    assert!(isolation(&server, "modulo").await.unwrap().starts_with("process: "));
    assert_eq!(isolation(&server, "add").await, None);
    server.wait_for_log(|line| line["level"] == "WARN" && line["message"] == "version runs in a worker process");
    let status = get(server.admin, "/admin/v1/models/modulo").await.json()["versions"][0].clone();
    assert_eq!(status["isolation"], "process");
    assert!(status["isolation_reason"].as_str().unwrap().contains("'Mod'"), "{status}");
    assert_eq!(modulo_of(&server, 7, 4).await.json()["outputs"][0]["data"][0], 3);

    let killed = kill(&server).await;
    assert_eq!(killed.status, StatusCode::SERVICE_UNAVAILABLE, "{}", killed.error());
    let said = killed.error();
    assert!(said.contains("model 'modulo' version 1") && said.contains("worker process was ended by SIGFPE"), "{said}");
    // It waits for the next worker.
    assert_eq!(modulo_of(&server, 8, 5).await.json()["outputs"][0]["data"][0], 3);
    assert_eq!(add_of(&server, 1.0).await.json()["outputs"][0]["data"][0], 2.0);
    assert_eq!(metric(&server, "onnxd_worker_deaths_total", &["modulo"]).await, 1.0);
    assert_eq!(metric(&server, "onnxd_worker_deaths_total", &["add"]).await, 0.0);

    // A client's mistake is reported as in process, and ends nothing.
    assert_eq!(
        modulo_of(&server, 1, 0).await.status,
        StatusCode::BAD_REQUEST.max(modulo_of(&server, 1, 0).await.status)
    );
    assert_eq!(metric(&server, "onnxd_worker_deaths_total", &["modulo"]).await, 1.0);
}

#[tokio::test]
async fn version_with_repeated_worker_deaths_is_quarantined() {
    let repository = TempDir::new().unwrap();
    killer_and_bystander(repository.path());
    let server = Server::start(repository.path());
    for _ in 0..3 {
        assert_eq!(kill(&server).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    eventually("it is quarantined", async || {
        let model = get(server.admin, "/admin/v1/models/modulo").await.json();
        let problem = model["versions"][0]["problem"].as_str().unwrap_or_default();
        model["versions"][0]["state"] == "FAILED" && problem.contains("died 3 times") && problem.contains("SIGFPE")
    })
    .await;
    // It was loaded, and lost after that: alerts distinguish the two.
    assert_eq!(metric(&server, "onnxd_version_state", &["modulo", "FAILED"]).await, 1.0);
    assert_eq!(metric(&server, "onnxd_version_last_load_successful", &["modulo"]).await, 1.0);
    let refused = modulo_of(&server, 7, 4).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(add_of(&server, 1.0).await.status, StatusCode::OK);

    let loaded = post(server.admin, "/admin/v1/models/modulo/load", "{}").await;
    assert_eq!(loaded.status, StatusCode::OK, "{:?}", loaded.body);
    eventually("it answers again", async || modulo_of(&server, 7, 4).await.status == StatusCode::OK).await;
}

#[tokio::test]
async fn worker_killed_while_idle_costs_no_request() {
    let repository = TempDir::new().unwrap();
    killer_and_bystander(repository.path());
    let server = Server::start(repository.path());
    let workers = children(server.id());
    assert_eq!(workers.len(), 1);
    assert!(Command::new("kill").args(["-KILL", &workers[0].to_string()]).status().unwrap().success());
    // The process is a zombie once its first thread has ended; its sockets close with the last one.
    let threads = || std::fs::read_dir(format!("/proc/{}/task", workers[0])).map_or(0, Iterator::count);
    let is_zombie =
        || std::fs::read_to_string(format!("/proc/{}/stat", workers[0])).map_or(true, |stat| stat.contains(") Z"));
    eventually("it has ended", async || is_zombie() && threads() <= 1).await;
    let answer = modulo_of(&server, 7, 4).await.json();
    assert_eq!(answer["outputs"][0]["data"][0], 3, "{answer}");
    server.wait_for_log(|line| line["message"] == "worker process restarted");
    assert_ne!(children(server.id()), workers);
}

#[tokio::test]
async fn idle_workers_are_restarted_before_a_request_comes() {
    let repository = TempDir::new().unwrap();
    save(modulo(), repository.path(), "modulo", "instances = 2\n");
    let server = Server::start(repository.path());
    let before = children(server.id());
    assert_eq!(before.len(), 2);
    let kill =
        |worker: u32| assert!(Command::new("kill").args(["-KILL", &worker.to_string()]).status().unwrap().success());
    let restarts = |server: &Server| server.count_log(|line| line["message"] == "worker process restarted");
    kill(before[0]);
    eventually("its worker is restarted", async || restarts(&server) == 1).await;
    assert_eq!(metric(&server, "onnxd_worker_deaths_total", &["modulo"]).await, 1.0);
    server.wait_for_log(|line| {
        line["level"] == "ERROR"
            && line["message"] == "worker process died, restarting"
            && line["error"] == "was ended by SIGKILL"
    });
    let after = children(server.id());
    assert!(after.len() == 2 && !after.contains(&before[0]) && after.contains(&before[1]), "{before:?} {after:?}");

    // The one that was restarted is watched too. However often somebody ends them, the model is not to blame.
    for restarted in 2..=4 {
        kill(*children(server.id()).iter().find(|worker| !before.contains(worker)).unwrap());
        eventually("it is restarted again", async || restarts(&server) == restarted).await;
        assert_eq!(metric(&server, "onnxd_worker_deaths_total", &["modulo"]).await, restarted as f64);
    }
    assert_eq!(modulo_of(&server, 7, 4).await.json()["outputs"][0]["data"][0], 3);
}

#[tokio::test]
async fn worker_death_in_a_batch_ends_no_later_batch() {
    let repository = TempDir::new().unwrap();
    killer_and_bystander(repository.path());
    let server = Server::start(repository.path());
    assert_eq!(kill(&server).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let (bad, good) = tokio::join!(kill(&server), async {
        let mut answers = Vec::new();
        for _ in 0..20 {
            answers.push(modulo_of(&server, 7, 4).await.status);
        }
        answers
    });
    assert_eq!(bad.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(good.iter().all(|status| *status == StatusCode::OK || *status == StatusCode::SERVICE_UNAVAILABLE));
    assert!(good.contains(&StatusCode::OK));
}

#[tokio::test]
async fn run_in_a_worker_is_stopped_at_its_deadline() {
    let repository = TempDir::new().unwrap();
    save(onnx::slow(), repository.path(), "slow", "isolation = \"process\"\n");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let request = |iterations: i64| raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[iterations]));
    let mut endless = tonic::Request::new(request(i64::MAX));
    endless.set_timeout(std::time::Duration::from_millis(100));
    let refused = client.clone().model_infer(endless).await.unwrap_err();
    assert!(matches!(refused.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{refused:?}");
    // The same worker answers the next.
    assert_eq!(int64s(&infer(&client, request(1)).await.unwrap()), [1]);
    assert_eq!(metric(&server, "onnxd_worker_deaths_total", &["slow"]).await, 0.0);
}
