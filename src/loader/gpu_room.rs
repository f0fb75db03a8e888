//! Room for a version on a GPU, before it is loaded there.

use crate::{
    engine::Provider,
    error::Failure,
    host::gpus::{self, fits},
};

/// Checks the free memory of a GPU before a load, by the size of the version's files for each of its sessions. The driver reports how
/// much is free, whoever has taken the rest, before anything is loaded: to run out of memory half-way takes longer, and others'
/// with it. What others are loading there meanwhile is not seen, and a driver that does not answer keeps nothing from loading.
///
/// # Errors
/// There is none now.
pub(super) fn room_on(provider: Provider, needed: u64) -> Result<(), Failure> {
    let Some(index) = provider.gpu() else { return Ok(()) };
    let Ok(reading) = gpus::read(gpus::MOMENT) else { return Ok(()) };
    let mut gpus = reading.gpus.iter().filter(|gpu| gpu.index == index);
    gpus.try_for_each(|gpu| fits(gpu, needed)).map_err(Failure::passing)
}
