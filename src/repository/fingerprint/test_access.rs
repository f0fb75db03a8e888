//! Fingerprints of files that are nowhere, for tests.

use std::{collections::BTreeSet, sync::Arc};

use super::{FileState, Fingerprint};

impl Fingerprint {
    /// The fingerprint of a model file and of weights in these states, each of which has so many bytes.
    pub(crate) fn of_states(model: i128, weights: i128, size: u64) -> Fingerprint {
        let file = |path: &str, modified| FileState {
            path: path.into(),
            kind: libc::S_IFREG,
            size,
            modified,
            changed: modified,
            inode: 0,
        };
        Fingerprint {
            files: vec![file("model.onnx", model), file("weights", weights)],
            weights: Arc::new(BTreeSet::from(["weights".into()])),
        }
    }
}
