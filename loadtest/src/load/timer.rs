//! Waiting for a moment, to the microsecond.

use std::time::Instant;

#[cfg(target_os = "linux")]
pub(super) use precise::Timer;

#[cfg(not(target_os = "linux"))]
pub(super) use coarse::Timer;

/// The kernel's timer: the runtime's own has a resolution of a millisecond, which would make bursts of evenly spaced requests.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "registers a descriptor with the runtime")]
mod precise {
    use super::Instant;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use std::{io, os::fd::OwnedFd};
    use tokio::io::unix::AsyncFd;

    pub(in crate::load) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(in crate::load) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // SAFETY: an OwnedFd always gives the same descriptor, which stays open as long as it is owned.
            Ok(Timer(unsafe { AsyncFd::register(timer) }?))
        }

        pub(in crate::load) async fn wait_until(&self, moment: Instant) -> io::Result<()> {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: zero, it_value: Timespec::try_from(left).map_err(io::Error::other)? };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.0.readable().await?;
                let mut times = [0; 8];
                match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut times)?)) {
                    Ok(read) => return read.map(drop),
                    Err(_not_yet) => {}
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod coarse {
    use super::Instant;
    use std::io;

    pub(in crate::load) struct Timer;

    impl Timer {
        pub(in crate::load) fn new() -> io::Result<Self> {
            Ok(Timer)
        }

        pub(in crate::load) async fn wait_until(&self, moment: Instant) -> io::Result<()> {
            tokio::time::sleep_until(moment.into()).await;
            Ok(())
        }
    }
}
