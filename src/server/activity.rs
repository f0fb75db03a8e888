//! Whether the client of a connection goes on: it has to, unless it waits for an answer or rests between requests.

use bytes::Bytes;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};

use super::limits::ConnectionLimits;
use crate::{api::Unwritten, metrics::Closed};

/// What happens on a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Answers that are on their way.
    pub unwritten: Arc<Unwritten>,
    /// Bytes read and written.
    read: AtomicU64,
    written: AtomicU64,
    /// Whether the last write found no room.
    blocked: AtomicBool,
    http2: AtomicBool,
    /// Requests that have begun, and those of them that are not answered.
    begun: AtomicU64,
    open: AtomicUsize,
    /// The client does not go on.
    given_up: AtomicBool,
    /// The next answer is the last.
    closing: AtomicBool,
}

/// A request, until it is answered.
pub(super) struct Open(Arc<Activity>);

impl Activity {
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.begun.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(self.clone())
    }

    /// Has the connection end with the answer to what is open. False where nothing is.
    pub(super) fn close(&self) -> bool {
        self.closing.store(true, Relaxed);
        self.open.load(Relaxed) > 0
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// What HTTP/2 begins with: the preface, and the head of the first frame.
const HTTP2_BEGIN: u64 = 24 + 9;

/// Ends when the client has begun to say what it wants, which may be on its way: after `grace` at the latest.
pub(super) async fn until_greeted(activity: &Activity, grace: Duration) {
    let end = Instant::now() + grace;
    while activity.read.load(Relaxed) < HTTP2_BEGIN && Instant::now() < end {
        sleep(grace / 50).await;
    }
}

/// Ends when the connection is to be closed, with the reason.
pub(super) async fn until_closed(activity: &Activity, limits: &ConnectionLimits) -> Closed {
    // Often enough that no timeout is exceeded by much, seldom enough for ten thousand connections.
    let shortest = limits.header_timeout.min(limits.idle_timeout).min(limits.write_timeout);
    let tick = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
    let mut watch = Watch { rest: Rest::new(activity, Instant::now()), stalled: None };
    loop {
        sleep(tick).await;
        if let Some(why) = watch.look(activity, limits, Instant::now()) {
            activity.given_up.store(true, Relaxed);
            return why;
        }
    }
}

/// What was seen so far.
struct Watch {
    rest: Rest,
    /// Since when nothing can be written, and the bytes written by then.
    stalled: Option<(Instant, u64)>,
}

/// The client has no request open.
struct Rest {
    since: Instant,
    begun: u64,
    read: u64,
    /// Since when it has been sending the next.
    sending: Option<Instant>,
}

impl Rest {
    fn new(activity: &Activity, now: Instant) -> Self {
        Rest { since: now, begun: activity.begun.load(Relaxed), read: activity.read.load(Relaxed), sending: None }
    }
}

impl Watch {
    fn look(&mut self, activity: &Activity, limits: &ConnectionLimits, now: Instant) -> Option<Closed> {
        let blocked = activity.blocked.load(Relaxed);
        let written = activity.written.load(Relaxed);
        match self.stalled {
            Some((since, before)) if blocked && before == written => {
                if now - since >= limits.write_timeout {
                    return Some(Closed::Unread);
                }
            }
            _ => self.stalled = blocked.then_some((now, written)),
        }
        if activity.unwritten.is_overdue(now) {
            return Some(Closed::Unread);
        }
        // What a client waits for is not its fault.
        let busy = blocked || activity.open.load(Relaxed) > 0 || !activity.unwritten.is_empty();
        let (begun, read) = (activity.begun.load(Relaxed), activity.read.load(Relaxed));
        if begun == 0 {
            // The first request has to come; over HTTP/2 the client may take its time once it has said what it speaks.
            let greeted = activity.http2.load(Relaxed) && read >= HTTP2_BEGIN;
            return (!greeted && now - self.rest.since >= limits.header_timeout).then_some(Closed::Headers);
        }
        if busy || begun != self.rest.begun {
            self.rest = Rest::new(activity, now);
            return None;
        }
        if activity.http2.load(Relaxed) {
            // Pinged.
            return None;
        }
        if read > self.rest.read {
            let since = *self.rest.sending.get_or_insert(now);
            return (now - since >= limits.header_timeout).then_some(Closed::Headers);
        }
        (now - self.rest.since >= limits.idle_timeout).then_some(Closed::Idle)
    }
}

/// A stream whose bytes are counted.
pub(super) struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// The first bytes, as far as they tell the protocols apart.
    first: Vec<u8>,
    /// What was read before and is read once more.
    again: Bytes,
}

/// No method of HTTP/1.1 begins so.
const HTTP2: &[u8] = b"PRI ";

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Watched { stream, activity, first: Vec::new(), again: Bytes::new() }
    }

    /// Has these bytes, which were read, read once more.
    pub(super) fn read_again(&mut self, bytes: Bytes) {
        self.again = bytes;
    }

    fn has_written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.activity.blocked.store(true, Relaxed),
            Poll::Ready(Ok(bytes)) => {
                self.activity.blocked.store(false, Relaxed);
                self.activity.written.fetch_add(*bytes as u64, Relaxed);
            }
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.activity.given_up.load(Relaxed) {
            // The system would go on offering what it has to a client that does not read. Where it refuses, it does that.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.again.is_empty() {
            let again = this.again.split_to(this.again.len().min(buffer.remaining()));
            buffer.put_slice(&again);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let new = &buffer.filled()[before..];
        if !new.is_empty() {
            this.activity.read.fetch_add(new.len() as u64, Relaxed);
            if this.first.len() < HTTP2.len() {
                this.first.extend(new.iter().take(HTTP2.len() - this.first.len()));
                this.activity.http2.store(this.first == HTTP2, Relaxed);
            }
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, data);
        this.has_written(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, data);
        this.has_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
