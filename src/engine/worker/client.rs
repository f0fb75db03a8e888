//! The server's end of a worker: a session that is elsewhere, run like one that is here.

use bytes::Bytes;
use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    death::Death,
    death_watch::Notify,
    failure::WorkerFailure,
    messages::{
        Area, AreaTensor, LoadCommand, Refused, ReplyBody, ReplyMessage, RequestBody, RequestMessage, RunCommand,
        RunOutputs, WeightsEntry,
    },
    process::{Launch, WorkerProcess},
    regions::{Region, Regions},
};
use crate::{
    engine::{
        batch_run::BatchRun,
        batch_values::stacked_extents,
        model_file::ModelFile,
        run_control::{is_session_given_up, is_stop_requested},
        target::Target,
    },
    error::{Code, Error, Failure, Result},
    host::files::ModelPath,
    tensor::{ALIGNMENT, ModelInputs, Shape, Signature, Tensor},
};

/// Room for outputs in the first run.
const FIRST_ROOM: usize = 64 << 10;

/// Room that outputs are given before it is known what they take. Larger ones are copied.
const MAX_ROOM: usize = 16 << 20;

/// Time for which a worker may go on with a run that it was asked to stop: one operator may take so long.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A session in a worker process, which ends with this.
pub(in crate::engine) struct Worker {
    process: WorkerProcess,
    regions: Arc<Regions>,
    signature: Arc<Signature>,
    runs: u64,
    /// Rows of the last run, and what its outputs took.
    last: (usize, usize),
    death: Option<Death>,
    origin: WorkerSpec,
    /// Called once the process ends.
    on_death: Option<Notify>,
}

/// Origin of a worker, for the next.
#[derive(Clone)]
struct WorkerSpec {
    launch: Launch,
    label: String,
    path: ModelPath,
    digest: [u8; 32],
    target: Target,
}

impl Worker {
    /// Starts a worker that loads a model.
    ///
    /// # Errors
    /// For people: the worker can't be started, the model can't be loaded, or loading it ended the worker.
    pub(in crate::engine) fn load(
        launch: &Launch,
        label: &str,
        file: &ModelFile,
        path: &ModelPath,
        target: &Target,
    ) -> Result<Self, WorkerFailure> {
        let regions = Regions::create().map_err(unstarted)?;
        let mut process = WorkerProcess::start(launch, regions.file(), label).map_err(unstarted)?;
        let signature = load_model(&mut process, &regions, file, path, target)?.into();
        let (label, path) = (label.to_owned(), path.clone());
        let origin = WorkerSpec { launch: launch.clone(), label, path, digest: file.digest(), target: target.clone() };
        let last = (1, FIRST_ROOM);
        Ok(Worker { process, regions, signature, runs: 0, last, death: None, origin, on_death: None })
    }

    /// Has the worker load another model in the place of the one that it has.
    ///
    /// # Errors
    /// As those of `load`. The worker can't be used any more then.
    pub(in crate::engine) fn load_another(
        mut self,
        file: &ModelFile,
        path: &ModelPath,
        target: &Target,
    ) -> Result<Self, WorkerFailure> {
        let signature = load_model(&mut self.process, &self.regions, file, path, target)?.into();
        let (path, target) = (path.clone(), target.clone());
        let origin = WorkerSpec { path, digest: file.digest(), target, ..self.origin };
        Ok(Worker { signature, last: (1, FIRST_ROOM), origin, ..self })
    }

    /// Starts a process in the place of one that has ended, with the same files.
    ///
    /// # Errors
    /// As those of `load`; or the files are others now.
    pub(in crate::engine) fn restart(&mut self) -> Result<(), Failure> {
        let WorkerSpec { launch, label, path, digest, target } = &self.origin;
        let file = ModelFile::read(path)?;
        if file.digest() != *digest {
            return Err(Failure::passing("its files are others than those that it was loaded from"));
        }
        let fresh = Worker::load(launch, label, &file, path, target).map_err(WorkerFailure::into_failure)?;
        let on_death = self.on_death.take();
        *self = Worker { last: self.last, ..fresh };
        on_death.into_iter().for_each(|notify| self.notify_of_death(notify));
        Ok(())
    }

    pub(in crate::engine) fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Its death, as far as it is known.
    pub(in crate::engine) fn death(&self) -> Option<&Death> {
        self.death.as_ref()
    }

    /// Its death, if it has ended by now.
    pub(in crate::engine) fn check(&mut self) -> Option<&Death> {
        if self.death.is_none() && self.process.is_gone() {
            self.death = Some(self.process.end());
        }
        self.death.as_ref()
    }

    /// True if the process has ended by now. Cheap: the process is not waited for.
    pub(in crate::engine) fn is_gone(&mut self) -> bool {
        self.death.is_some() || self.process.is_gone()
    }

    /// Has a function called once the process ends by itself, and every process that is started in its place.
    pub(in crate::engine) fn notify_of_death(&mut self, notify: Notify) {
        self.process.watch(notify.clone());
        self.on_death = Some(notify);
    }

    /// Runs requests as one batch, as `Instance::run` does.
    pub(in crate::engine) fn run(&mut self, requests: &[&ModelInputs]) -> BatchRun {
        let started = Instant::now();
        let mut ran = BatchRun { outputs: Ok(Vec::new()), input: Duration::ZERO, run: Duration::ZERO };
        if let Some(death) = &self.death {
            ran.outputs = Err(gone(death));
            return ran;
        }
        let rows = requests.iter().map(|request| request.rows()).sum();
        let prepared = self.stack(requests, rows);
        let stacked = Instant::now();
        ran.input = stacked - started;
        ran.outputs = prepared.and_then(|(run, input, output)| {
            let answered = self.ask(RequestBody::Run(run), output);
            // It may be written to until the answer is here.
            drop(input);
            answered.and_then(|(written, output)| self.outputs(written, output, rows))
        });
        ran.run = stacked.elapsed();
        ran
    }

    /// The inputs in shared memory, and room for the outputs.
    fn stack(&mut self, requests: &[&ModelInputs], rows: usize) -> Result<(RunCommand, Region, Region)> {
        let required = self.signature.inputs.len();
        let mut inputs = Vec::new();
        let mut parts: Vec<Vec<&Tensor>> = Vec::new();
        for index in 0..required {
            parts.push(requests.iter().map(|request| &request.required[index]).collect());
            inputs.push(index);
        }
        for (index, tensor) in requests.iter().flat_map(|request| &request.optional) {
            parts.push(vec![tensor]);
            inputs.push(required + index);
        }
        let mut end = 0usize;
        let mut described = Vec::with_capacity(parts.len());
        for (index, parts) in inputs.into_iter().zip(&parts) {
            let (_, extents) =
                stacked_extents(parts.iter().copied()).map_err(|error| Error::internal(error.to_string()))?;
            let length = parts.iter().map(|part| part.data().len()).sum::<usize>();
            let offset = end.next_multiple_of(ALIGNMENT);
            end = offset + length;
            described.push(AreaTensor {
                offset: offset as u64,
                length: length as u64,
                extents: extents.into_iter().map(|extent| extent as u64).collect(),
                index: index as u32,
            });
        }
        let mut input = self.region(end)?;
        let memory = input.bytes_mut(end);
        for (tensor, parts) in described.iter().zip(&parts) {
            let mut at = tensor.offset as usize;
            for part in parts {
                memory[at..at + part.data().len()].copy_from_slice(part.data());
                at += part.data().len();
            }
        }
        let output = self.region(self.room(rows))?;
        self.runs += 1;
        let (number, retired) = (self.runs, self.regions.take_retired());
        let run =
            RunCommand { number, input: Some(area(&input)), output: Some(area(&output)), inputs: described, retired };
        Ok((run, input, output))
    }

    /// Bytes that the outputs of so many rows are likely to take.
    fn room(&self, rows: usize) -> usize {
        let (last_rows, length) = self.last;
        let length = if rows <= last_rows { length } else { length.saturating_mul(rows) / last_rows.max(1) };
        // One answer of gigabytes is not to make the next runs, whose outputs may be small, take as much.
        length.min(MAX_ROOM)
    }

    fn region(&self, length: usize) -> Result<Region> {
        self.regions.region(length).map_err(|error| {
            let message = format!("there is no memory to share {length} bytes with the worker process: {error}");
            Error::new(Code::ResourceExhausted, message)
        })
    }

    /// Has a run made, and gives what came of it with the region that holds it.
    fn ask(&mut self, run: RequestBody, mut output: Region) -> Result<(RunOutputs, Region)> {
        let mut request = RequestMessage::from(run);
        loop {
            let answer = self.process.stream.send(&request).and_then(|()| self.wait());
            match answer {
                Ok(ReplyBody::Ran(written)) => return Ok((written, output)),
                Ok(ReplyBody::Failed(failed)) => {
                    let code = Code::OF_INFERENCES.get(failed.code as usize).copied().unwrap_or(Code::Internal);
                    return Err(Error::new(code, failed.why));
                }
                Ok(ReplyBody::Lacks(length)) => {
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    // Whatever comes, the worker keeps its outputs until the next run only.
                    output = self.region(length)?;
                    request = RequestMessage::from(RequestBody::Room(area(&output)));
                }
                Ok(ReplyBody::Loaded(_) | ReplyBody::Refused(_)) => {
                    return Err(self.lost(&io::ErrorKind::InvalidData.into()));
                }
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    /// Waits for an answer. Has the run stopped where this thread's run is, and gives up on a worker that does not stop.
    fn wait(&mut self) -> io::Result<ReplyBody> {
        let mut stopped: Option<Instant> = None;
        loop {
            if let Some(reply) = self.process.stream.receive::<ReplyMessage>()? {
                return reply.body.ok_or(io::ErrorKind::InvalidData.into());
            }
            match stopped {
                None if is_stop_requested() => {
                    self.process.stop_run(self.runs);
                    stopped = Some(Instant::now());
                }
                Some(stopped) if stopped.elapsed() > STOP_TIMEOUT => return Err(io::ErrorKind::TimedOut.into()),
                _ => {}
            }
        }
    }

    /// The worker can't be used any more.
    fn lost(&mut self, error: &io::Error) -> Error {
        let death = end(&mut self.process, error);
        gone(self.death.insert(death))
    }

    /// The outputs of a run as slices of the region that they lie in. Nothing of what the worker says is believed.
    fn outputs(&mut self, written: RunOutputs, region: Region, rows: usize) -> Result<Vec<Tensor>> {
        let size = region.size();
        let found: Option<Vec<(Shape, usize, usize)>> =
            written.outputs.iter().map(|output| read(output, size)).collect();
        let found = found.filter(|found| found.len() == self.signature.outputs.len());
        let Some(found) = found else { return Err(self.lost(&io::ErrorKind::InvalidData.into())) };
        let end = found.iter().map(|(_, start, length)| start + length).max().unwrap_or(0);
        self.last = (rows, end.max(FIRST_ROOM));
        let memory = region.into_bytes(end);
        let signature = self.signature.clone();
        let mut outputs = Vec::with_capacity(found.len());
        for (spec, (shape, start, length)) in signature.outputs.iter().zip(found) {
            let data = if length == 0 { Bytes::new() } else { memory.slice(start..start + length) };
            match Tensor::new(spec.datatype, shape, data) {
                Ok(tensor) => outputs.push(tensor),
                Err(_) => return Err(self.lost(&io::ErrorKind::InvalidData.into())),
            }
        }
        Ok(outputs)
    }
}

fn unstarted(error: io::Error) -> WorkerFailure {
    WorkerFailure::Unavailable(error.to_string())
}

/// Has a worker load a model, and gives what that takes and gives.
fn load_model(
    process: &mut WorkerProcess,
    regions: &Arc<Regions>,
    file: &ModelFile,
    path: &ModelPath,
    target: &Target,
) -> Result<Signature, WorkerFailure> {
    let folder = path.folder();
    // The worker makes a copy: this one goes when the answer is here.
    let (load, shared) = share(regions, file, folder, target).map_err(unstarted)?;
    let sent = process.stream.send(&RequestMessage::from(RequestBody::Load(load)));
    let answer = sent.and_then(|()| {
        loop {
            match process.stream.receive::<ReplyMessage>()? {
                Some(reply) => return Ok(reply.body),
                None if is_session_given_up() => return Err(io::ErrorKind::TimedOut.into()),
                None => {}
            }
        }
    });
    drop(shared);
    for message in process.take_log() {
        tracing::warn!(target: "onnxruntime", message, worker = process.id());
    }
    let signature = match answer {
        Ok(Some(ReplyBody::Loaded(signature))) => signature.read().ok_or(io::ErrorKind::InvalidData.into()),
        Ok(Some(ReplyBody::Refused(Refused { why, may_pass }))) => return Err(Failure { why, may_pass }.into()),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(error),
    };
    let mut signature = signature.map_err(|error| {
        let death = end(process, &error);
        if death.is_exit() {
            return WorkerFailure::Unavailable(format!("a worker process {death}"));
        }
        let why =
            format!("loading it ends the process: a worker process that did so {death}; replace or remove the file");
        let failure = Failure { may_pass: death.may_pass(), why };
        WorkerFailure::Died(death, failure)
    })?;
    for output in &mut signature.outputs {
        output.labels = file.labels.get(&*output.name).cloned().unwrap_or_default();
    }
    Ok(signature)
}

/// Copies a model into shared memory, and says how it lies there.
fn share(
    regions: &Arc<Regions>,
    file: &ModelFile,
    folder: &Path,
    target: &Target,
) -> io::Result<(LoadCommand, Region)> {
    let parts = || std::iter::once(&*file.encoded).chain(file.weights.iter().map(|file| &*file.contents));
    let length: usize = parts().map(<[u8]>::len).sum();
    let mut region = regions.region(length)?;
    let (memory, mut end) = (region.bytes_mut(length), 0);
    for part in parts() {
        memory[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    let bytes = |path: &OsStr| path.as_bytes().to_vec();
    let weights = file.weights.iter();
    let load = LoadCommand {
        offset: region.offset(),
        model: file.encoded.len() as u64,
        weights: weights
            .map(|file| WeightsEntry {
                names: file.names.iter().map(|name| bytes(name.as_os_str())).collect(),
                length: file.contents.len() as u64,
            })
            .collect(),
        folder: bytes(folder.as_os_str()),
        threads: u32::try_from(target.threads.get()).unwrap_or(u32::MAX),
        max_run_memory: target.max_run_memory.map_or(u64::MAX, |bytes| bytes as u64),
        zeroed: file.unwritten.is_some(),
    };
    Ok((load, region))
}

fn area(region: &Region) -> Area {
    Area { offset: region.offset(), size: region.size() as u64 }
}

/// Where an output lies in a region of that size, if it can be true.
fn read(output: &AreaTensor, size: usize) -> Option<(Shape, usize, usize)> {
    let extents = output.extents.iter().map(|extent| usize::try_from(*extent).ok()).collect::<Option<Vec<_>>>()?;
    let (start, length) = (usize::try_from(output.offset).ok()?, usize::try_from(output.length).ok()?);
    start.checked_add(length).filter(|end| *end <= size)?;
    Some((Shape::new(extents), start, length))
}

/// Ends a process that did not do as it should, and says how it ended.
fn end(process: &mut WorkerProcess, error: &io::Error) -> Death {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            process.end();
            Death::ended("what it did could not be stopped")
        }
        io::ErrorKind::InvalidData => {
            process.end();
            Death::ended("it sent what is no answer")
        }
        _ => process.end(),
    }
}

fn gone(death: &Death) -> Error {
    Error::new(Code::Unavailable, format!("its worker process {}", death.cause()))
}
