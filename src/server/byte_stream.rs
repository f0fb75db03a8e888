//! The stream of bytes between a client and its connection: TCP, or a layer above TCP, such as TLS.
//!
//! Everything behind `accept` in `port.rs` is written for these traits. Their calls are resolved at compile time.

use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, Interest},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A stream of bytes, in both directions.
pub(super) trait ByteStream {
    /// The reading half.
    type Reader: AsyncRead + Send + Unpin + 'static;

    /// The rest, which the futures of a connection share.
    type Handle: StreamHandle;

    fn split(self) -> (Self::Reader, Arc<Self::Handle>);
}

/// The writing half of a stream, and the signs of its client's end.
pub(super) trait StreamHandle: Send + Sync + 'static {
    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;

    fn poll_write_vectored(&self, context: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// True if a vectored write writes more than its first slice.
    fn is_write_vectored(&self) -> bool;

    /// Sends bytes that were written and that the stream has kept. A stream that keeps more than the client reads within the write
    /// timeout has to send them in `poll_write`: a flush that stays blocked for that long counts as a client that does not read.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the direction to the client, behind all bytes that the stream has kept.
    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes without waiting. The error is `WouldBlock` if there is no room.
    fn try_write(&self, data: &[u8]) -> io::Result<usize>;

    /// Reads without waiting. The error is `WouldBlock` if nothing has arrived.
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize>;

    /// Makes the end of the stream a reset. Otherwise the system goes on sending its buffer to a client that does not read.
    fn reset_at_end(&self);

    /// Waits until the client sends no more. True if it may still read (FIN), false if it has gone (RST).
    fn until_finished(&self) -> impl Future<Output = bool> + Send;

    /// Waits until the client has gone (RST).
    fn until_reset(&self) -> impl Future<Output = ()> + Send;
}

impl ByteStream for TcpStream {
    type Reader = OwnedReadHalf;
    type Handle = OwnedWriteHalf;

    fn split(self) -> (OwnedReadHalf, Arc<OwnedWriteHalf>) {
        let (reader, writer) = self.into_split();
        (reader, Arc::new(writer))
    }
}

fn socket(half: &OwnedWriteHalf) -> &TcpStream {
    half.as_ref()
}

/// Writes through a shared reference, as `OwnedWriteHalf` itself does.
fn poll_write(
    stream: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match write(stream) {
            // The missing room has been registered: the next turn of the loop waits for it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

impl StreamHandle for OwnedWriteHalf {
    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        poll_write(socket(self), context, |stream| stream.try_write(data))
    }

    fn poll_write_vectored(&self, context: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        poll_write(socket(self), context, |stream| stream.try_write_vectored(data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing to flush: there is no buffer.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(socket(self)).shutdown(Shutdown::Write))
    }

    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        socket(self).try_write(data)
    }

    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        socket(self).try_read(room)
    }

    fn reset_at_end(&self) {
        // Where the option can't be set, the system goes on sending.
        let _ = SockRef::from(socket(self)).set_linger(Some(Duration::ZERO));
    }

    async fn until_finished(&self) -> bool {
        // Where the system does not report FIN, RST has to do.
        #[cfg(target_os = "linux")]
        let interest = Interest::PRIORITY | Interest::ERROR;
        #[cfg(not(target_os = "linux"))]
        let interest = Interest::ERROR;
        match socket(self).ready(interest).await {
            Ok(ready) if ready.is_error() => false,
            Ok(ready) if ready.is_read_closed() => true,
            // Urgent data, which HTTP does not use.
            Ok(_) => std::future::pending().await,
            Err(_) => false,
        }
    }

    async fn until_reset(&self) {
        let _ = socket(self).ready(Interest::ERROR).await;
    }
}
