//! Tells clients that have gone from those that have only finished sending.
//!
//! A client that closes its side of a connection (FIN) may still read: it has half-closed it, and is owed its answer. A client
//! that is gone altogether sends the same FIN, and no more until it is sent something: then its system answers with RST. So where
//! a request is open after FIN, the client is sent an interim response, `100 Continue`, which every client of HTTP/1.1 has to
//! expect at any time (RFC 9110 section 15.2). RST ends the connection at once, and cancels its requests.

use std::{future::pending, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::{io::Interest, net::TcpStream, time::timeout};

use super::activity::{Activity, AnswerState};

/// How long an answer may take after FIN before the client is sent something. Most come sooner.
const PROBE_DELAY: Duration = Duration::from_millis(100);

/// How long nothing may be written of an answer that has no end, after FIN.
const MAX_SILENCE: Duration = Duration::from_secs(5);

const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Ends when the client of a connection over HTTP/1 has gone. Over HTTP/2 the end of either direction is the end of both, and
/// whoever reads finds it.
pub(super) async fn until_gone(activity: &Activity, stream: &TcpStream) {
    if !finished_sending(stream).await {
        return;
    }
    if activity.http2.load(Relaxed) {
        return pending().await;
    }
    let (mut probed, mut written_before, mut silent) = (0, 0, Duration::ZERO);
    while timeout(PROBE_DELAY, stream.ready(Interest::ERROR)).await.is_err() {
        match activity.answer_state() {
            // Whoever reads the next request finds that there is none.
            AnswerState::Other => {}
            // Nothing may be sent for long, and so a client that is gone would keep its place.
            AnswerState::Endless => {
                let written = activity.written.load(Relaxed);
                silent = if written == written_before { silent + PROBE_DELAY } else { Duration::ZERO };
                written_before = written;
                if silent >= MAX_SILENCE {
                    return;
                }
            }
            AnswerState::Waiting => {
                let is_due = probed != activity.begun() && !activity.http10.load(Relaxed);
                probed = activity.begun();
                // A part of it would spoil the answer.
                if is_due && !stream.try_write(PROBE).is_ok_and(|written| written == PROBE.len()) {
                    return;
                }
            }
        }
    }
}

/// Waits for FIN or RST. True for FIN.
async fn finished_sending(stream: &TcpStream) -> bool {
    // Where the system does not report FIN, RST has to do.
    #[cfg(target_os = "linux")]
    let interest = Interest::PRIORITY | Interest::ERROR;
    #[cfg(not(target_os = "linux"))]
    let interest = Interest::ERROR;
    match stream.ready(interest).await {
        Ok(ready) if ready.is_error() => false,
        Ok(ready) if ready.is_read_closed() => true,
        // Urgent data, of which the protocol has none.
        Ok(_) => pending().await,
        Err(_) => false,
    }
}
