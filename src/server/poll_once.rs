//! What runs the streams of connections over HTTP/2.

use hyper::rt::Executor;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, Waker},
};

/// Runs a stream at once, in the poll of its connection that has found it, as far as it gets. Most requests have come whole by
/// then, and one that nothing has to be waited for is answered in that poll: it needs no task. Others go on in one.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtOnce;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for AtOnce {
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        // A task begins with a poll, so that nobody has to be woken for this one.
        let mut nobody = Context::from_waker(Waker::noop());
        // A panic would be a defect, but not one that may take the connection's other streams away.
        let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(&mut nobody)));
        if let Ok(Poll::Pending) = polled {
            tokio::spawn(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{sync::mpsc::unbounded_channel, task::yield_now};

    #[test]
    fn what_has_not_to_wait_needs_no_task() {
        // There is no runtime, which a task would need.
        let (sender, mut receiver) = unbounded_channel();
        AtOnce.execute(async move { sender.send(1).unwrap() });
        assert_eq!(receiver.try_recv(), Ok(1));
    }

    #[tokio::test]
    async fn what_has_to_wait_goes_on() {
        let (sender, mut receiver) = unbounded_channel();
        let (others, mut waited_for) = unbounded_channel::<()>();
        AtOnce.execute(async move {
            sender.send(1).unwrap();
            waited_for.recv().await;
            yield_now().await;
            sender.send(2).unwrap();
        });
        assert_eq!(receiver.recv().await, Some(1));
        others.send(()).unwrap();
        assert_eq!(receiver.recv().await, Some(2));
    }

    #[tokio::test]
    async fn a_panic_ends_nothing_else() {
        AtOnce.execute(async { panic!("a test panics") });
        let (sender, mut receiver) = unbounded_channel();
        AtOnce.execute(async move {
            yield_now().await;
            sender.send(1).unwrap();
        });
        assert_eq!(receiver.recv().await, Some(1));
    }
}
