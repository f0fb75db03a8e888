//! Executor of the streams of HTTP/2 connections. It polls each stream once before it spawns a task.

use hyper::rt::Executor;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, Waker},
};

/// Polls a stream at once, in the poll of its connection that accepted it. Most requests have arrived whole by then. One that has
/// to wait for nothing is answered in that poll, and needs no task. Others continue in a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct PollOnceExecutor;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for PollOnceExecutor {
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        // A task begins with a poll, so that this poll needs no waker.
        let mut nobody = Context::from_waker(Waker::noop());
        // A panic is a defect, but must not end the connection's other streams.
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
    fn ready_stream_needs_no_task() {
        // There is no runtime here, which a task would need.
        let (sender, mut receiver) = unbounded_channel();
        PollOnceExecutor.execute(async move { sender.send(1).unwrap() });
        assert_eq!(receiver.try_recv(), Ok(1));
    }

    #[tokio::test]
    async fn pending_stream_continues_on_a_task() {
        let (sender, mut receiver) = unbounded_channel();
        let (others, mut waited_for) = unbounded_channel::<()>();
        PollOnceExecutor.execute(async move {
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
    async fn panicking_stream_ends_no_other() {
        PollOnceExecutor.execute(async { panic!("a test panics") });
        let (sender, mut receiver) = unbounded_channel();
        PollOnceExecutor.execute(async move {
            yield_now().await;
            sender.send(1).unwrap();
        });
        assert_eq!(receiver.recv().await, Some(1));
    }
}
