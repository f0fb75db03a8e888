//! Picks the version that answers a request, from a routing table.
//!
//! There is one immutable table in one `ArcSwap`: what changes together is swapped together. Control builds a whole new table
//! and publishes it; requests load it once. A request that has picked a version keeps it alive until it is answered.
//! [`Router::submit`] is the only way into a version.

mod default_route;
mod dispatch;
mod explain;
mod pending;
mod readiness;
mod split;
mod table;
mod ticket;
mod version;

pub use default_route::DefaultRoute;
pub use dispatch::{Rejected, Router};
pub use explain::Explanation;
pub use pending::{Answer, Pending};
pub use readiness::Readiness;
pub use split::Split;
pub use table::{ModelEntry, Routing, Table, VersionEntry};
pub use ticket::{HeaderLookup, Meta, Ticket};
pub use version::{Derived, Version};
