//! The store that is in memory, for tests. Its copies share one state, as servers share a store.

use std::{
    fmt::{self, Display},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Desired,
    store::{OnChange, Store, SwapError},
};
use crate::error::Result;

/// A state in memory, and those who watch it.
#[derive(Clone, Default)]
pub(crate) struct MemoryStore(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    desired: Arc<Desired>,
    watchers: Vec<OnChange>,
}

impl MemoryStore {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Arc<Desired>> {
        Ok(self.contents().desired.clone())
    }

    fn claim(&mut self) -> Result<()> {
        Ok(())
    }

    fn compare_and_swap(&mut self, expected: u64, next: &Arc<Desired>) -> Result<Option<String>, SwapError> {
        let mut contents = self.contents();
        if contents.desired.revision != expected {
            return Err(SwapError::Conflict { found: contents.desired.revision });
        }
        contents.desired = next.clone();
        contents.watchers.iter().for_each(|on_change| on_change());
        Ok(None)
    }

    fn watch(&mut self, on_change: OnChange) {
        self.contents().watchers.push(on_change);
    }
}

impl Display for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state in memory")
    }
}
