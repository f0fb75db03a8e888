//! Which version answers a request, and the table that says so.
//!
//! There is one immutable table in one `ArcSwap`: what changes together is swapped together. Control builds a whole new table
//! and publishes it; requests load it once. A request that has picked a version keeps it alive until it is answered.

mod explain;
mod readiness;
mod split;
mod table;
mod ticket;
mod version;

pub use explain::Explanation;
pub use readiness::Readiness;
pub use split::Split;
pub use table::{ModelEntry, Routing, Table, VersionEntry};
pub use ticket::{Header, Ticket};
pub use version::{Derived, Submitted, Version};

use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::watch;

use crate::{
    batcher::Timing,
    error::Result,
    metrics::ServerMetrics,
    tensor::{Output, Request},
    traffic::Reason,
};

/// An answer and who gave it.
#[derive(Debug)]
pub struct Answer {
    /// The version that answered.
    pub version: Arc<Version>,
    /// Why it was that one.
    pub reason: Reason,
    /// The outputs.
    pub output: Output,
    /// Where the time went.
    pub timing: Timing,
}

/// Sends requests to versions.
pub struct Router {
    table: ArcSwap<Table>,
    /// Tells watchers that a new table is there.
    published: watch::Sender<()>,
    metrics: ServerMetrics,
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

    /// The version that is to answer a request, and why. `header` is asked for what came beside it, where that decides.
    ///
    /// # Errors
    /// There is no such model or version, or it is not ready.
    pub fn route(&self, request: &Request, header: &Header<'_>) -> Result<(Arc<Version>, Reason)> {
        let table = self.table.load();
        let key = request.routing_key.as_deref().map(str::as_bytes);
        let ticket = Ticket { key, header, random: &|| fastrand::u64(..) };
        let picked = table.pick(&request.model, &request.selector, &ticket);
        let picked = picked.map(|(version, reason)| (version.clone(), reason));
        picked.inspect_err(|error| self.metrics.unrouted(error.code()))
    }

    /// Answers a request that came with nothing beside it. Dropping the future cancels it.
    ///
    /// # Errors
    /// Those of [`Router::route`], [`Version::submit`] and [`Submitted::answer`].
    pub async fn infer(&self, request: Request) -> Result<Answer> {
        let (version, reason) = self.route(&request, &|_| None)?;
        version.submit(request, reason)?.answer().await
    }

    /// A request ended before it was decoded.
    pub fn undecoded(&self, error: &crate::error::Error) {
        self.metrics.unrouted(error.code());
    }
}
