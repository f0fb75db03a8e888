//! Rollouts: traffic of a new version decided by evidence. So far this is the statistical test alone.

pub mod sequential_test;
