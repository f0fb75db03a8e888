//! Loads models into worker processes.

use super::{client::Worker, failure::WorkerFailure, process::Launch};
use crate::{
    engine::{environment::Engine, instance::Instance, model_file::ModelFile, target::Target},
    host::files::ModelPath,
};

impl Engine {
    /// Loads a model that has been read from `path` into a process of its own, to be run on the CPU. `label` names the
    /// process.
    ///
    /// # Errors
    /// As those of `load`; or there can't be a process, or the model ends it.
    pub fn load_in_worker(
        &self,
        launch: &Launch,
        label: &str,
        file: &ModelFile,
        path: &ModelPath,
        target: &Target,
    ) -> Result<Instance, WorkerFailure> {
        let target = Target { max_run_memory: Some(self.run_limit(target)), ..target.clone() };
        let worker = Worker::load(launch, label, file, path, &target)?;
        Instance::of_worker(worker, file)
    }

    /// Settings of workers that use the same library: with this nice value, and so many bytes of memory at most.
    pub fn launch(&self, nice: i32, memory: Option<u64>) -> Launch {
        Launch::new(self.library().into(), nice, memory)
    }
}
