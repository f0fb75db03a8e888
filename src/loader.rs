//! Loads one version: from its files to instances that are warm and checked, unseen by requests until the registry publishes it.

mod batching_gain;
mod batching_rule;
mod context;
mod deaths;
mod device;
mod devices;
mod gpu_room;
mod graphs;
mod inline_budget;
mod instances;
mod isolation;
mod load;
mod loading_version;
mod placement;
mod probe;
mod request;
mod shape_change_cost;
mod test_case;
mod trial;
mod trials;
mod zero_extents;

pub use context::Loader;
pub use deaths::Deaths;
pub use devices::Devices;
pub use load::Loaded;
pub use request::{LoadRequest, VersionKey};
pub use test_case::TestCases;
#[cfg(any(fuzzing, test))]
pub(crate) use test_case::read_for_fuzzing;
pub use trials::Trials;
