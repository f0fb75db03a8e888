//! hyper's timer for HTTP/2.

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;
use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use crate::clock;

/// Tokio's timer with the coarse clock. hyper notes the time of every frame for its pings. For pings a tenth of a second does not
/// matter.
#[derive(Debug, Clone, Default)]
pub(super) struct CoarseTimer(TokioTimer);

impl Timer for CoarseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.0.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.sleep_until(deadline)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        self.0.reset(sleep, new_deadline);
    }

    fn now(&self) -> Instant {
        clock::coarse::instant()
    }
}
