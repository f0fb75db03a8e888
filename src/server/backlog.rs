//! Drains the accept queue of a port that closes. Connections that the kernel has accepted count as accepted: closing the socket
//! at once would reset them. To their clients that looks like a lost request.

use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpListener, time::Instant};

/// Time for handshakes that have begun to complete.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// Passes every remaining connection of the port to `serve`, until no more come, and closes the port. Clients that begin to
/// connect meanwhile get no answer. They retry a second later (RFC 6298 section 2). By then they are refused, or reach the server
/// that took over the port.
pub(super) async fn empty(
    listener: TcpListener,
    mut serve: impl FnMut(std::net::TcpStream, SocketAddr),
) -> std::io::Result<()> {
    // Without the filter the gap is short: only connections between the last `accept` and the close are reset.
    let _ = refuse_first_packets(&listener);
    let end = Instant::now() + HANDSHAKE;
    while let Ok(accepted) = tokio::time::timeout_at(end, listener.accept()).await {
        let (stream, client) = accepted?;
        serve(stream.into_std()?, client);
    }
    Ok(())
}

/// Has the kernel drop packets that begin a connection to the port (SYN), and no others.
#[cfg(target_os = "linux")]
fn refuse_first_packets(listener: &TcpListener) -> std::io::Result<()> {
    use socket2::{SockFilter, SockRef};

    /// Offset of the flags in the TCP header, and the SYN flag, by RFC 9293 section 3.1.
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
