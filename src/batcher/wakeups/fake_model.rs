//! A model without an engine: it answers each request with its inputs, and does in some runs what a test asks for.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use super::{
    shuttled::sync::{Arc, Mutex, thread},
    stand_ins::watched_runs::WatchedRun,
};
use crate::{
    engine::{BatchRun, Death, Model},
    error::{Failure, Lost},
    tensor::{Datatype, ModelInputs, Shape, Tensor, concatenate},
};

/// The course of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It gives the inputs.
    Normal,
    /// It breaks the model for good.
    Breaks,
    /// It ends the worker process.
    EndsWorker,
    /// It does not end in time, and is abandoned meanwhile.
    Hangs,
}

/// What instances of a fake model share.
pub(super) struct Script {
    /// Courses of the next runs; those after them are normal.
    pub courses: Mutex<Vec<Course>>,
}

/// An instance of a fake model.
pub(super) struct FakeModel {
    script: Arc<Script>,
    is_in_worker: bool,
    is_lost: bool,
    death: Option<Death>,
}

impl Script {
    /// A script for runs that go so, the last first.
    pub(super) fn new(courses: Vec<Course>) -> Arc<Self> {
        Arc::new(Script { courses: Mutex::new(courses) })
    }
}

impl FakeModel {
    pub(super) fn new(script: &Arc<Script>) -> Self {
        let is_in_worker = script.courses.lock().unwrap().contains(&Course::EndsWorker);
        FakeModel { script: script.clone(), is_in_worker, is_lost: false, death: None }
    }
}

/// A request of so many rows of one number.
pub(super) fn request(rows: usize, number: u8) -> ModelInputs {
    let shape = Shape::new(vec![rows, 1]);
    vec![Tensor::new(Datatype::Uint8, shape, vec![number; rows].into()).unwrap()].into()
}

impl Model for FakeModel {
    fn run(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        assert!(self.death.is_none() && !self.is_lost, "it can't run any more");
        let course = self.script.courses.lock().unwrap().pop().unwrap_or(Course::Normal);
        match course {
            Course::Normal => thread::yield_now(),
            Course::Breaks => self.is_lost = true,
            Course::EndsWorker => self.death = Some(Death::of(ExitStatus::from_raw(libc::SIGSEGV), None)),
            Course::Hangs => {
                let run = WatchedRun::here();
                thread::spawn(move || run.abandon());
                thread::yield_now();
            }
        }
        let inputs: Vec<&Tensor> = requests.iter().map(|request| &request.required[0]).collect();
        let outputs = match course {
            Course::Breaks | Course::EndsWorker => Err(crate::error::Error::internal("it broke")),
            Course::Normal | Course::Hangs => Ok(vec![concatenate(&inputs).unwrap()]),
        };
        BatchRun { outputs, input: Duration::ZERO, run: Duration::ZERO }
    }

    fn lost(&self) -> Option<Lost> {
        (self.is_lost || self.death.is_some()).then(|| Lost::for_good("it broke"))
    }

    fn is_in_worker(&self) -> bool {
        self.is_in_worker
    }

    fn death(&mut self) -> Option<&Death> {
        self.death.as_ref()
    }

    fn is_worker_gone(&mut self) -> bool {
        self.death.is_some()
    }

    fn restart(&mut self) -> Result<(), Failure> {
        thread::yield_now();
        self.death = None;
        Ok(())
    }
}
