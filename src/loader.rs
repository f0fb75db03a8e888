//! Loads one version: from its files to instances that are warm and checked, unseen by requests until the registry publishes it.

pub(crate) mod batching_gain;
mod batching_rule;
mod context;
pub(crate) mod deaths;
pub(crate) mod device;
pub(crate) mod devices;
mod gpu_room;
pub(crate) mod graphs;
pub(crate) mod inline_budget;
pub(crate) mod instances;
pub(crate) mod isolation;
pub(crate) mod load;
mod loading_version;
pub(crate) mod placement;
pub(crate) mod probe;
mod request;
pub(crate) mod shape_change_cost;
pub(crate) mod test_case;
pub(crate) mod trial;
pub(crate) mod trials;
pub(crate) mod zero_extents;

pub use context::Loader;
pub use deaths::Deaths;
pub use devices::Devices;
pub use load::Loaded;
pub use request::{LoadRequest, VersionKey};
pub use test_case::TestCases;
#[cfg(any(fuzzing, test))]
pub(crate) use test_case::read_for_fuzzing;
pub use trials::Trials;
