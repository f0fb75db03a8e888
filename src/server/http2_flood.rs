//! The end of a connection whose client floods it with HTTP/2 frames.

use futures_util::FutureExt;
use std::{future::poll_fn, io, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::time::sleep;

use super::{
    activity::ConnectionActivity,
    byte_stream::StreamHandle,
    http2_frames::{EMPTY_SETTINGS, goaway},
};
use crate::metrics::{Closed, TransportMetrics};

/// Number of reads that discard the rest of the client's data, the pause before each read, and its size.
///
/// Closing a connection with unread bytes resets it, and a client that is reset may not see the reason. The pauses keep the
/// client waiting, and the thread free.
const READS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);
const READ_BYTES: usize = 64 << 10;

/// Ends a connection whose client floods it, if it does. Sends the reason, and gives the client a moment to read it.
pub(super) async fn end(activity: &ConnectionActivity, stream: &impl StreamHandle, metrics: &TransportMetrics) {
    let Some(flood) = activity.flood.get() else { return };
    tracing::debug!(reason = Closed::Flood.label(), "connection closed");
    metrics.closed(Closed::Flood);
    // In the middle of a frame GOAWAY would not be understood. A client there does not read either.
    if flood.between_frames {
        // SETTINGS has to be the first frame.
        let begun = activity.written.load(Relaxed) > 0;
        let settings: &[u8] = if begun { &[] } else { &EMPTY_SETTINGS };
        let _ = stream.try_write(&[settings, &goaway(flood.last_request)].concat());
    }
    // A client that does not read is not waited for.
    let _ = poll_fn(|context| stream.poll_shutdown(context)).now_or_never();
    let mut unread = vec![0; READ_BYTES];
    for _ in 0..READS {
        sleep(PAUSE).await;
        match stream.try_read(&mut unread) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
