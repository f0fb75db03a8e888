//! Records the process's activity when a signal such as SIGSEGV ends it, so that the next start knows which model to blame.
//!
//! Each thread that loads or runs a model notes so in a slot of its own ([`Activity::begin`]). A signal handler ([`install`])
//! writes the slot of the thread that the signal hit to a file. Threads of ONNX Runtime have no slot. For these all noted
//! activities are written, each as a candidate.

mod activity;
mod handler;
mod slots;

pub use activity::{Activity, ActivityPhase, Doing, recorded_name};
pub use handler::{SIGNALS, install};
