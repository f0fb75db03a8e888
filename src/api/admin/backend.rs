//! Backend of admin calls: the registry, the callers that are allowed, and the end of the server.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    api::{
        context::{Context, ServerPhase},
        transport::Limits,
    },
    error::{Code, Error, Result},
    registry::Control,
};

/// The parts of the server that answer admin calls.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) control: Control,
    pub(super) phase: watch::Receiver<ServerPhase>,
    pub(super) limits: Arc<Limits>,
    /// The caller, where the token names one.
    pub(super) caller: Option<Arc<str>>,
    /// Places of calls that wait for what happens.
    long_calls: Arc<Semaphore>,
}

/// Calls that go on for as long as things happen, at most: each has a connection, and others are to find one of the port's.
const MAX_LONG_CALLS: usize = 128;

impl Admin {
    /// Answers calls by what controls the server.
    pub(super) fn new(context: &Context, control: Control) -> Self {
        let (phase, limits) = (context.phase.clone(), context.limits.clone());
        Admin { control, phase, limits, caller: None, long_calls: Arc::new(Semaphore::new(MAX_LONG_CALLS)) }
    }

    /// Runs a call that may wait for locks and disks, on a thread on which no connection waits for it.
    pub(super) async fn run_blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Control) -> T + Send + 'static,
    ) -> Result<T> {
        let control = self.control.clone();
        let done = tokio::task::spawn_blocking(move || call(&control)).await;
        done.map_err(|_| Error::internal("the call panicked: this is a defect of the server; its log has more"))
    }

    /// A place for a call that goes on for as long as things happen, until it is dropped.
    pub(super) fn long_call(&self) -> Result<OwnedSemaphorePermit> {
        let full = |_| {
            let why = format!("{MAX_LONG_CALLS} calls watch or wait already, which is the most; try again later");
            Error::new(Code::ResourceExhausted, why)
        };
        self.long_calls.clone().try_acquire_owned().map_err(full)
    }

    /// The outcome of `waiting`, unless the server drains before.
    pub(super) async fn unless_draining<T>(&self, waiting: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = waiting => result,
            () = draining(self.phase.clone()) => {
                Err(Error::new(Code::Unavailable, "the server drains: what was waited for does not come any more"))
            }
        }
    }
}

/// Ends when the server drains.
pub(super) async fn draining(mut phase: watch::Receiver<ServerPhase>) {
    // Where the sender is gone, the server has ended.
    let _ = phase.wait_for(|now| *now == ServerPhase::Draining).await;
}
