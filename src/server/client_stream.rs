//! The stream of a client: counts its bytes, detects HTTP/2 by its first bytes, and meters its frames.

use bytes::Bytes;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    activity::{ConnectionActivity, Flood},
    byte_stream::{ByteStream, StreamHandle},
    http2_frames::FrameMeter,
};

/// A stream whose bytes are counted.
pub(super) struct ClientStream<S: ByteStream> {
    reading: S::Reader,
    writing: Arc<S::Handle>,
    activity: Arc<ConnectionActivity>,
    /// The first bytes, as many as are needed to detect the protocol.
    first: Vec<u8>,
    /// Bytes that were read before, and are read again.
    again: Bytes,
    meter: FrameMeter,
    /// True if the last write wrote all its bytes. Those are whole frames of HTTP/2.
    wrote_all: bool,
    /// True if the stream has no room for bytes that it took and kept.
    flush_blocked: bool,
}

/// The first bytes of HTTP/2. No method of HTTP/1.1 begins so.
pub(super) const HTTP2: &[u8] = b"PRI ";

impl<S: ByteStream> ClientStream<S> {
    /// The stream of a connection on which `http2_streams` streams of HTTP/2 may be open.
    pub(super) fn new(stream: S, activity: Arc<ConnectionActivity>, http2_streams: u32) -> Self {
        let (reading, writing) = stream.split();
        ClientStream {
            reading,
            writing,
            activity,
            first: Vec::new(),
            again: Bytes::new(),
            meter: FrameMeter::new(Instant::now(), http2_streams),
            wrote_all: true,
            flush_blocked: false,
        }
    }

    /// The handle, for the futures that watch the stream and for the last bytes written to it.
    pub(super) fn handle(&self) -> Arc<S::Handle> {
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

impl<S: ByteStream> Drop for ClientStream<S> {
    fn drop(&mut self) {
        if self.activity.given_up.load(Relaxed) {
            self.writing.reset_at_end();
        }
    }
}

impl<S: ByteStream> AsyncRead for ClientStream<S> {
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

impl<S: ByteStream> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.writing.poll_write(cx, data);
        this.has_written(written, data.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.writing.poll_write_vectored(cx, data);
        this.has_written(written, data.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.writing.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = this.writing.poll_flush(cx);
        if this.flush_blocked || flushed.is_pending() {
            // The client is as slow as one whose writes find no room.
            this.flush_blocked = flushed.is_pending();
            this.activity.blocked.store(this.flush_blocked, Relaxed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.poll_shutdown(cx)
    }
}
