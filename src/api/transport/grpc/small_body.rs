//! Bodies of the methods that tonic serves: small, and read at once.

use axum::{
    body::Body,
    extract::{Request, State},
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

use super::status::status;
use crate::api::transport::{
    limits::Limits,
    memory_budget::{Share, guarded},
};

/// Bytes that a client may send on one of these calls; a question takes a few dozen.
pub(in crate::api) const MAX_SMALL_BODY_BYTES: usize = 64 << 10;

/// Reads the body whether or not the method asks for more of it. An unread rest stays with the connection, up to its windows,
/// where it is not counted: a client that asks and never reads the answers could fill them.
pub(in crate::api) async fn read_small_bodies(State(limits): State<Arc<Limits>>, request: Request) -> Request {
    let (head, mut body) = request.into_parts();
    let (pieces, read) = mpsc::unbounded_channel::<Result<Bytes, Status>>();
    tokio::spawn(async move {
        let mut read = 0;
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = pieces.closed() => return,
            };
            let data = match frame {
                None => return,
                Some(Err(error)) => {
                    let _ = pieces.send(Err(Status::cancelled(format!("the call can't be read: {error}"))));
                    return;
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            read += data.len();
            let mut share = Share::new(&limits.budget);
            let data = if read > MAX_SMALL_BODY_BYTES {
                Err(Status::resource_exhausted(format!("a call of this method may send {MAX_SMALL_BODY_BYTES} bytes")))
            } else if share.grow(data.len()) {
                Ok(guarded(data, share))
            } else {
                Err(status(limits.full().error))
            };
            let end = data.is_err();
            if pieces.send(data).is_err() || end {
                return;
            }
        }
    });
    let pieces = stream::unfold(read, async |mut read| Some((read.recv().await?, read)));
    Request::from_parts(head, Body::from_stream(pieces))
}
