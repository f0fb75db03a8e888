//! The TCP stream of a client: counts its bytes, detects HTTP/2 by its first bytes, and meters its frames.

use bytes::Bytes;
use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    activity::{Activity, Flood},
    http2_frames::FrameMeter,
};

/// A stream whose bytes are counted.
pub(super) struct ClientStream {
    reading: OwnedReadHalf,
    writing: Arc<OwnedWriteHalf>,
    activity: Arc<Activity>,
    /// The first bytes, as many as are needed to detect the protocol.
    first: Vec<u8>,
    /// Bytes that were read before, and are read again.
    again: Bytes,
    meter: FrameMeter,
    /// True if the last write wrote all its bytes. Those are whole frames of HTTP/2.
    wrote_all: bool,
}

/// The first bytes of HTTP/2. No method of HTTP/1.1 begins so.
pub(super) const HTTP2: &[u8] = b"PRI ";

impl ClientStream {
    /// The stream of a connection on which `http2_streams` streams of HTTP/2 may be open.
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, http2_streams: u32) -> Self {
        let (reading, writing) = stream.into_split();
        ClientStream {
            reading,
            writing: Arc::new(writing),
            activity,
            first: Vec::new(),
            again: Bytes::new(),
            meter: FrameMeter::new(Instant::now(), http2_streams),
            wrote_all: true,
        }
    }

    /// The writing half, for the futures that watch the stream and for the last bytes written to it.
    pub(super) fn handle(&self) -> Arc<OwnedWriteHalf> {
        self.writing.clone()
    }

    /// Returns these bytes, which were read before, to the next reads.
    pub(super) fn read_again(&mut self, bytes: Bytes) {
        self.again = bytes;
    }

    fn has_written(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => {
                self.activity.blocked.store(true, Relaxed);
                self.wrote_all = false;
            }
            Poll::Ready(Ok(bytes)) => {
                self.activity.blocked.store(false, Relaxed);
                self.activity.written.fetch_add(*bytes as u64, Relaxed);
                self.wrote_all = *bytes == length;
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    /// Counts bytes that were read. False if the client floods.
    fn has_read(&mut self, new: &[u8]) -> bool {
        let activity = &*self.activity;
        activity.read.fetch_add(new.len() as u64, Relaxed);
        let known = self.first.len() == HTTP2.len();
        if !known {
            self.first.extend(new.iter().take(HTTP2.len() - self.first.len()));
            activity.http2.store(self.first == HTTP2, Relaxed);
        }
        if known && !activity.http2.load(Relaxed) {
            return true;
        }
        let fits = self.meter.read(new, activity.written.load(Relaxed), Instant::now);
        // Until the protocol is known there are few bytes.
        if fits || !activity.http2.load(Relaxed) {
            return true;
        }
        let flood = Flood { last_request: self.meter.last_request(), between_frames: self.wrote_all };
        let _ = activity.flood.set(flood);
        false
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.activity.given_up.load(Relaxed) {
            // Resets the connection. Otherwise the system would go on sending its buffer to a client that does not read. Where
            // the option can't be set, the system does so.
            let _ = SockRef::from(self.reading.as_ref()).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.again.is_empty() {
            let again = this.again.split_to(this.again.len().min(buffer.remaining()));
            buffer.put_slice(&again);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.reading).poll_read(cx, buffer);
        let new = &buffer.filled()[before..];
        if !new.is_empty() && !this.has_read(new) {
            return Poll::Ready(Err(io::Error::other("the client floods the connection with HTTP/2 frames")));
        }
        read
    }
}

/// Writes through the shared half, as `OwnedWriteHalf` itself does.
fn poll_write(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match write(stream) {
            // The missing room has been registered: the next turn of the loop waits for it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = poll_write((*this.writing).as_ref(), cx, |stream| stream.try_write(data));
        this.has_written(written, data.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = poll_write((*this.writing).as_ref(), cx, |stream| stream.try_write_vectored(data));
        this.has_written(written, data.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing to flush: there is no buffer.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from((*self.writing).as_ref()).shutdown(std::net::Shutdown::Write))
    }
}
