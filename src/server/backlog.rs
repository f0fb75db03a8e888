//! The end of a port. What the kernel has let in counts as let in: who closes a port at once resets the connections that wait to
//! be accepted, and their clients can't tell that from a request that was lost.

use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpListener, time::Instant};

/// How long handshakes that have begun are given to be completed.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// Gives every connection that comes to the port, until none comes any more, and closes it. Clients that begin to connect
/// meanwhile get no answer; they ask again, a second later by RFC 6298 section 2, and are refused, or have come to the server
/// that took the port's place.
pub(super) async fn empty(
    listener: TcpListener,
    mut serve: impl FnMut(std::net::TcpStream, SocketAddr),
) -> std::io::Result<()> {
    // Where the system can't, the gap is short: what comes between the last look and the end is reset.
    let _ = refuse_first_packets(&listener);
    let end = Instant::now() + HANDSHAKE;
    while let Ok(accepted) = tokio::time::timeout_at(end, listener.accept()).await {
        let (stream, client) = accepted?;
        serve(stream.into_std()?, client);
    }
    Ok(())
}

/// Has the kernel drop packets to the port that begin a connection (SYN), and no others.
#[cfg(target_os = "linux")]
fn refuse_first_packets(listener: &TcpListener) -> std::io::Result<()> {
    use socket2::{SockFilter, SockRef};

    /// The byte of TCP's head that has the flags, and the flag, by RFC 9293 section 3.1.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    let [load, jump_if_set, give] =
        [libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JSET, libc::BPF_RET]
            .map(|code| code as u16);
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(load, 0, 0, FLAGS),
        SockFilter::new(jump_if_set, 0, 1, SYN),
        SockFilter::new(give, 0, 0, 0),
        SockFilter::new(give, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn refuse_first_packets(_: &TcpListener) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
