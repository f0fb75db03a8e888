//! Context of every request: the router, the limits, the log, and the readiness of the server.

use std::sync::Arc;
use tokio::sync::watch;

use super::{
    request_log::AccessLog,
    transport::{CodecPool, Limits, Ports},
};
use crate::{
    batcher::Compute,
    config::ReadyWhen,
    error::{Code, Result},
    router::{Router, Table, Version},
    traffic::Selector,
};

/// The parts of the server that every protocol needs to answer.
#[derive(Clone)]
pub struct Context {
    /// Where inference requests go.
    pub router: Arc<Router>,
    /// Where the server is in its life.
    pub phase: watch::Receiver<ServerPhase>,
    /// Models that must serve before the server is ready.
    pub ready_when: ReadyWhen,
    /// Limits on requests and answers.
    pub limits: Arc<Limits>,
    /// Thread pool that decodes large requests and encodes large answers.
    pub codecs: Arc<CodecPool>,
    /// The threads that run models.
    pub compute: Compute,
    /// The access log, where there is one.
    pub access_log: Option<Arc<AccessLog>>,
    /// Where the other ports are.
    pub ports: Arc<Ports>,
}

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerPhase {
    /// The models are being loaded for the first time.
    Starting,
    /// Requests are answered.
    Serving,
    /// Requests are still answered, but no new clients should come.
    Draining,
}

impl Context {
    /// True if new clients should come.
    pub fn is_ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Reason why new clients should not come, for people; `None` where they should.
    pub fn not_ready(&self) -> Option<String> {
        match *self.phase.borrow() {
            ServerPhase::Draining => Some("the server is shutting down".into()),
            _ if !self.is_live() => Some("runs that can't be stopped hold every CPU".into()),
            ServerPhase::Starting if self.ready_when != ReadyWhen::Any => {
                Some("the models are being loaded for the first time".into())
            }
            ServerPhase::Starting | ServerPhase::Serving => self.router.table().readiness.not_ready(self.ready_when),
        }
    }

    /// Liveness: false once abandoned runs hold as many CPUs as there are.
    pub fn is_live(&self) -> bool {
        self.compute.abandoned_runs() < self.compute.cpus().max(1)
    }

    /// True if a request for the model, or for one version of it, would find a version.
    ///
    /// # Errors
    /// There is no such model, version or alias.
    pub(super) fn model_ready(&self, model: &str, selector: &Selector) -> Result<bool> {
        match self.router.table().shown(model, selector) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Code::NotFound => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// The version whose metadata is shown, and the table that says so.
    pub(super) fn version(&self, model: &str, selector: &Selector) -> Result<(Arc<Table>, Arc<Version>)> {
        let table = self.router.table();
        let version = table.shown(model, selector)?.clone();
        Ok((table, version))
    }
}
