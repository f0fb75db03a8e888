//! The batcher, compiled with the locks and threads of `shuttle`. The policies and the types without any are the server's own.

#![allow(
    clippy::duplicate_mod,
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "files of the batcher, compiled a second time for the tests, which use some of it"
)]

#[path = "../answer.rs"]
mod answer;
#[path = "compute_stand_in.rs"]
pub(super) mod compute;
#[path = "../compute_threads.rs"]
mod compute_threads;
#[path = "../drive.rs"]
mod drive;
#[path = "../inline.rs"]
pub(super) mod inline;
#[path = "../io_thread.rs"]
pub(super) mod io_thread;
#[path = "../lane.rs"]
mod lane;
#[path = "../out_of_service.rs"]
mod out_of_service;
#[path = "../refusal.rs"]
mod refusal;
#[path = "../run.rs"]
mod run;
#[path = "../submit.rs"]
mod submit;
#[path = "../version_batcher.rs"]
pub(super) mod version_batcher;
#[path = "../watch.rs"]
mod watch;
#[path = "../worker_restart.rs"]
mod worker_restart;

pub(super) mod sync {
    pub(in crate::batcher) use shuttle::{
        sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, atomic},
        thread, thread_local,
    };
}

pub(super) use super::stand_ins::{watchdog, watched_runs, watched_thread};
pub(super) use crate::batcher::{
    admission, batch, forecast, idle, instances, job, loss, priority_levels, queue, run_time_ewma, schedulable,
    settings, slot_hold, slot_queue, timing, watched_batcher, watched_task, worker_deaths,
};
