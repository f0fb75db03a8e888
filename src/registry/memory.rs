//! Whether a version has room before it is loaded: among what versions may take together, which is pure, and on a GPU.

use super::{
    inventory::Inventory,
    plan::{Key, Wanted},
};
use crate::{
    config::ByteSize,
    engine::Provider,
    error::Failure,
    gpu::{self, fits},
};

/// What versions may take together.
#[derive(Debug, Clone, Copy)]
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

/// Whether a version has room on what it is to run on, by the size of its files for each of its sessions there. A GPU is asked how
/// much is free, whoever has taken the rest, before anything is loaded: to run out of memory half-way takes longer, and others'
/// with it. What others are loading there meanwhile is not seen, and a driver that does not answer keeps nothing from loading.
///
/// # Errors
/// There is none now.
pub(super) fn room_on(provider: Provider, needed: u64) -> Result<(), Failure> {
    let Some(index) = provider.gpu() else { return Ok(()) };
    let Ok(reading) = gpu::read(gpu::MOMENT) else { return Ok(()) };
    let mut gpus = reading.gpus.iter().filter(|gpu| gpu.index == index);
    gpus.try_for_each(|gpu| fits(gpu, needed)).map_err(Failure::passing)
}
