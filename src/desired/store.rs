//! Where the desired state is kept.

/// The file that holds the desired state.
#[derive(Debug)]
pub struct Store;
