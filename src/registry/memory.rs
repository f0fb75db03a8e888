//! Room for a version before it is loaded, among the memory that versions may take together: pure.

use super::inventory::Inventory;
use crate::{
    config::ByteSize,
    loader::{Key, Wanted},
};

/// What versions may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes of weights on the host: before a load by the size of the files for each session, after it as the sessions hold them.
    pub bytes: ByteSize,
    /// Where a version and the one that it replaces don't fit together, that goes first, and nothing answers meanwhile.
    pub unload_first: bool,
}

/// What to do with a version that is to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Free,
    /// There will be, once what was unloaded is freed.
    Soon,
    /// There will be, once the generation before is unloaded.
    Instead,
    /// There is none; why, for people.
    None(String),
}

/// Whether there is room for a version.
pub(super) fn room(limit: Option<MemoryLimit>, inventory: &Inventory, key: &Key, wanted: &Wanted) -> Room {
    let Some(MemoryLimit { bytes: ByteSize(limit), unload_first }) = limit else { return Room::Free };
    let (needed, limit) = (wanted.memory(), limit as u64);
    let serving: u64 =
        inventory.slots.values().filter_map(|slot| slot.serving.as_ref()).map(|serving| serving.memory).sum();
    let loading = inventory.loading.values().chain(inventory.given_up.values());
    let taken = serving + loading.sum::<u64>();
    let retired: u64 = inventory.retired.iter().map(|retired| retired.memory).sum();
    let before = inventory.slots.get(key).and_then(|slot| slot.serving.as_ref()).map(|serving| serving.memory);
    let fits = |taken: u64| taken.saturating_add(needed) <= limit;
    match before {
        _ if fits(taken + retired) => Room::Free,
        _ if fits(taken) => Room::Soon,
        Some(before) if unload_first && fits(taken - before) => Room::Instead,
        _ => Room::None(format!(
            "it would take {} (the size of its files for each of its sessions), and of {} (--model-memory) {} are taken{}",
            ByteSize(usize::try_from(needed).unwrap_or(usize::MAX)),
            ByteSize(usize::try_from(limit).unwrap_or(usize::MAX)),
            ByteSize(usize::try_from(taken + retired).unwrap_or(usize::MAX)),
            match before {
                Some(before) if fits(taken - before) =>
                    "; with --model-memory-full unload-first the generation before would go first",
                _ => "",
            }
        )),
    }
}
