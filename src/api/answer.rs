//! Answers on their way out: counted, and known to their connection until they are written.

use axum::{body::HttpBody, http::Extensions};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    budget::{Share, guarded},
    limits::Limits,
};

/// The answers of one connection that are not written yet: its requests carry it as an extension. HTTP/2 takes what it is
/// given and keeps it for as long as the client grants no window, which nothing else shows.
#[derive(Debug, Default)]
pub struct Unwritten {
    /// By when each has to get on.
    deadlines: Mutex<BTreeMap<u64, Instant>>,
}

impl Unwritten {
    /// Whether every answer is written.
    pub fn is_empty(&self) -> bool {
        self.deadlines().is_empty()
    }

    /// Whether one should have got on by now.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.deadlines().values().any(|deadline| *deadline <= now)
    }

    fn deadlines(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is not written yet.
struct Unread {
    unwritten: Arc<Unwritten>,
    number: u64,
    /// By when all of it has to be written.
    whole: Instant,
    timeout: Duration,
    _share: Share,
}

impl Unread {
    fn new(unwritten: Arc<Unwritten>, whole: Instant, timeout: Duration, share: Share) -> Self {
        let mut deadlines = unwritten.deadlines();
        let number = deadlines.last_key_value().map_or(0, |(last, _)| last + 1);
        deadlines.insert(number, whole.min(Instant::now() + timeout));
        drop(deadlines);
        Unread { unwritten, number, whole, timeout, _share: share }
    }

    /// A piece has been taken.
    fn got_on(&self) {
        self.unwritten.deadlines().insert(self.number, self.whole.min(Instant::now() + self.timeout));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.unwritten.deadlines().remove(&self.number);
    }
}

/// An answer goes out in pieces of this size, so that it shows whether it is read.
const PIECE: usize = 64 << 10;

/// The body of an answer.
pub(super) struct Outgoing {
    left: Bytes,
    unread: Option<Arc<Unread>>,
}

/// The body of an answer to a request with these extensions, counted until it is written. Nothing is refused here: the work is
/// done, and who asks next finds less room.
pub(super) fn outgoing(data: impl Into<Bytes>, request: &Extensions, limits: &Limits) -> Outgoing {
    let data = data.into();
    let mut share = Share::new(&limits.budget);
    share.add(data.len());
    let whole = Instant::now() + limits.patience(limits.write_timeout, data.len());
    let unwritten = request.get::<Arc<Unwritten>>().cloned().unwrap_or_default();
    let unread = Unread::new(unwritten, whole, limits.write_timeout, share);
    Outgoing { left: data, unread: Some(Arc::new(unread)) }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.left.len().min(PIECE);
        let piece = self.left.split_to(length);
        // The last piece takes it along.
        let unread = if self.left.is_empty() { self.unread.take() } else { self.unread.clone() };
        if let Some(unread) = &unread {
            unread.got_on();
        }
        Poll::Ready(Some(Ok(Frame::data(guarded(piece, unread)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
