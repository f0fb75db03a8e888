//! What of the machine this process may use, and what says so: the machine itself, the process's affinity, and its control
//! groups.

mod cpus;
mod groups;
mod memory;

pub use cpus::{Cpus, cpus};
pub use groups::Limit;
pub use memory::{Memory, ProcessLimit, memory};
