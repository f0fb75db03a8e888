//! Floods of HTTP/2 frames that ask for nothing.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
};

use super::{assert_well, start};
use crate::support::{
    client::{infer, inference, metric},
    h2::{self, Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame},
    server::{WAIT_TIMEOUT, eventually},
};

const ENHANCE_YOUR_CALM: u32 = 11;
const PRIORITY: u8 = 2;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xee;

/// Frames of a flood. The server ends it much sooner.
const MANY: usize = 2_000_000;

/// Opens a stream that waits for its body.
fn open_request() -> Vec<u8> {
    let head = h2::head("POST", "/inference.GRPCInferenceService/ModelInfer", &[("content-type", "application/grpc")]);
    frame(HEADERS, END_HEADERS, 1, &head)
}

/// Sends frames until the server ends the connection. Gives the error code of its last word, if that came.
fn flood(address: SocketAddr, first: &[u8], flooding: &[u8]) -> Option<u32> {
    let mut connection = Connection::open(address);
    connection.stream.write_all(first).unwrap();
    let mut sending = connection.stream.try_clone().unwrap();
    sending.set_write_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let flood = flooding.repeat(1000);
    let sent = std::thread::spawn(move || (0..MANY / 1000).find(|_| sending.write_all(&flood).is_err()));
    // Like a client that works it reads what comes.
    let mut code = None;
    while let Ok(frame) = connection.read() {
        if frame.kind == GOAWAY {
            code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
    }
    assert!(sent.join().unwrap().is_some(), "the server takes {MANY} frames");
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_their_connection() {
    let (_repository, server) = start(&[]);
    let other = inference(&server).await;
    let open = open_request();
    let settled = [&open[..], &frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())].concat();
    let floods = [
        ("PING", vec![], frame(PING, 0, 0, &[0; 8])),
        ("acknowledged PING", vec![], frame(PING, 1, 0, &[0; 8])),
        ("SETTINGS", vec![], frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", open.clone(), frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())),
        ("RST_STREAM", settled, frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())),
        ("empty DATA", open.clone(), frame(DATA, 0, 1, &[])),
        ("an unknown type", vec![], frame(UNKNOWN, 0, 0, &[0; 4])),
        ("CONTINUATION", frame(HEADERS, 0, 1, &h2::head("GET", "/", &[])), frame(CONTINUATION, 0, 1, &[])),
    ];
    for (what, first, flooding) in floods {
        let address = server.grpc;
        let code = tokio::task::spawn_blocking(move || flood(address, &first, &flooding)).await.unwrap();
        // A reset may overtake it.
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{what}: {code:?}");
    }
    let ended = metric(&server, "onnxd_connections_closed_total", &["flood"]).await;
    // Some are noticed by the library that reads the frames.
    assert!(ended >= 6.0, "{ended}");
    infer(&other, super::echo(4)).await.unwrap();
    assert_well(&server).await;
    eventually("nothing of them is left", async || metric(&server, "onnxd_request_memory_bytes", &[]).await == 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_is_answered_by_goaway() {
    let (_repository, server) = start(&[]);
    // More than may come at once, and in one piece with what a connection begins with.
    let unknown = frame(UNKNOWN, 0, 0, &[]).repeat(5_000);
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..], &unknown].concat();
    for address in [server.http, server.grpc] {
        let mut connection = Connection { stream: TcpStream::connect(address).unwrap() };
        connection.stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        connection.stream.write_all(&bytes).unwrap();
        assert_eq!(connection.read().unwrap().kind, SETTINGS);
        let goaway = connection.read_until(GOAWAY).unwrap();
        assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
        assert!(connection.read().is_err(), "and nothing comes behind it");
    }
    assert_eq!(metric(&server, "onnxd_connections_closed_total", &["flood"]).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_work_may_send_many_frames() {
    let (_repository, server) = start(&[]);
    let mut connection = Connection::open(server.http);
    let head = h2::head("GET", "/v2/health/live", &[]);
    for number in 0..3_000 {
        let stream = 2 * number + 1;
        let frames = [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &head),
            frame(PING, 0, 0, &[7; 8]),
            frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()),
            frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]),
        ];
        connection.stream.write_all(&frames.concat()).unwrap();
        assert_eq!(connection.read_until(HEADERS).unwrap().stream, stream);
    }
    assert_eq!(metric(&server, "onnxd_connections_closed_total", &["flood"]).await, 0.0);
}
