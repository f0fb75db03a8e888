//! Detects clients that have gone, as opposed to clients that have only finished sending.
//!
//! A client that closes its side of a connection (FIN) may still read: it has half-closed the connection, and is owed its answer.
//! A client that has gone sends the same FIN, and nothing more until the server sends something. Then the client's system answers
//! with RST. So where a request is open after FIN, the server sends an interim response, `100 Continue`. Every client of HTTP/1.1
//! has to expect it at any time (RFC 9110 section 15.2). RST ends the connection at once, and cancels its requests.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::timeout;

use super::{
    activity::{AnswerState, ConnectionActivity},
    byte_stream::StreamHandle,
};

/// Time that an answer may take after FIN before the client is sent a probe. Most answers come sooner.
const PROBE_DELAY: Duration = Duration::from_millis(100);

/// Time after FIN in which nothing is written of an answer that has no end, before its client counts as gone.
const MAX_SILENCE: Duration = Duration::from_secs(5);

const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Ends when the client of a connection over HTTP/1 has gone. Over HTTP/2 the end of either direction is the end of both, and the
/// next read finds it.
pub(super) async fn until_gone(activity: &ConnectionActivity, stream: Arc<impl StreamHandle>) {
    if !stream.until_finished().await {
        return;
    }
    if activity.http2.load(Relaxed) {
        return pending().await;
    }
    let (mut probed, mut written_before, mut silent) = (0, 0, Duration::ZERO);
    while timeout(PROBE_DELAY, stream.until_reset()).await.is_err() {
        match activity.answer_state() {
            // The read of the next request finds the end.
            AnswerState::Other => {}
            // An answer without an end may be silent for long, and a client that has gone would keep its place.
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
                // A probe that is written in part would corrupt the answer.
                if is_due && !stream.try_write(PROBE).is_ok_and(|written| written == PROBE.len()) {
                    return;
                }
            }
        }
    }
}
