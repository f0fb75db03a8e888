//! Setup of a worker process before anything else: takes over the sockets that it was started with, and lets go of everything
//! that is the server's.

use rustix::stdio::{dup2_stdin, dup2_stdout};
use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    time::Duration,
};

/// Time that a write to stderr may wait for the server to read: it must never hold up a run for good.
const STDERR_TIMEOUT: Duration = Duration::from_millis(1);

/// OOM score of a worker: the system ends it rather than the server where memory runs out.
const OOM_SCORE: i32 = 300;

/// Ways to the server.
pub(super) struct Channels {
    pub socket: UnixStream,
    pub control: UnixStream,
    pub file: File,
}

/// Takes over what the server has passed as stdin, stdout and stderr. What is written to stdout goes to stderr from now on.
pub(super) fn take_over() -> io::Result<Channels> {
    close_inherited();
    let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
    let socket = UnixStream::from(own(io::stdin().as_fd())?);
    let file = File::from(own(io::stdout().as_fd())?);
    let control = UnixStream::from(own(io::stderr().as_fd())?);
    // Fails where they are no sockets: somebody has called the command by hand.
    socket.peer_addr()?;
    control.set_write_timeout(Some(STDERR_TIMEOUT))?;
    dup2_stdin(File::open("/dev/null")?)?;
    dup2_stdout(&control)?;
    Ok(Channels { socket, control, file })
}

/// Settles what the system does with this process. What can't be had is gone without.
pub(super) fn settle(nice: Option<i32>, memory: Option<u64>) {
    ignore_signals();
    // A model that kills its worker again and again must not fill the disk.
    let _ = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0);
    if let Some(memory) = memory {
        let _ = rlimit::setrlimit(rlimit::Resource::DATA, memory, memory);
    }
    let score = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok());
    let score = score.unwrap_or(0).saturating_add(OOM_SCORE).min(1000);
    let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    if let Some(nice) = nice {
        set_nice(nice);
    }
}

/// Closes what the server may have left open beside stdin, stdout and stderr: libraries that it has loaded don't always mark
/// their files.
#[allow(unsafe_code, reason = "a system call")]
fn close_inherited() {
    // SAFETY: nothing in this process has opened a file yet.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}

/// The server ends its workers: what a terminal or a service manager sends to all processes must not cut off what the server is
/// still finishing.
#[allow(unsafe_code, reason = "a call of the C library")]
fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: to ignore a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Sets the nice value of this thread, which those inherit that it starts. Without a right it can only be raised.
#[allow(unsafe_code, reason = "a system call")]
fn set_nice(value: i32) {
    // SAFETY: the call takes numbers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) };
}

/// Ends the process at once, without the destructors of libraries: the server has gone, or does not need it any more.
#[allow(unsafe_code, reason = "a call of the C library")]
pub(super) fn exit_now() -> ! {
    // SAFETY: nothing of this process is to be kept.
    unsafe { libc::_exit(0) }
}
