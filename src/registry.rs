//! What is loaded: brings it in line with what the repository holds, and publishes into the router.
//!
//! A reconciler: it compares what should be with what is, and acts on the difference, again and again; nobody tells it what
//! has happened. It works on a thread of its own, off the path of requests, and frees there what has gone.

mod in_place;
mod joining;
mod load;
mod plan;
mod probe;
mod test_case;

pub use load::{Loaded, Loader, TestCases};
#[cfg(any(fuzzing, test))]
pub(crate) use test_case::read_for_fuzzing;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    config::STABLE,
    error::Failure,
    repository::{self, Model, Scan},
    router::{ModelEntry, Router, Table, Version, VersionEntry},
};
use plan::{Desired, Key, Retry, Slot};

/// Keeps what is loaded in line with the repository.
pub struct Registry {
    folder: PathBuf,
    loader: Loader,
    router: Arc<Router>,
    slots: BTreeMap<Key, Slot>,
    /// The models as they were last acted on.
    models: BTreeMap<String, Model>,
    /// The last scan: what two scans in a row agree on has settled.
    seen: Scan,
    /// Replaced or removed versions that requests may still hold; freed here, not where the last request ends.
    retired: Vec<Arc<Version>>,
    /// Why the last scan failed, so that it is told once.
    scan_error: Option<String>,
    next_generation: u64,
    /// Set when the server ends.
    stop: Arc<AtomicBool>,
}

/// What happens while versions are loaded, for those who watch.
#[derive(Debug)]
pub enum Progress<'a> {
    /// So many versions are going to be loaded.
    Begin(usize),
    /// This one is done, well or not.
    Done {
        /// The model.
        model: &'a str,
        /// The version.
        version: u64,
    },
    /// All are done.
    End,
}

impl Registry {
    /// A registry over a repository, with nothing loaded. Once `stop` is set it begins nothing new.
    pub fn new(folder: PathBuf, loader: Loader, router: Arc<Router>, stop: Arc<AtomicBool>) -> Self {
        Registry {
            folder,
            loader,
            router,
            slots: BTreeMap::new(),
            models: BTreeMap::new(),
            seen: Scan::default(),
            retired: Vec::new(),
            scan_error: None,
            next_generation: 1,
            stop,
        }
    }

    /// Loads what the repository holds now, on as many threads as there are CPUs, since nothing is served yet.
    ///
    /// # Errors
    /// The repository can't be read. A version that can't be loaded is no error: the table and the log tell of it.
    pub fn load_all(&mut self, progress: &dyn Fn(Progress<'_>)) -> Result<(), String> {
        self.seen = repository::scan(&self.folder)?;
        self.reconcile(self.seen.models.clone(), self.loader.cpus(), progress);
        Ok(())
    }

    /// Looks at the repository every `period` and follows its changes, until told to stop. Unparking the thread makes it look
    /// at once.
    pub fn follow(mut self, period: Duration) {
        while !self.stop.load(Relaxed) {
            thread::park_timeout(period);
            self.look();
        }
    }

    fn look(&mut self) {
        self.free_retired();
        match self.scan() {
            Ok(scan) => {
                self.scan_error = None;
                let models = plan::settle(&self.models, &self.seen.models, &scan.models);
                self.seen = scan;
                let now = Instant::now();
                if models != self.models || self.slots.values().any(|slot| slot.is_due(now)) {
                    self.reconcile(models, 1, &|_| ());
                }
            }
            Err(error) if self.scan_error.as_ref() != Some(&error) => {
                tracing::error!("{error}; what is loaded goes on serving");
                self.scan_error = Some(error);
            }
            Err(_) => {}
        }
    }

    /// Reads the repository. A disk that does not answer, or that has been taken from its mount point, is no wish to unload
    /// everything.
    fn scan(&self) -> Result<Scan, String> {
        let scan = repository::scan(&self.folder)?;
        if scan.models.is_empty() && scan.device != self.seen.device {
            let folder = self.folder.display();
            return Err(format!(
                "the model repository {folder} is empty and lies on another disk than before: was it unmounted?"
            ));
        }
        Ok(scan)
    }

    fn reconcile(&mut self, models: BTreeMap<String, Model>, threads: usize, progress: &dyn Fn(Progress<'_>)) {
        for (name, model) in &models {
            if let Some(problem) = &model.problem
                && self.models.get(name).and_then(|before| before.problem.as_ref()) != Some(problem)
            {
                tracing::error!(model = name, "{problem}; what is loaded of it goes on serving");
            }
        }
        self.models = models;
        let plan = plan::plan(&self.models, &self.slots, Instant::now());
        for key in plan.unload {
            if let Some(version) = self.slots.remove(&key).and_then(|slot| slot.serving) {
                tracing::info!(model = key.0, version = key.1, "unloaded: its files are gone");
                self.retired.push(version);
            }
        }
        for (key, desired) in &plan.load {
            self.slots.entry(key.clone()).or_insert_with(|| Slot::new(desired.clone()));
        }
        self.publish();
        progress(Progress::Begin(plan.load.len()));
        self.load(plan.load, threads, progress);
        progress(Progress::End);
    }

    /// Loads versions on so many threads, and publishes each as soon as it is ready.
    fn load(&mut self, todo: Vec<(Key, Desired)>, threads: usize, progress: &dyn Fn(Progress<'_>)) {
        let (loader, stop) = (self.loader.clone(), self.stop.clone());
        let threads = threads.min(todo.len());
        let first_generation = self.next_generation;
        self.next_generation += todo.len() as u64;
        let todo = Mutex::new((first_generation..).zip(todo));
        let (done, results) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..threads {
                let (done, todo, loader, stop) = (done.clone(), &todo, &loader, &stop);
                scope.spawn(move || {
                    let next =
                        || todo.lock().unwrap_or_else(PoisonError::into_inner).next().filter(|_| !stop.load(Relaxed));
                    while let Some((generation, (key, desired))) = next() {
                        // A panic would be a defect, here or in a library; it must cost this version only.
                        let loaded = catch_unwind(AssertUnwindSafe(|| loader.load(&key, generation, &desired)));
                        let loaded = loaded.unwrap_or_else(|_| {
                            Err(Failure::lasting("loading it panicked: this is a defect of the server"))
                        });
                        if done.send((key, desired, loaded)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(done);
            for (key, desired, loaded) in results {
                self.settle_load(&key, desired, loaded);
                progress(Progress::Done { model: &key.0, version: key.1 });
            }
        });
    }

    /// Takes the result of a load: a good one serves from now on; after a bad one goes on serving what served.
    fn settle_load(&mut self, key: &Key, desired: Desired, loaded: Result<Loaded, Failure>) {
        let slot = self.slots.entry(key.clone()).or_insert_with(|| Slot::new(desired.clone()));
        let before = slot.retry.take().filter(|_| slot.attempted == desired);
        slot.attempted = desired;
        let mut ready = None;
        match loaded {
            Ok(loaded) => {
                for warning in loaded.warnings() {
                    tracing::warn!(model = key.0, version = key.1, "{warning}");
                }
                let version = Arc::new(loaded.version);
                slot.failure = None;
                self.retired.extend(slot.serving.replace(version.clone()));
                ready = Some(version);
            }
            Err(Failure { why, may_pass }) => {
                slot.retry = may_pass.then(|| Retry::after(before, Instant::now()));
                let what = match &slot.serving {
                    Some(_) => "not reloaded, the one before goes on serving",
                    None => "not loaded",
                };
                // What fails in the same way again and again is told once.
                if before.is_some() && slot.failure.as_deref() == Some(&why) {
                    tracing::debug!(model = key.0, version = key.1, "again {what}: {why}");
                } else if may_pass {
                    tracing::error!(model = key.0, version = key.1, "{what}: {why}; it is tried again, now and then");
                } else {
                    tracing::error!(model = key.0, version = key.1, "{what}: {why}");
                }
                slot.failure = Some(why.into());
            }
        }
        self.publish();
        // Said once it is true.
        if let Some(version) = ready {
            let derived = &version.derived;
            tracing::info!(
                model = key.0,
                version = key.1,
                generation = version.generation,
                batching = derived.batching_text(),
                instances = derived.instances,
                intra_op_threads = derived.intra_op_threads,
                in_place = derived.in_place_text(),
                seconds = version.load_time.as_secs_f64(),
                "ready"
            );
        }
        self.free_retired();
    }

    /// Builds the whole table anew and hands it to the router.
    fn publish(&self) {
        let mut table = Table::default();
        for (name, model) in &self.models {
            let stable = model.config.aliases.get(STABLE).copied();
            let entry = ModelEntry { stable, problem: model.problem.clone(), ..ModelEntry::default() };
            table.models.insert(name.clone(), entry);
        }
        for ((name, version), slot) in &self.slots {
            let entry = match (&slot.serving, &slot.failure) {
                (Some(version), _) => VersionEntry::Ready(version.clone()),
                (None, Some(why)) => VersionEntry::Failed(why.clone()),
                (None, None) => VersionEntry::Loading,
            };
            table.models.entry(name.clone()).or_default().versions.insert(*version, entry);
        }
        self.router.publish(table);
    }

    /// Frees versions that no request holds any more.
    fn free_retired(&mut self) {
        self.retired.retain(|version| Arc::strong_count(version) > 1);
    }
}
