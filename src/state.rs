//! The desired state: what admin calls have asked for, beside what the models' `config.toml` say.
//!
//! A model that no call has touched follows its configuration. The first change of its traffic takes over what holds then, and
//! from there on the state wins. Changes are pure ([`ModelState::apply`]); a [`Store`] keeps them.

mod apply;
mod audit;
mod change;
mod default_folder;
mod default_shares;
mod desired;
mod document;
mod folder_store;
mod format_1;
mod history;
mod judge;
#[cfg(test)]
pub(crate) mod memory_store;
mod show;
mod snapshot;
mod store;
#[cfg(test)]
mod store_contract;
#[cfg(test)]
mod tests;
mod undo;

pub use apply::Applied;
pub use change::{Change, ChangeContext, ModelFacts};
pub use default_folder::default_folder;
pub use default_shares::{named, shares};
pub use desired::{Desired, ModelState, Record};
pub use folder_store::FolderStore;
pub use snapshot::{Origin, Snapshot};
pub use store::{OnChange, Store, SwapError};
