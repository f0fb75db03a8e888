//! The registry: keeps the loaded versions in line with the model repository and the desired state, and publishes them into the
//! router.
//!
//! The life of each version is one value (`lifecycle`). A pure function (`reconcile`) compares the repository, the desired state and
//! the lifecycles, and returns actions. The registry's thread (`worker`) has them executed (`executor`), off the path of requests.
//! Every other event (an admin call, the end of a load, a loss, a scan) is a transition of the inventory (`transitions`).

mod announced;
mod backoff;
mod control;
mod control_metrics;
mod events;
mod executor;
mod generation;
mod inventory;
mod leftovers;
mod lifecycle;
mod load_log;
mod load_thread;
mod memory_trim;
mod message;
mod model_status;
#[cfg(test)]
mod model_test;
mod overridden_config;
mod previous;
mod readiness;
mod reconcile;
mod room;
mod running_load;
mod settle;
mod shared;
mod standing;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod transitions;
mod unserved;
mod wanted;
mod warnings;
mod watcher;
mod worker;

pub use control::{ChangeResult, Control};
pub use executor::LoadProgress;
pub use room::MemoryLimit;
pub use status::{Event, EventKind, ModelStatus, TrafficSource, VersionState, VersionStatus};
pub use worker::{Options, Registry};
