//! Checks that a GPU has room for an allocation: pure.

use crate::{config::ByteSize, metrics::Gpu};

/// Checks that a GPU has `needed` bytes of free memory. A GPU that does not report its free memory passes.
///
/// # Errors
/// The GPU has no room. The message is for people, and gives the total, the used and the needed bytes.
pub fn fits(gpu: &Gpu, needed: u64) -> Result<(), String> {
    let Some(memory) = gpu.memory.filter(|memory| memory.free < needed) else { return Ok(()) };
    let size = |bytes: u64| ByteSize(usize::try_from(bytes).unwrap_or(usize::MAX) >> 20 << 20);
    Err(format!(
        "it would take at least {} of the memory of GPU {} ({}), of whose {} {} are taken, by this and other processes, and {} \
         are free",
        ByteSize(usize::try_from(needed).unwrap_or(usize::MAX).next_multiple_of(1 << 20)),
        gpu.index,
        gpu.name,
        size(memory.total),
        size(memory.used),
        size(memory.free),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::GpuMemory;

    #[test]
    fn allocation_beyond_free_gpu_memory_is_rejected() {
        let mut gpu = Gpu {
            index: 1,
            uuid: "GPU-1".into(),
            name: "H100".into(),
            memory: Some(GpuMemory { total: 80 << 30, used: 70 << 30, free: (9 << 30) + 5 }),
            utilization: None,
            power_watts: None,
            power_limit_watts: None,
            energy_joules: None,
        };
        assert_eq!(fits(&gpu, 9 << 30), Ok(()));
        assert_eq!(
            fits(&gpu, (10 << 30) - 1).unwrap_err(),
            "it would take at least 10GiB of the memory of GPU 1 (H100), of whose 80GiB 70GiB are taken, by this and other \
             processes, and 9GiB are free"
        );
        gpu.memory = None;
        assert_eq!(fits(&gpu, u64::MAX), Ok(()));
    }
}
