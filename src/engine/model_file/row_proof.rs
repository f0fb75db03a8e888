//! Proof that the rows of a batch do not influence each other, by data flow through the graph.
//!
//! Each tensor has an abstract value ([`value`]): constant, a function of the number of rows alone, or made of parts along an axis
//! of which each depends on one row. The rules ([`rules`]) follow these through the operators. An operator without a rule, or one
//! that takes rows together, ends the proof. Extents are polynomials ([`extent`]), so that shapes which a model computes of its
//! inputs' shapes are followed. The proof holds for exact arithmetic: kernels may round differently for batches of another size.
//! It assumes that requests which share a batch agree in all extents but that of axis 0.

mod constants;
mod control;
mod extent;
mod interpreter;
mod node_names;
mod prove;
mod rules;
mod scope;
mod symbols;
mod tables;
mod value;
mod verdict;

#[cfg(test)]
mod tests;

pub(super) use prove::analyse;
pub use verdict::{RowAnalysis, RowProof};
