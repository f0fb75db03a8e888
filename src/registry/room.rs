//! Memory limit of all versions together: pure.

use super::{generation::Generation, inventory::Inventory};
use crate::{config::ByteSize, loader::LoadRequest};

/// Limit of the memory of all versions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes of weights on the host: before a load by the size of the files for each session, after it as the sessions hold them.
    pub bytes: ByteSize,
    /// True if a generation is unloaded before its successor loads, where both don't fit together. Nothing answers meanwhile.
    pub unload_first: bool,
}

/// Room for a version that is to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Free,
    /// There is room once the unloaded versions are freed.
    Soon,
    /// There is room once the generation before is unloaded.
    Instead,
    /// There is no room; the reason, for people.
    None(String),
}

/// Estimated memory of all versions, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MemoryUse {
    /// Memory of generations that serve, and of loads that run.
    pub taken: u64,
    /// Memory of generations that drain.
    pub draining: u64,
}

impl MemoryUse {
    pub(super) fn of<G: Generation>(inventory: &Inventory<G>) -> Self {
        let mut memory = MemoryUse::default();
        for tracked in inventory.versions.values() {
            let serving = tracked.lifecycle.serving().map(Generation::memory);
            let loading = tracked.running_loads().map(|load| load.request.memory());
            let given_up = tracked.leftovers.given_up.iter().map(|(_, memory)| *memory);
            memory.taken += serving.into_iter().chain(loading).chain(given_up).sum::<u64>();
            memory.draining += tracked.leftovers.draining.iter().map(Generation::memory).sum::<u64>();
        }
        memory
    }

    pub(super) fn all(self) -> u64 {
        self.taken + self.draining
    }
}

/// The room for a version. `before`: memory of its generation that serves.
pub(super) fn room(limit: Option<MemoryLimit>, memory: MemoryUse, before: Option<u64>, request: &LoadRequest) -> Room {
    let Some(MemoryLimit { bytes: ByteSize(limit), unload_first }) = limit else { return Room::Free };
    let (needed, limit) = (request.memory(), limit as u64);
    let fits = |taken: u64| taken.saturating_add(needed) <= limit;
    match before {
        _ if fits(memory.all()) => Room::Free,
        _ if fits(memory.taken) => Room::Soon,
        Some(before) if unload_first && fits(memory.taken - before) => Room::Instead,
        _ => Room::None(format!(
            "it would take {} (the size of its files for each of its sessions), and of {} (--model-memory) {} are taken{}",
            ByteSize(usize::try_from(needed).unwrap_or(usize::MAX)),
            ByteSize(usize::try_from(limit).unwrap_or(usize::MAX)),
            ByteSize(usize::try_from(memory.all()).unwrap_or(usize::MAX)),
            match before {
                Some(before) if fits(memory.taken - before) =>
                    "; with --model-memory-full unload-first the generation before would go first",
                _ => "",
            }
        )),
    }
}
