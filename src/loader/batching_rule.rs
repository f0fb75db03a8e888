//! The rule by which requests of a model may be batched, before any run.

use crate::{config::Batching, engine::RowProof, tensor::Signature};

/// Decides by the configuration, the signature and the graph if batches are allowed at all, before any run.
///
/// # Errors
/// For people: why not.
pub(in crate::loader) fn may_batch(batching: Batching, signature: &Signature, proof: &RowProof) -> Result<(), String> {
    if batching == Batching::Off {
        return Err("config.toml says batching = \"off\"".into());
    }
    signature.open_batch_axis()?;
    match (batching, proof) {
        (Batching::On, _) | (_, RowProof::Proven) | (Batching::Probed, RowProof::Unproven(_)) => Ok(()),
        (_, RowProof::Mixes(finding)) => Err(format!("rows of a batch would influence each other: {finding}")),
        (_, RowProof::Unproven(finding)) => Err(format!(
            "it is not proven that rows are independent: {finding}; batching = \"probed\" in config.toml has a probe decide"
        )),
    }
}
