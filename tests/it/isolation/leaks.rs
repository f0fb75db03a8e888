//! Nothing is left behind of workers.

use std::{fs, path::Path};
use tempfile::TempDir;

use super::{children, eventually_without_children, modulo_of, save};
use crate::support::{
    client::{get, post},
    onnx,
    server::{Server, eventually},
};

#[tokio::test]
async fn workers_end_with_a_server_that_is_killed() {
    let repository = TempDir::new().unwrap();
    save(onnx::slow(), repository.path(), "slow", "isolation = \"process\"\n");
    let mut server = Server::start(repository.path());
    let workers = children(server.id());
    assert_eq!(workers.len(), 1);
    // One that runs for long ends too.
    let (address, body) =
        (server.http, r#"{"inputs":[{"name":"iterations","datatype":"INT64","shape":[1,1],"data":[100000000]}]}"#);
    let asked = tokio::spawn(async move {
        let stream = std::net::TcpStream::connect(address).unwrap();
        let head =
            format!("POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        std::io::Write::write_all(&mut &stream, head.as_bytes()).unwrap();
        stream
    });
    let _stream = asked.await.unwrap();
    let runs = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
    };
    eventually("it runs", async || runs(workers[0])).await;
    server.signal("KILL");
    server.wait();
    let is_gone = |id: u32| {
        let name = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        !name.contains("worker")
    };
    eventually("its worker has gone", async || is_gone(workers[0])).await;
}

/// Open files of a process, and those of them that workers share.
fn files(process: u32) -> (usize, usize) {
    let links: Vec<_> = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten().collect();
    let shared = links.iter().filter_map(|link| fs::read_link(link.path()).ok());
    (links.len(), shared.filter(|path| path.to_string_lossy().contains("onnxd-worker")).count())
}

fn mapped(process: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    maps.lines().filter(|line| line.contains("onnxd-worker")).count()
}

#[tokio::test]
async fn swaps_leave_no_process_file_or_mapping() {
    const SWAPS: usize = 20;
    let repository = TempDir::new().unwrap();
    save(super::modulo(), repository.path(), "modulo", "");
    let server = Server::start(repository.path());
    let settled = |server: &Server| (children(server.id()).len(), files(server.id()).1);
    modulo_of(&server, 7, 4).await;
    for swap in 0..SWAPS {
        let reload = post(server.admin, "/admin/v1/models/modulo/versions/1/reload", "{}").await;
        assert!(reload.status.is_success(), "{:?}", reload.body);
        eventually("it is replaced", async || {
            let metadata = get(server.http, "/v2/models/modulo").await.json();
            metadata["properties"]["generation"]
                .as_str()
                .is_some_and(|number| number.parse::<usize>().unwrap() > swap + 1)
        })
        .await;
        assert_eq!(modulo_of(&server, 7, 4).await.json()["outputs"][0]["data"][0], 3);
    }
    eventually("what was replaced has gone", async || settled(&server) == (1, 1)).await;
    // The pool of one worker, not of all that there were.
    assert!(mapped(server.id()) < SWAPS / 2, "{}", mapped(server.id()));
    assert!(post(server.admin, "/admin/v1/models/modulo/unload", r#"{"force": true}"#).await.status.is_success());
    eventually_without_children(server.id()).await;
    eventually("the last has gone", async || files(server.id()).1 == 0 && mapped(server.id()) == 0).await;
}

/// A worker holds none of the server's sockets.
#[tokio::test]
async fn worker_holds_no_socket_of_the_server() {
    let repository = TempDir::new().unwrap();
    save(super::modulo(), repository.path(), "modulo", "");
    let server = Server::start(repository.path());
    let [worker] = children(server.id())[..] else { panic!() };
    let sockets = |process: u32| {
        let links = fs::read_dir(Path::new("/proc").join(process.to_string()).join("fd")).unwrap().flatten();
        let links = links.filter_map(|link| fs::read_link(link.path()).ok());
        links.filter(|path| path.to_string_lossy().starts_with("socket:")).collect::<Vec<_>>()
    };
    let (of_worker, of_server) = (sockets(worker), sockets(server.id()));
    assert!(!of_worker.is_empty() && of_worker.iter().all(|socket| !of_server.contains(socket)));
}
