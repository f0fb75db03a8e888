//! Batches requests and runs the batches.
//!
//! A [`Batcher`] belongs to one loaded version. It holds lanes: each a queue (the policy, which is pure) and the idle instances
//! that run its batches. A lane is a state machine that threads drive by a call of `drive`, which takes a batch and an instance,
//! runs the one on the other, and answers. Every version has a lane that the threads of [`Compute`] drive. One that runs in next
//! to no time has another for each I/O thread, which that thread drives itself ([`run_inline`]).

mod admission;
mod answer;
mod batch;
mod busy_poll;
mod compute;
mod compute_threads;
mod device_threads;
mod drive;
mod forecast;
mod idle;
mod inline;
mod instances;
mod io_thread;
mod job;
mod lane;
mod loss;
mod out_of_service;
mod priority_levels;
mod queue;
mod refusal;
mod run;
mod run_time_ewma;
mod schedulable;
mod settings;
mod slot_hold;
mod slot_queue;
mod submit;
mod sync;
mod timing;
mod version_batcher;
#[cfg(test)]
mod wakeups;
mod watch;
mod watchdog;
mod watched_batcher;
mod watched_runs;
mod watched_task;
mod watched_thread;
mod worker_deaths;
mod worker_restart;

pub use busy_poll::busy_poll;
pub use compute::Compute;
pub use idle::DeviceInFlight;
pub use inline::run_inline;
pub use instances::{Instances, OnDevice};
pub use io_thread::begin_turn;
pub use job::{JobOutput, QueuedRequest};
pub use priority_levels::Levels;
pub use queue::LevelLimits;
pub use run_time_ewma::MAX_INLINE_TIME;
pub use settings::BatcherSettings;
pub use timing::Timing;
pub use version_batcher::Batcher;
pub use watchdog::WatchedLoad;
pub use watched_task::LoadWatch;
