//! Plain requests on a connection over HTTP/1.1, one after the other, as long as there is nothing else.
//!
//! What is not plain goes to hyper, with the connection and all that was read of it and not answered: so the limits, the
//! refusals and the finer points of the protocol are hyper's, and are not here a second time.

use bytes::{Buf, Bytes, BytesMut};
use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{activity::Open, client_stream::ClientStream, connection::Requests};
use crate::api::{
    dialect::oip_http::{Asked, Plain},
    transport::http::{Head, Look},
};

/// Bytes of a request that is answered here, at most. Larger ones gain nothing.
const ROOM: usize = 64 << 10;

/// How long a body may take to come. What takes longer has timeouts of its own, which are hyper's.
const PROMPT: Duration = Duration::from_millis(100);

/// How often what has come of a head is looked at before it is whole: each look begins at its beginning.
const LOOKS: usize = 16;

thread_local! {
    /// What the connections of a thread read into, one after the other: so one that rests takes no memory, and what is read
    /// is in the cache.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
}

/// Answers requests as long as they are plain. Gives what was read of the first that is not; `None` where the connection has
/// ended.
pub(super) async fn serve(stream: &mut ClientStream, plain: &Plain, requests: &Requests) -> Option<Bytes> {
    let mut kept = BytesMut::new();
    loop {
        let mut next =
            Next { stream, plain, requests, kept: &mut kept, looked: false, looks: 0, begun: None, late: None };
        let (asked, open) = match std::future::poll_fn(|context| next.poll(context)).await {
            Came::Request(asked, open) => (asked, open),
            Came::Other => return Some(kept.freeze()),
            Came::End => return None,
        };
        let reply = unless_gone(stream, &mut kept, plain.answer(asked)).await?;
        let closes = requests.is_last();
        let (first, rest) = reply.into_bytes(closes);
        write(stream, plain, requests, first, rest).await.ok()?;
        drop(open);
        if closes {
            return None;
        }
    }
}

/// What comes next.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it comes")]
enum Came {
    /// A plain request, whole.
    Request(Asked, Open),
    /// Something else.
    Other,
    /// The client has gone.
    End,
}

/// The next request, as it comes.
struct Next<'a> {
    stream: &'a mut ClientStream,
    plain: &'a Plain,
    requests: &'a Requests,
    /// What was read and belongs to no request that is answered.
    kept: &'a mut BytesMut,
    /// Whether that has been looked at.
    looked: bool,
    /// Looks at a head that was not whole.
    looks: usize,
    /// The head, once it is whole.
    begun: Option<(Head, Open)>,
    /// When the body should have come.
    late: Option<Pin<Box<Sleep>>>,
}

impl Next<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Came> {
        loop {
            if !self.looked && !self.kept.is_empty() {
                self.looked = true;
                let kept = std::mem::take(self.kept);
                let came = self.look(&kept);
                *self.kept = kept;
                match came {
                    Some((Came::Request(asked, open), length)) => {
                        self.kept.advance(length);
                        return Poll::Ready(Came::Request(asked, open));
                    }
                    Some((came, _)) => return Poll::Ready(came),
                    None => {}
                }
            }
            if let Some(came) = ready!(READ.with_borrow_mut(|room| self.poll_read(context, room))) {
                return Poll::Ready(came);
            }
        }
    }

    /// Reads once.
    fn poll_read(&mut self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<Option<Came>> {
        let mut read = ReadBuf::new(room);
        match Pin::new(&mut *self.stream).poll_read(context, &mut read) {
            Poll::Pending if self.begun.is_none() => return Poll::Pending,
            Poll::Pending => {
                let late = self.late.get_or_insert_with(|| Box::pin(sleep(PROMPT)));
                return late.as_mut().poll(context).map(|()| Some(Came::Other));
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Some(Came::End)),
            Poll::Ready(Ok(())) => {}
        }
        let new = read.filled();
        if new.is_empty() {
            // In the middle of a request hyper sees it too, and says what there is to say.
            return Poll::Ready(Some(if self.kept.is_empty() { Came::End } else { Came::Other }));
        }
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(new);
            self.looked = false;
            return Poll::Ready(None);
        }
        let came = self.look(new);
        let length = came.as_ref().map_or(0, |(_, length)| *length);
        self.kept.extend_from_slice(&new[length..]);
        self.looked = true;
        Poll::Ready(came.map(|(came, _)| came))
    }

    /// Looks at all that has come, and tells how much of it belongs to what it is.
    fn look(&mut self, bytes: &[u8]) -> Option<(Came, usize)> {
        let (head, open) = match self.begun.take() {
            Some(begun) => begun,
            None => match self.plain.look(bytes) {
                Look::Plain(head) if self.requests.takes(&head) && head.length.saturating_add(head.body) <= ROOM => {
                    (head, self.requests.activity.begin())
                }
                Look::Plain(_) | Look::Other => return Some((Came::Other, 0)),
                Look::Partial => {
                    self.looks += 1;
                    let enough = self.looks == LOOKS || bytes.len() >= ROOM;
                    return enough.then_some((Came::Other, 0));
                }
            },
        };
        let end = head.length + head.body;
        match bytes.get(..end) {
            Some(whole) => Some((Came::Request(self.plain.ask(head, whole), open), end)),
            None => {
                self.begun = Some((head, open));
                None
            }
        }
    }
}

/// Waits for an answer as long as the client does. What it sends meanwhile is kept; not more than one read of it. That a client
/// has gone which has closed its side before is found by `until_gone`.
async fn unless_gone<T>(
    stream: &mut ClientStream,
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
                    // Where nothing was read the client has finished sending, and may still read.
                    finished = read.filled().is_empty();
                    Poll::Pending
                }
                Err(_) => Poll::Ready(None),
            }
        })
    })
    .await
}

/// Writes an answer. Most of the time all of it goes out at once; what does not is watched.
async fn write(
    stream: &mut ClientStream,
    plain: &Plain,
    requests: &Requests,
    first: Vec<u8>,
    rest: Bytes,
) -> io::Result<()> {
    let once = |context: &mut Context<'_>| Poll::Ready(Pin::new(&mut *stream).poll_write(context, &first));
    let written = match std::future::poll_fn(once).await {
        Poll::Ready(written) => written?,
        Poll::Pending => 0,
    };
    if written == first.len() && rest.is_empty() {
        return Ok(());
    }
    for part in [Bytes::from(first).slice(written..), rest] {
        let mut outgoing = plain.outgoing(part, &requests.activity.unwritten);
        while let Some(piece) = outgoing.next_piece() {
            write_all(stream, piece).await?;
        }
    }
    Ok(())
}

async fn write_all(stream: &mut ClientStream, mut piece: Bytes) -> io::Result<()> {
    while !piece.is_empty() {
        let written = std::future::poll_fn(|context| Pin::new(&mut *stream).poll_write(context, &piece)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        piece.advance(written);
    }
    Ok(())
}
