//! A model file on its way to ONNX Runtime: its contents, and what a static look at its graph finds.

mod contents;
mod cost;
mod hazard;
pub(super) mod onnx;
mod row_proof;
mod unwritten;
mod zip_map;

pub use contents::ModelFile;
pub use hazard::NeedsElements;
pub use row_proof::{RowAnalysis, RowProof};
