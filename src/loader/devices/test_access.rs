//! Devices of a machine that has GPUs by word alone, for tests.

use super::{Devices, Engine, GpuStates};

impl Devices {
    /// Devices with so many GPUs that work, none of which is tried.
    pub(in crate::loader) fn with_untried_gpus(engine: Engine, gpus: u32) -> Self {
        let works: GpuStates = (0..gpus).map(|gpu| (gpu, Ok(()))).collect();
        let devices = Devices::new(engine);
        Devices { cuda: Ok(works.clone()).into(), tensorrt: Ok(works).into(), ..devices }
    }
}
