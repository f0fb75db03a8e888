//! What is counted, and how it is told to Prometheus.
//!
//! A version owns its metrics: they are made with it, recorded by plain atomics without a look-up, and their series end when
//! it goes (the text is rendered from those that still live). What belongs to the process goes through the `metrics` facade.

mod access_log;
mod control;
mod exposition;
mod histogram;
mod transport;
mod version;

pub use access_log::{AccessLogMetrics, Unlogged};
pub use control::{ControlMetrics, LoadCounts, VersionStanding};
pub use exposition::{Exposition, ProcessMetrics};
pub use histogram::Histogram;
pub use transport::{Closed, TransportMetrics};
pub use version::{Phase, RequestTimer, VersionMetrics};
