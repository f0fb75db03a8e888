//! Wake-ups of the batcher: no order in which threads run leaves a request behind.
//!
//! `shuttled` compiles the batcher's files once more with the locks, atomics and threads of `shuttle`, which runs a test again and
//! again, each time with another order of its threads' steps. A wake-up that is lost ends in a deadlock, which fails the test and
//! prints the order. `cargo test` needs no feature and no second build for it.

mod fake_model;
mod shuttled;
mod stand_ins;
mod tests;
