//! Instances whose session lives in a worker process.

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use std::sync::Arc;

use super::Instance;
use crate::{
    engine::{
        batch_run::BatchRun,
        cpu::allocator::{Account, Pool, Purpose},
        model::Model,
        model_file::ModelFile,
        target::Target,
        worker::{Death, Worker, WorkerFailure},
    },
    error::{Failure, Lost},
    host::files::ModelPath,
    tensor::ModelInputs,
};

impl Instance {
    /// One whose session lives in a worker process, with the findings of the look at the model's graph.
    pub(in crate::engine) fn of_worker(worker: Worker, file: &ModelFile) -> Result<Self, WorkerFailure> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let no_memory =
            |error| WorkerFailure::Unavailable(format!("ONNX Runtime has no memory for it on the CPU: {error}"));
        let memory = memory.map_err(no_memory)?.into();
        let signature = worker.signature().clone();
        let shared = |text: &Option<String>| text.as_deref().map(Into::into);
        Ok(Instance {
            session: None,
            signature,
            buffers: Vec::new(),
            cached: None,
            memory,
            pool: elsewhere(file),
            uneven: shared(&file.uneven),
            hazard: shared(&file.hazard),
            zero_extents: file.zero_extents.clone().into(),
            rows: file.rows.clone().into(),
            device: None,
            worker: Some(worker.into()),
            activity: None,
        })
    }

    /// True if it runs in a worker process.
    pub fn is_in_worker(&self) -> bool {
        self.worker.is_some()
    }

    /// The end of its worker process, if it has one that died: it runs nothing any more.
    pub fn death(&mut self) -> Option<&Death> {
        self.worker.as_mut()?.check()
    }

    /// True if it has a worker process that has ended. Cheaper than [`Self::death`], which waits for the process.
    pub fn is_worker_gone(&mut self) -> bool {
        self.worker.as_mut().is_some_and(|worker| worker.is_gone())
    }

    /// Has a function called once its worker process ends by itself, if it has one. The function must not block.
    pub fn notify_of_death(&mut self, notify: impl Fn() + Send + Sync + 'static) {
        if let Some(worker) = &mut self.worker {
            worker.notify_of_death(Arc::new(notify));
        }
    }

    /// The reason that no further run can succeed, such as the death of a worker process. The batcher asks after each run: it then drops the
    /// instance and takes the version out of service.
    pub fn lost(&self) -> Option<Lost> {
        let death = self.worker.as_ref()?.death()?;
        Some(Lost::for_now(format!("its worker process {}", death.cause())))
    }

    /// Has the worker process load another model in the place of this one, as `Engine::load_in_worker` does.
    ///
    /// # Errors
    /// As those of `Engine::load_in_worker`.
    pub fn load_another(self, file: &ModelFile, path: &ModelPath, target: &Target) -> Result<Self, WorkerFailure> {
        let worker = self.worker.ok_or_else(|| WorkerFailure::Unavailable("it has none".into()))?;
        let worker = worker.load_another(file, path, target)?;
        Instance::of_worker(worker, file)
    }

    /// Starts the worker process again after its death, with the same files.
    ///
    /// # Errors
    /// For people: why it can't be started, or the files have changed.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.worker.as_mut().map_or(Ok(()), |worker| worker.restart())
    }
}

/// The account of a session in a worker process: its files, since the rest is memory of that process.
fn elsewhere(file: &ModelFile) -> Arc<Pool> {
    let account = Account::new(usize::MAX, false);
    account.held().read(file.bytes());
    Pool::new(account.into(), Purpose::Runs)
}

impl Model for Instance {
    fn run(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        self.run(requests)
    }

    fn lost(&self) -> Option<Lost> {
        self.lost()
    }

    fn is_in_worker(&self) -> bool {
        self.is_in_worker()
    }

    fn death(&mut self) -> Option<&Death> {
        self.death()
    }

    fn is_worker_gone(&mut self) -> bool {
        self.is_worker_gone()
    }

    fn notify_of_death(&mut self, notify: impl Fn() + Send + Sync + 'static) {
        self.notify_of_death(notify);
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.restart()
    }
}
