//! A model without an engine: it answers each request with its inputs, and does in some runs what a test asks for.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use shuttle::sync::Barrier;

use super::{
    shuttled::sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    },
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
    /// It does not end before [`Script::release`], and is abandoned meanwhile.
    Hangs,
    /// It does not end before [`Script::release`], and is in time all the same.
    Holds,
    /// It ends once another such run is under way.
    Meets,
}

/// Script of a fake model's runs, which its instances share.
pub(super) struct Script {
    /// Courses of the next runs; those after them are normal.
    courses: Mutex<Vec<Course>>,
    is_in_worker: bool,
    progress: Mutex<RunProgress>,
    progressed: Condvar,
    meeting: Barrier,
    /// Called when the worker process of an idle instance ends.
    on_death: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    /// True once the worker processes have been ended from outside.
    is_killed: AtomicBool,
}

/// Progress of the runs that hold or hang.
#[derive(Default)]
struct RunProgress {
    has_begun: bool,
    is_released: bool,
}

/// An instance of a fake model.
pub(super) struct FakeModel {
    script: Arc<Script>,
    is_lost: bool,
    death: Option<Death>,
}

impl Script {
    /// A script for runs that go so, the last first.
    pub(super) fn new(courses: Vec<Course>) -> Arc<Self> {
        Arc::new(Script {
            is_in_worker: courses.contains(&Course::EndsWorker),
            courses: Mutex::new(courses),
            progress: Mutex::new(RunProgress::default()),
            progressed: Condvar::new(),
            meeting: Barrier::new(2),
            on_death: Mutex::new(Vec::new()),
            is_killed: AtomicBool::new(false),
        })
    }

    /// A script of normal runs in a worker process.
    pub(super) fn in_worker() -> Arc<Self> {
        let mut script = Script::new(Vec::new());
        Arc::get_mut(&mut script).unwrap().is_in_worker = true;
        script
    }

    /// Waits until a run holds or hangs.
    pub(super) fn wait_for_run(&self) {
        let mut progress = self.progress.lock().unwrap();
        while !progress.has_begun {
            progress = self.progressed.wait(progress).unwrap();
        }
    }

    /// Ends the runs that hold or hang.
    pub(super) fn release(&self) {
        self.progress.lock().unwrap().is_released = true;
        self.progressed.notify_all();
    }

    fn hold(&self) {
        let mut progress = self.progress.lock().unwrap();
        progress.has_begun = true;
        self.progressed.notify_all();
        while !progress.is_released {
            progress = self.progressed.wait(progress).unwrap();
        }
    }

    /// Ends the worker process, of which there is one, from outside.
    pub(super) fn kill(&self) {
        self.is_killed.store(true, SeqCst);
        let on_death = std::mem::take(&mut *self.on_death.lock().unwrap());
        on_death.iter().for_each(|call| call());
    }
}

impl FakeModel {
    pub(super) fn new(script: &Arc<Script>) -> Self {
        FakeModel { script: script.clone(), is_lost: false, death: None }
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
        let course = if self.is_worker_gone() { Course::EndsWorker } else { course };
        match course {
            Course::Normal => thread::yield_now(),
            Course::Holds => self.script.hold(),
            Course::Meets => _ = self.script.meeting.wait(),
            Course::Breaks => self.is_lost = true,
            Course::EndsWorker => self.death = Some(death()),
            Course::Hangs => {
                let run = WatchedRun::here();
                thread::spawn(move || run.abandon());
                self.script.hold();
            }
        }
        let inputs: Vec<&Tensor> = requests.iter().map(|request| &request.required[0]).collect();
        let outputs = match course {
            Course::Breaks | Course::EndsWorker => Err(crate::error::Error::internal("it broke")),
            Course::Normal | Course::Hangs | Course::Holds | Course::Meets => Ok(vec![concatenate(&inputs).unwrap()]),
        };
        BatchRun { outputs, input: Duration::ZERO, run: Duration::ZERO }
    }

    fn lost(&self) -> Option<Lost> {
        (self.is_lost || self.death.is_some()).then(|| Lost::for_good("it broke"))
    }

    fn is_in_worker(&self) -> bool {
        self.script.is_in_worker
    }

    fn death(&mut self) -> Option<&Death> {
        if self.is_worker_gone() {
            self.death = Some(death());
        }
        self.death.as_ref()
    }

    fn is_worker_gone(&mut self) -> bool {
        self.death.is_some() || self.script.is_killed.load(SeqCst)
    }

    fn notify_of_death(&mut self, notify: impl Fn() + Send + Sync + 'static) {
        self.script.on_death.lock().unwrap().push(Box::new(notify));
    }

    fn restart(&mut self) -> Result<(), Failure> {
        thread::yield_now();
        self.script.is_killed.store(false, SeqCst);
        self.death = None;
        Ok(())
    }
}

fn death() -> Death {
    Death::of(ExitStatus::from_raw(libc::SIGSEGV), None)
}
