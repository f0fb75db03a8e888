//! Metrics, and their exposition to Prometheus.
//!
//! A version owns its metrics. They are made with the version, recorded by plain atomics without a look-up, and their series end
//! when it goes. Whatever reads them takes a [`VersionSnapshot`]. The text is rendered from the snapshots of the versions that
//! still live. docs/metrics.md has every name, and a test holds it to them.

mod access_log;
mod codec;
mod control;
mod exposition;
mod families;
mod gpu;
mod held_memory;
mod histogram;
mod reasons;
mod server;
mod text;
mod transport;
mod version;
mod version_snapshot;

pub use access_log::{AccessLogMetrics, Unlogged};
pub use codec::{CodecMetrics, CodecOutcome};
pub use control::{ControlMetrics, LoadCounts, ModelStanding, VersionStanding};
pub use exposition::Exposition;
pub use gpu::{Gpu, GpuMemory};
pub use held_memory::{HeldMemory, VersionMemory};
pub use histogram::{Histogram, HistogramSnapshot};
pub use reasons::{Rejection, StopReason};
pub use server::{ProcessStats, ScrapeGauges, ServerMetrics};
pub use transport::{Closed, ExceededLimit, TransportMetrics};
pub use version::{QueueGauge, QueueRates, RequestTimer, VersionMetrics};
pub use version_snapshot::{PhaseSnapshot, RequestPhase, VersionSnapshot};
