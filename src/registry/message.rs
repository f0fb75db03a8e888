//! Messages to the registry's thread.

use super::generation::LoadedVersion;
use crate::{
    error::{Failure, Lost},
    loader::VersionKey,
};

/// A message to the registry's thread.
pub(super) enum Message {
    /// An admin call has changed something, or the server stops.
    Wake,
    /// Files of the repository have changed.
    FilesChanged,
    /// Another server may have changed the desired state.
    StateChanged,
    /// A load has ended.
    LoadEnded(Box<LoadEnd>),
    /// A run of a load was stopped and does not end.
    LoadStuck(VersionKey, u64),
    /// A loaded version can serve no more.
    Lost(Box<GenerationLoss>),
}

/// The end of a load.
pub(super) struct LoadEnd {
    pub key: VersionKey,
    /// The number of the generation that it was to make.
    pub generation: u64,
    pub result: Result<LoadedVersion, Failure>,
    /// Possible mistakes, for people.
    pub warnings: Vec<String>,
}

/// The loss of a generation, as its batcher reports it.
pub(super) struct GenerationLoss {
    pub key: VersionKey,
    pub generation: u64,
    pub lost: Lost,
}
