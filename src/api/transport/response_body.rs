//! Bodies of responses: counted, and known to their connection until they are written.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderName, HeaderValue, Response},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    limits::Limits,
    memory_budget::{Share, guarded},
};
use crate::{api::headers::SERVER_TIMING, clock};

/// The answers of one connection that are not written yet. HTTP/2 takes what it is
/// given and keeps it for as long as the client grants no window, which nothing else shows.
#[derive(Debug, Default)]
pub struct PendingResponses {
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    /// By when each has to get on.
    deadlines: Vec<Option<Instant>>,
    /// Places among them that are free.
    free: Vec<usize>,
}

impl PendingResponses {
    /// True if every response is written.
    pub fn is_empty(&self) -> bool {
        let answers = self.answers();
        answers.free.len() == answers.deadlines.len()
    }

    /// True if one should have got on by now.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.answers().deadlines.iter().flatten().any(|deadline| *deadline <= now)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is not written yet.
struct PendingResponse {
    pending: Arc<PendingResponses>,
    place: usize,
    /// By when all of it has to be written.
    whole: Instant,
    timeout: Duration,
    _share: Share,
}

impl PendingResponse {
    fn new(pending: Arc<PendingResponses>, length: usize, share: Share, limits: &Limits) -> Self {
        let (now, timeout) = (clock::coarse::instant(), limits.write_timeout);
        let whole = now + limits.time_allowed(timeout, length);
        let mut answers = pending.answers();
        let place = answers.free.pop().unwrap_or(answers.deadlines.len());
        if place == answers.deadlines.len() {
            answers.deadlines.push(None);
        }
        answers.deadlines[place] = Some(whole.min(now + timeout));
        drop(answers);
        PendingResponse { pending, place, whole, timeout, _share: share }
    }

    /// A piece has been taken.
    fn got_on(&self) {
        self.pending.answers().deadlines[self.place] = Some(self.whole.min(clock::coarse::instant() + self.timeout));
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        let mut answers = self.pending.answers();
        answers.deadlines[self.place] = None;
        answers.free.push(self.place);
    }
}

/// An answer goes out in pieces of this size, so that it shows whether it is read.
const PIECE_BYTES: usize = 64 << 10;

/// An answer to an inference on its way out.
pub struct Outgoing {
    left: Bytes,
    /// Where there is more than one piece, which otherwise has it.
    unwritten: Option<Arc<PendingResponse>>,
}

/// The body of an answer, which `share` counts until it is written.
pub(crate) fn outgoing<D>(data: D, share: Share, pending: &Arc<PendingResponses>, limits: &Limits) -> Outgoing
where
    D: AsRef<[u8]> + Into<Bytes> + Send + 'static,
{
    let length = data.as_ref().len();
    let unwritten = PendingResponse::new(pending.clone(), length, share, limits);
    if length <= PIECE_BYTES {
        Outgoing { left: guarded(data, unwritten), unwritten: None }
    } else {
        Outgoing { left: data.into(), unwritten: Some(Arc::new(unwritten)) }
    }
}

/// The body of an answer.
pub enum AnswerBody {
    /// Of an inference over HTTP.
    Inference(Outgoing),
    /// The message of a call over gRPC, and what comes behind it.
    Message(Outgoing, Trailers),
    /// Of anything else.
    Other(Body),
}

/// The end of a call over gRPC that went well.
pub enum Trailers {
    /// The status, which is OK, and where the time went if the client has asked.
    Due(Option<Box<HeaderValue>>),
    /// Nothing any more.
    Sent,
}

/// A response of any port.
pub type HttpResponse = Response<AnswerBody>;

/// The answer of what axum serves.
pub(in crate::api) fn other(response: Response<Body>) -> HttpResponse {
    response.map(AnswerBody::Other)
}

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let never = |frame: Result<_, Infallible>| frame.map_err(axum::Error::new);
        match self.get_mut() {
            AnswerBody::Inference(body) => Pin::new(body).poll_frame(context).map(|frame| frame.map(never)),
            AnswerBody::Message(body, _) if !body.is_end_stream() => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(never))
            }
            AnswerBody::Message(_, trailers) => {
                let Trailers::Due(timing) = mem::replace(trailers, Trailers::Sent) else { return Poll::Ready(None) };
                let status = (STATUS, HeaderValue::from_static("0"));
                let timing = timing.map(|timing| (SERVER_TIMING, *timing));
                let trailers = HeaderMap::from_iter([status].into_iter().chain(timing));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            AnswerBody::Other(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Inference(body) => body.is_end_stream(),
            AnswerBody::Message(_, trailers) => matches!(trailers, Trailers::Sent),
            AnswerBody::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Inference(body) => body.size_hint(),
            // Not exact, which would have hyper put it into a header: the message has its length in it.
            AnswerBody::Message(body, _) => {
                let mut hint = SizeHint::new();
                hint.set_lower(body.left.len() as u64);
                hint
            }
            AnswerBody::Other(body) => body.size_hint(),
        }
    }
}

impl Outgoing {
    /// The next piece, whose bytes are to be kept until they are written.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        if self.left.is_empty() {
            return None;
        }
        let Some(unwritten) = &self.unwritten else {
            return Some(std::mem::take(&mut self.left));
        };
        unwritten.got_on();
        let unwritten = unwritten.clone();
        let length = self.left.len().min(PIECE_BYTES);
        let piece = self.left.split_to(length);
        if self.left.is_empty() {
            self.unwritten = None;
        }
        Some(guarded(piece, unwritten))
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
