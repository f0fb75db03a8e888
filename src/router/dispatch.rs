//! The router: the published table, and the one way for a request into a version.

use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::watch;

use super::{
    pending::Pending,
    table::Table,
    ticket::{Meta, Ticket},
    version::Version,
};
use crate::{
    error::{Error, Result},
    metrics::ServerMetrics,
    tensor::Request,
    traffic::Reason,
};

/// Sends requests to versions.
pub struct Router {
    table: ArcSwap<Table>,
    /// Notifies watchers of a new table.
    published: watch::Sender<()>,
    metrics: ServerMetrics,
}

/// A request that no version took.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub error: Error,
    /// The version that refused it, and why it was that one; `None` where routing found no version.
    pub routed: Option<(u64, Reason)>,
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        rejected.error
    }
}

impl Router {
    /// A router with an empty table.
    pub fn new(metrics: ServerMetrics) -> Self {
        Router { table: ArcSwap::default(), published: watch::Sender::new(()), metrics }
    }

    /// The present table.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Replaces the table: requests that come from now on see the new one, whole.
    pub fn publish(&self, table: Table) {
        self.table.store(Arc::new(table));
        self.published.send_replace(());
    }

    /// Changes whenever a table is published.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// Picks the version of a request, checks the request and puts it into the version's queue. Dropping what comes back
    /// cancels the request.
    ///
    /// # Errors
    /// There is no such model or version, it is not ready, the request does not fit its signature, its queue is full or too
    /// slow, or the deadline has passed.
    pub fn submit(&self, request: Request, meta: &Meta<'_, '_>) -> Result<Pending, Rejected> {
        let (version, reason) = self.route(&request, meta).map_err(|error| Rejected { error, routed: None })?;
        let number = version.version;
        let submitted = Pending::submit(version, request, reason);
        submitted.map_err(|error| Rejected { error, routed: Some((number, reason)) })
    }

    /// Counts a request that failed before it could be submitted.
    pub fn count_unsubmitted(&self, error: &Error) {
        self.metrics.unrouted(error.code());
    }

    /// The version that is to answer a request, and why. Requests that find none are counted.
    fn route(&self, request: &Request, meta: &Meta<'_, '_>) -> Result<(Arc<Version>, Reason)> {
        let table = self.table.load();
        let key = request.routing_key.as_deref().map(str::as_bytes);
        let ticket = Ticket { key, header: meta.header, random: &|| fastrand::u64(..) };
        let picked = table.pick(&request.model, &request.selector, &ticket);
        let picked = picked.map(|(version, reason)| (version.clone(), reason));
        picked.inspect_err(|error| self.metrics.unrouted(error.code()))
    }
}
