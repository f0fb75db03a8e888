//! The store of the desired state: one document with a revision, which servers may share.
//!
//! A store keeps the document, its history and the audit log. Changes are judged and applied above it, by pure functions.

use std::{fmt::Display, sync::Arc};

use super::Desired;
use crate::error::{Error, Result};

/// Function that a store calls when another server has changed the state. It may be called on any thread, and must not block.
pub type OnChange = Box<dyn Fn() + Send + Sync>;

/// A store of the desired state. Its text names it to people: "the state folder /var/lib/onnxd/models".
pub trait Store: Display + Send {
    /// The state as it is now, with its revision. An empty store has the default, whose revision is 0.
    ///
    /// # Errors
    /// The state can't be read (UNAVAILABLE). The message names the store.
    fn load(&mut self) -> Result<Arc<Desired>>;

    /// Makes sure that this server may change the state, before a change is judged. Where several servers may at once, this does nothing.
    ///
    /// # Errors
    /// Another server alone may change it, or the state can't be read (UNAVAILABLE). The message names the store.
    fn claim(&mut self) -> Result<()>;

    /// Replaces the state if it is at the revision `expected`. The revision of `next` is a later one. When this returns, `next` is
    /// durable, and `load` returns it. Gives what went wrong nevertheless, for people: the audit log may lack the change for now.
    ///
    /// # Errors
    /// The state is the one before: it is at another revision, or it can't be written.
    fn compare_and_swap(&mut self, expected: u64, next: &Arc<Desired>) -> Result<Option<String>, SwapError>;

    /// Has a function called after each change that another server makes, as far as the store learns of it. It may be called
    /// without such a change. A caller that must not miss one loads the state at intervals too.
    fn watch(&mut self, on_change: OnChange);
}

/// Reason why a store did not replace the state.
#[derive(Debug)]
pub enum SwapError {
    /// Another server has changed the state: it is at the revision `found`.
    Conflict {
        /// The revision of the state.
        found: u64,
    },
    /// The state can't be written (UNAVAILABLE). The message names the store.
    Failed(Error),
}

impl From<Error> for SwapError {
    fn from(error: Error) -> Self {
        SwapError::Failed(error)
    }
}
