//! Whether the client of a connection goes on: it has to, unless it waits for an answer or rests between requests.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::sleep};

use super::connection_limits::ConnectionLimits;
use crate::{api::Unwritten, clock, metrics::Closed};

/// What happens on a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Answers that are on their way.
    pub unwritten: Arc<Unwritten>,
    /// Bytes read and written.
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
    /// Whether the last write found no room.
    pub(super) blocked: AtomicBool,
    pub(super) http2: AtomicBool,
    /// The client speaks HTTP/1.0, which has no interim responses.
    pub(super) http10: AtomicBool,
    /// Requests that have begun, and those of them that are not answered.
    begun: AtomicU64,
    open: AtomicUsize,
    /// An answer goes on for as long as things happen.
    pub(super) endless: AtomicBool,
    /// Bytes that were written when the latest request began.
    written_before: AtomicU64,
    /// Milliseconds of the coarse clock at which the last open request was answered.
    idle_since: AtomicU64,
    /// The client does not go on.
    pub(super) given_up: AtomicBool,
    /// The next answer is the last.
    closing: AtomicBool,
    /// The client floods the connection with HTTP/2 frames.
    pub(super) flood: OnceLock<Flood>,
    /// Has the connection close once it is idle, as its place is needed.
    pub(super) close_requested: Notify,
    /// Has the connection end soon after that, if it is idle.
    pub(super) end_requested: Notify,
}

/// A flood of HTTP/2 frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flood {
    /// The stream of the client's last request.
    pub last_request: u32,
    /// Whether the last frame to the client was written whole.
    pub between_frames: bool,
}

/// The answer to the open request of an HTTP/1 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerState {
    /// There is none, or it is being written.
    Other,
    /// Nothing of it has been written.
    Waiting,
    /// It goes on for as long as things happen.
    Endless,
}

/// A request, until it is answered.
pub(super) struct Open(Arc<Activity>);

impl Activity {
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.begun.fetch_add(1, Relaxed);
        self.written_before.store(self.written.load(Relaxed), Relaxed);
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

    /// The connection begins, or a request has been answered: it is idle from now on, if no other is open.
    pub(super) fn rest(&self) {
        let now = u64::try_from(clock::coarse::now().as_millis()).unwrap_or(u64::MAX);
        self.idle_since.store(now, Relaxed);
    }

    /// How long no request has been open, and no answer on its way; `None` where one is.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let since = Duration::from_millis(self.idle_since.load(Relaxed));
        (!self.is_busy()).then(|| clock::coarse::now().saturating_sub(since))
    }

    /// Whether a request is open, or an answer on its way. What a client waits for is not its fault.
    fn is_busy(&self) -> bool {
        self.blocked.load(Relaxed) || self.open.load(Relaxed) > 0 || !self.unwritten.is_empty()
    }
}

impl Open {
    /// The answer goes on for as long as things happen.
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
        let busy = activity.is_busy();
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
