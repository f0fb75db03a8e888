//! The end of a connection whose client floods it with HTTP/2 frames.

use socket2::SockRef;
use std::{io, net::Shutdown, time::Duration};
use tokio::{net::TcpStream, time::sleep};

use super::{activity::Flood, frames::goaway};

/// How often what the client still sends is read and thrown away, the pause before each time, and how much is read.
///
/// A connection that is closed with bytes unread is reset, and a client that is reset may not see why. The pauses keep the client
/// waiting, and not the thread busy.
const READS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);
const READ_BYTES: usize = 64 << 10;

/// Says why, and gives the client a moment to read it.
pub(super) async fn end(flood: &Flood, stream: &TcpStream) {
    // In the middle of a frame it would not be understood; then the client does not read either.
    if flood.between_frames {
        let _ = stream.try_write(&goaway(flood.last_request));
    }
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
    let mut unread = vec![0; READ_BYTES];
    for _ in 0..READS {
        sleep(PAUSE).await;
        match stream.try_read(&mut unread) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
