//! Leftovers of a version: generations and loads that are not part of its lifecycle any more, and that still hold memory.

use super::{generation::Generation, running_load::RunningLoad};

/// Leftovers of a version. They agree with nothing else: each goes once it has ended.
#[derive(Debug)]
pub(super) struct Leftovers<G> {
    /// Generations that were replaced or unloaded, and that requests or runs may still hold; oldest first.
    pub draining: Vec<G>,
    /// Loads that run though the version was unloaded meanwhile. No other load of the version begins before they end.
    pub unwanted: Vec<RunningLoad>,
    /// Loads that were given up, whose threads have not ended: the generation's number and the memory in bytes.
    pub given_up: Vec<(u64, u64)>,
}

impl<G> Default for Leftovers<G> {
    fn default() -> Self {
        Leftovers { draining: Vec::new(), unwanted: Vec::new(), given_up: Vec::new() }
    }
}

impl<G: Generation> Leftovers<G> {
    pub(super) fn is_empty(&self) -> bool {
        self.draining.is_empty() && self.unwanted.is_empty() && self.given_up.is_empty()
    }

    /// Takes out the generations that nothing holds any more.
    pub(super) fn take_idle(&mut self) -> Vec<G> {
        self.draining.extract_if(.., |generation| generation.is_idle()).collect()
    }

    /// Event: a load has ended that the lifecycle does not know any more. Its memory is returned, in bytes, and whether it was given up.
    pub(super) fn load_ended(&mut self, generation: u64) -> Option<(u64, bool)> {
        if let Some(index) = self.unwanted.iter().position(|load| load.generation == generation) {
            return Some((self.unwanted.swap_remove(index).request.memory(), false));
        }
        let index = self.given_up.iter().position(|(number, _)| *number == generation)?;
        Some((self.given_up.swap_remove(index).1, true))
    }

    /// Event: a load is not waited for any more, and its thread goes on.
    pub(super) fn give_up(&mut self, (generation, memory): (u64, u64)) {
        self.unwanted.retain(|load| load.generation != generation);
        self.given_up.push((generation, memory));
    }
}
