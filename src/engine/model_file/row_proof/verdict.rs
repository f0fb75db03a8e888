//! Verdict on the rows of a model.

use std::{collections::BTreeMap, fmt};

/// Analysis of a model's graph for what rows of a batch have to do with each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowAnalysis {
    /// Verdict on their influence on each other.
    pub proof: RowProof,
    /// Extents that requests must have to share a batch, by input and axis: the proof holds for them alone, as those of the example
    /// that the model was exported with.
    pub required_extents: BTreeMap<(String, usize), usize>,
    /// For each input that indexes constant tables, such as embeddings, the extent of the smallest.
    pub table_sizes: BTreeMap<String, i64>,
}

/// Verdict on the rows of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowProof {
    /// Each row of each output depends on one row of the inputs alone.
    Proven,
    /// An operator lets rows influence each other.
    Mixes(RowFinding),
    /// It is not known.
    Unproven(RowFinding),
}

/// The place where the rows are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFinding {
    /// The node, by its operator and name, and the reason, which names the tensor.
    pub why: String,
    /// The nodes from there to an output.
    pub chain: Vec<String>,
}

impl Default for RowProof {
    fn default() -> Self {
        RowProof::Unproven(RowFinding::without_node("its graph can't be read".into()))
    }
}

impl RowFinding {
    /// A finding that no node is to blame for.
    pub(super) fn without_node(why: String) -> Self {
        RowFinding { why, chain: Vec::new() }
    }
}

impl fmt::Display for RowFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
