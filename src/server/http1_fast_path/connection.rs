//! Serves the requests of one connection, one after the other, for as long as the fast path knows them.

use bytes::{Buf, Bytes, BytesMut};
use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    exchange::{FastPath, Started},
    head::{Head, ParseOutcome},
};
use crate::server::activity::{ConnectionActivity, Open};

/// Bytes of a request on the fast path, at most. Larger requests gain nothing.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Time that a body may take to arrive. A slower request goes to hyper, which has timeouts for it.
const BODY_TIMEOUT: Duration = Duration::from_millis(100);

/// Times that an incomplete head is parsed, each time from its beginning.
const MAX_HEAD_PARSES: usize = 16;

thread_local! {
    /// The buffer that all connections of a thread read into, one after the other. So an idle connection takes no memory, and
    /// bytes that were read are in the cache.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_REQUEST_BYTES].into());
}

/// The rules of a connection.
pub(crate) trait ConnectionRules {
    /// True if a head is within the limits.
    fn takes(&self, head: &Head) -> bool;

    /// True if the connection ends with the answer to the request that is open.
    fn is_last(&self) -> bool;

    /// The activity of the connection.
    fn activity(&self) -> &Arc<ConnectionActivity>;
}

/// Answers requests for as long as the fast path knows them. Returns the bytes that were read of the first unknown request;
/// `None` if the connection has ended.
pub(crate) async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    fast_path: &FastPath,
    rules: &impl ConnectionRules,
) -> Option<Bytes> {
    let mut kept = BytesMut::new();
    loop {
        let mut next = NextRequest {
            stream,
            fast_path,
            rules,
            kept: &mut kept,
            parsed: false,
            parses: 0,
            begun: None,
            late: None,
        };
        let (started, open) = match std::future::poll_fn(|context| next.poll(context)).await {
            Received::Request(started, open) => (started, open),
            Received::Other => return Some(kept.freeze()),
            Received::End => return None,
        };
        let reply = unless_gone(stream, &mut kept, fast_path.answer(started)).await?;
        let closes = rules.is_last();
        let (first, rest) = reply.into_bytes(closes);
        write(stream, fast_path, rules.activity(), first, rest).await.ok()?;
        drop(open);
        if closes {
            return None;
        }
    }
}

/// The next thing that a client sends.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it comes")]
enum Received {
    /// A whole request that the fast path knows.
    Request(Started, Open),
    /// Anything else.
    Other,
    /// The end: the client has gone.
    End,
}

/// Future of the next request.
struct NextRequest<'a, S, R> {
    stream: &'a mut S,
    fast_path: &'a FastPath,
    rules: &'a R,
    /// Bytes that were read and belong to no answered request.
    kept: &'a mut BytesMut,
    /// True if `kept` has been parsed.
    parsed: bool,
    /// Parses of an incomplete head.
    parses: usize,
    /// The head, once it is complete.
    begun: Option<(Head, Open)>,
    /// Timer of the body.
    late: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin, R: ConnectionRules> NextRequest<'_, S, R> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        loop {
            if !self.parsed && !self.kept.is_empty() {
                self.parsed = true;
                let kept = std::mem::take(self.kept);
                let received = self.parse(&kept);
                *self.kept = kept;
                match received {
                    Some((Received::Request(started, open), length)) => {
                        self.kept.advance(length);
                        return Poll::Ready(Received::Request(started, open));
                    }
                    Some((received, _)) => return Poll::Ready(received),
                    None => {}
                }
            }
            if let Some(received) = ready!(READ.with_borrow_mut(|room| self.poll_read(context, room))) {
                return Poll::Ready(received);
            }
        }
    }

    /// Reads once.
    fn poll_read(&mut self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<Option<Received>> {
        let mut read = ReadBuf::new(room);
        match Pin::new(&mut *self.stream).poll_read(context, &mut read) {
            Poll::Pending if self.begun.is_none() => return Poll::Pending,
            Poll::Pending => {
                let late = self.late.get_or_insert_with(|| Box::pin(sleep(BODY_TIMEOUT)));
                return late.as_mut().poll(context).map(|()| Some(Received::Other));
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Some(Received::End)),
            Poll::Ready(Ok(())) => {}
        }
        let new = read.filled();
        if new.is_empty() {
            // In the middle of a request hyper sees the end too, and sends the answer that is due.
            return Poll::Ready(Some(if self.kept.is_empty() { Received::End } else { Received::Other }));
        }
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(new);
            self.parsed = false;
            return Poll::Ready(None);
        }
        let received = self.parse(new);
        let length = received.as_ref().map_or(0, |(_, length)| *length);
        self.kept.extend_from_slice(&new[length..]);
        self.parsed = true;
        Poll::Ready(received.map(|(received, _)| received))
    }

    /// Parses all bytes that have arrived. Returns the result, with the number of its bytes; `None` if more have to arrive.
    fn parse(&mut self, bytes: &[u8]) -> Option<(Received, usize)> {
        let (head, open) = match self.begun.take() {
            Some(begun) => begun,
            None => match self.fast_path.parse(bytes) {
                ParseOutcome::Known(head) if self.rules.takes(&head) && is_small(&head) => {
                    (head, self.rules.activity().begin())
                }
                ParseOutcome::Known(_) | ParseOutcome::Other => return Some((Received::Other, 0)),
                ParseOutcome::Partial => {
                    self.parses += 1;
                    let enough = self.parses == MAX_HEAD_PARSES || bytes.len() >= MAX_REQUEST_BYTES;
                    return enough.then_some((Received::Other, 0));
                }
            },
        };
        let end = head.length + head.body;
        match bytes.get(..end) {
            Some(whole) => Some((Received::Request(self.fast_path.start(head, whole), open), end)),
            None => {
                self.begun = Some((head, open));
                None
            }
        }
    }
}

fn is_small(head: &Head) -> bool {
    head.length.saturating_add(head.body) <= MAX_REQUEST_BYTES
}

/// Waits for an answer for as long as the client does. Bytes that the client sends meanwhile are kept, but no more than one read
/// of them. `until_gone` detects a client that has gone after it closed its side.
async fn unless_gone<T>(
    stream: &mut (impl AsyncRead + Unpin),
    kept: &mut BytesMut,
    answering: impl Future<Output = T>,
) -> Option<T> {
    let mut answering = pin!(answering);
    let mut finished = false;
    std::future::poll_fn(|context| {
        if let Poll::Ready(answer) = answering.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        if finished || !kept.is_empty() {
            return Poll::Pending;
        }
        READ.with_borrow_mut(|room| {
            let mut read = ReadBuf::new(room);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut read)) {
                Ok(()) => {
                    kept.extend_from_slice(read.filled());
                    // An empty read means that the client has finished sending. It may still read.
                    finished = read.filled().is_empty();
                    Poll::Pending
                }
                Err(_) => Poll::Ready(None),
            }
        })
    })
    .await
}

/// Writes an answer. Most answers go out in one write. The rest of any other answer is watched by the connection's timeouts.
async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    fast_path: &FastPath,
    activity: &ConnectionActivity,
    first: Vec<u8>,
    rest: Bytes,
) -> io::Result<()> {
    let once = |context: &mut Context<'_>| Poll::Ready(Pin::new(&mut *stream).poll_write(context, &first));
    let written = match std::future::poll_fn(once).await {
        Poll::Ready(written) => written?,
        Poll::Pending => 0,
    };
    if written < first.len() || !rest.is_empty() {
        for part in [Bytes::from(first).slice(written..), rest] {
            let mut outgoing = fast_path.outgoing(part, &activity.pending);
            while let Some(piece) = outgoing.next_piece() {
                write_all(stream, piece).await?;
            }
        }
    }
    // TCP keeps nothing back. A layer above it may.
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_flush(context)).await
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), mut piece: Bytes) -> io::Result<()> {
    while !piece.is_empty() {
        let written = std::future::poll_fn(|context| Pin::new(&mut *stream).poll_write(context, &piece)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        piece.advance(written);
    }
    Ok(())
}
