use super::death::Death;
use crate::error::Failure;

/// Why a model is not loaded in a worker.
#[derive(Debug)]
pub enum WorkerFailure {
    /// There can be no worker, whatever the model is; for people.
    Unavailable(String),
    /// The model can't be loaded.
    Model(Failure),
    /// The worker died of loading the model.
    Died(Death, Failure),
}

impl From<Failure> for WorkerFailure {
    fn from(failure: Failure) -> Self {
        WorkerFailure::Model(failure)
    }
}

impl WorkerFailure {
    /// The same as why a version can't be loaded.
    pub fn into_failure(self) -> Failure {
        match self {
            WorkerFailure::Unavailable(why) => {
                Failure::passing(format!("no worker process can be started for it: {why}"))
            }
            WorkerFailure::Model(failure) | WorkerFailure::Died(_, failure) => failure,
        }
    }
}
