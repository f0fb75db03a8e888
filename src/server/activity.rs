//! Activity of a connection, and its timeouts. The client has to make progress, unless it waits for an answer or rests between
//! requests.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::sleep};

use super::http_limits::HttpLimits;
use crate::{api::PendingResponses, clock, metrics::Closed};

/// Activity of a connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionActivity {
    /// Answers that are being sent.
    pub pending: Arc<PendingResponses>,
    /// Bytes read and written.
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
    /// True if the last write found no room in the socket's send buffer.
    pub(super) blocked: AtomicBool,
    pub(super) http2: AtomicBool,
    /// The client speaks HTTP/1.0, which has no interim responses.
    pub(super) http10: AtomicBool,
    /// Requests that have begun, and those of them that are not answered.
    begun: AtomicU64,
    open: AtomicUsize,
    /// True if the answer has no end of its own: it continues for as long as there are events to send.
    pub(super) endless: AtomicBool,
    /// Bytes that were written when the latest request began.
    written_before: AtomicU64,
    /// Milliseconds of the coarse clock at which the last open request was answered.
    idle_since: AtomicU64,
    /// True if the connection is closed because its client makes no progress.
    pub(super) given_up: AtomicBool,
    /// True if the next answer is the last.
    closing: AtomicBool,
    /// The client's flood of HTTP/2 frames, once there is one.
    pub(super) flood: OnceLock<Flood>,
    /// Requests that the connection close once it is idle, as its place is needed.
    pub(super) close_requested: Notify,
    /// Requests that the connection end soon after that, if it is idle.
    pub(super) end_requested: Notify,
}

/// A flood of HTTP/2 frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flood {
    /// The stream of the client's last request.
    pub last_request: u32,
    /// True if the last frame to the client was written whole.
    pub between_frames: bool,
}

/// The answer to the open request of an HTTP/1 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerState {
    /// There is no answer, or it is being written.
    Other,
    /// Nothing of the answer has been written.
    Waiting,
    /// The answer continues for as long as there are events to send.
    Endless,
}

/// A request, until it is answered.
pub(super) struct Open(Arc<ConnectionActivity>);

impl ConnectionActivity {
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.begun.fetch_add(1, Relaxed);
        self.written_before.store(self.written.load(Relaxed), Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(self.clone())
    }

    /// Marks the next answer as the last, so that the connection ends with the answer to the open request. False if no request is
    /// open.
    pub(super) fn close(&self) -> bool {
        self.closing.store(true, Relaxed);
        self.open.load(Relaxed) > 0
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Requests that have begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// The state of the answer to the open request.
    pub(super) fn answer_state(&self) -> AnswerState {
        let unwritten = self.written.load(Relaxed) == self.written_before.load(Relaxed);
        if self.endless.load(Relaxed) {
            AnswerState::Endless
        } else if self.open.load(Relaxed) > 0 && unwritten && !self.blocked.load(Relaxed) {
            AnswerState::Waiting
        } else {
            AnswerState::Other
        }
    }

    /// Starts the idle time: the connection has begun, or a request has been answered. It counts only if no other request is
    /// open.
    pub(super) fn rest(&self) {
        let now = u64::try_from(clock::coarse::now().as_millis()).unwrap_or(u64::MAX);
        self.idle_since.store(now, Relaxed);
    }

    /// Time since a request was last open or an answer on its way; `None` while one is.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let since = Duration::from_millis(self.idle_since.load(Relaxed));
        (!self.is_busy()).then(|| clock::coarse::now().saturating_sub(since))
    }

    /// True if a request is open, or an answer on its way. The client is not to blame for the time that it waits for the server.
    fn is_busy(&self) -> bool {
        self.blocked.load(Relaxed) || self.open.load(Relaxed) > 0 || !self.pending.is_empty()
    }
}

impl Open {
    /// Marks the answer as one that continues for as long as there are events to send.
    pub(super) fn endless(self) -> Self {
        self.0.endless.store(true, Relaxed);
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.endless.store(false, Relaxed);
        if self.0.open.fetch_sub(1, Relaxed) == 1 {
            self.0.rest();
        }
    }
}

/// Length of the beginning of HTTP/2: the preface, and the header of the first frame.
const HTTP2_BEGIN: u64 = 24 + 9;

/// Ends once the client has sent the beginning of its request, which may be in transit; after `grace` at the latest.
pub(super) async fn until_greeted(activity: &ConnectionActivity, grace: Duration) {
    let end = Instant::now() + grace;
    while activity.read.load(Relaxed) < HTTP2_BEGIN && Instant::now() < end {
        sleep(grace / 50).await;
    }
}

/// Ends when the connection is to be closed, with the reason.
pub(super) async fn until_closed(activity: &ConnectionActivity, limits: &HttpLimits) -> Closed {
    // Often enough that no timeout is exceeded by much. Seldom enough for ten thousand connections.
    let shortest = limits.header_timeout.min(limits.idle_timeout).min(limits.write_timeout);
    let tick = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
    let mut watch = Watch { rest: IdlePeriod::new(activity, Instant::now()), stalled: None };
    loop {
        sleep(tick).await;
        if let Some(why) = watch.check(activity, limits, Instant::now()) {
            activity.given_up.store(true, Relaxed);
            return why;
        }
    }
}

/// State of the watch over a connection.
struct Watch {
    rest: IdlePeriod,
    /// Time since which nothing can be written, and the bytes written by then.
    stalled: Option<(Instant, u64)>,
}

/// A time without an open request.
struct IdlePeriod {
    since: Instant,
    begun: u64,
    read: u64,
    /// Time since which the client has been sending the next request.
    sending: Option<Instant>,
}

impl IdlePeriod {
    fn new(activity: &ConnectionActivity, now: Instant) -> Self {
        IdlePeriod { since: now, begun: activity.begun.load(Relaxed), read: activity.read.load(Relaxed), sending: None }
    }
}

impl Watch {
    fn check(&mut self, activity: &ConnectionActivity, limits: &HttpLimits, now: Instant) -> Option<Closed> {
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
        if activity.pending.is_overdue(now) {
            return Some(Closed::Unread);
        }
        let busy = activity.is_busy();
        let (begun, read) = (activity.begun.load(Relaxed), activity.read.load(Relaxed));
        if begun == 0 {
            // The first request has a timeout. Over HTTP/2 it ends once the client has sent the beginning of the protocol.
            let greeted = activity.http2.load(Relaxed) && read >= HTTP2_BEGIN;
            return (!greeted && now - self.rest.since >= limits.header_timeout).then_some(Closed::Headers);
        }
        if busy || begun != self.rest.begun {
            self.rest = IdlePeriod::new(activity, now);
            return None;
        }
        if activity.http2.load(Relaxed) {
            // HTTP/2 connections have no idle timeout: pings check them.
            return None;
        }
        if read > self.rest.read {
            let since = *self.rest.sending.get_or_insert(now);
            return (now - since >= limits.header_timeout).then_some(Closed::Headers);
        }
        (now - self.rest.since >= limits.idle_timeout).then_some(Closed::Idle)
    }
}
