//! Resources that this process may use, by the machine, the process's affinity, and its control groups.

mod control_groups;
mod cpus;
pub mod crash;
pub mod files;
pub mod gpus;
mod memory;
pub(crate) mod priority;

pub use control_groups::ControlGroupLimit;
pub use cpus::{Cpus, cpus};
pub use memory::{Memory, ProcessLimit, memory};

pub use priority::{lower_for_good, use_long_slice, yield_to_small_requests};
