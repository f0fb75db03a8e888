//! Rules of the operators: from the values of a node's inputs to those of its outputs.

mod arithmetic;
mod attention;
mod classical;
mod cutting;
mod dispatch;
mod elementwise;
mod gather;
mod layout;
mod op;
mod products;
mod quantized;
mod recurrent;
mod reductions;
mod reshape;
mod samples;
mod sized;

pub(super) use dispatch::{apply, constant_shape, is_domain_of_kernels};
pub(super) use op::{Blame, MAX_ELEMENTS, Op, Ruled, SymbolicShape, mixes, unproven};
