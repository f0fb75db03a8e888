//! There are only so many connections.

use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream},
};

use super::{assert_well, start};
use crate::support::{
    client::metric,
    h1::Connection,
    server::{PATIENCE, eventually},
};

/// Whether the server closes the connection, which says nothing.
fn is_closed(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

const HEALTH: &[u8] = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once() {
    let (_repository, server) = start(&["--max-connections", "4"]);
    let mut open: Vec<_> = [server.http, server.grpc, server.http, server.grpc]
        .into_iter()
        .map(|address| Connection::open(address).unwrap())
        .collect();
    let count = async || metric(&server, "onnxd_connections", &[]).await;
    eventually("all are there", async || count().await == 4.0).await;
    for address in [server.http, server.grpc, server.http] {
        assert!(is_closed(address));
    }
    // Who is there goes on, and who scrapes is no client.
    open[0].send(HEALTH).unwrap();
    assert_eq!(open[0].reply().unwrap().status, 200);
    assert_eq!(metric(&server, "onnxd_connections_refused_total", &[]).await, 3.0);
    let told =
        |line: &serde_json::Value| line["message"].as_str().is_some_and(|said| said.contains("--max-connections"));
    server.wait_for_log(told);
    assert_eq!(server.count_log(told), 1, "not of every one");
    open.clear();
    eventually("there is room again", async || count().await == 0.0).await;
    assert_well(&server).await;
}
