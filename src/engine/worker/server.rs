//! The worker's end: loads one model and runs it, until the server goes.

use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::RunOptions,
};
use socket2::SockRef;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    os::unix::{ffi::OsStringExt, fs::FileExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

use super::{
    memory::SharedFile,
    messages::{
        Area, ErrorReply, LoadCommand, Refused, ReplyBody, ReplyMessage, RequestBody, RequestMessage, RunCommand,
        RunOutputs,
    },
    run::{Areas, LoadedModel, Made, WriteOutcome},
    setup::{self, Channels},
    stream::MessageStream,
};
use crate::{
    engine::{
        environment::Engine,
        model_file::{ModelFile, NeedsElements, RowAnalysis},
        session::SharedSession,
        signature,
        target::Target,
        weights::WeightsFile,
    },
    error::{Code, Error, Failure, Result},
};

/// Bytes of a model that are read with one call.
const PIECE: usize = 256 << 10;

/// Serves as a worker process: `arguments` are those behind `onnxd worker`. Returns only where the process was not started by
/// a server.
///
/// # Errors
/// For people: it can't be a worker.
pub fn serve(arguments: &[OsString]) -> Result<(), String> {
    const BY_HAND: &str = "`onnxd worker` is started by `onnxd serve` and can't be called by hand";
    let [library, _label, nice, memory] = arguments else { return Err(BY_HAND.into()) };
    let Channels { socket, control, file } = setup::take_over().map_err(|error| format!("{BY_HAND}: {error}"))?;
    let memory = memory.to_str().and_then(|text| text.parse().ok()).filter(|memory| *memory > 0);
    setup::settle(nice.to_str().and_then(|text| text.parse().ok()), memory);
    log_to_stderr();
    let running = Arc::new(CurrentRun::default());
    let watched = running.clone();
    let watcher = thread::Builder::new().name("control".into()).spawn(move || watch(control, &watched));
    watcher.map_err(|error| format!("a thread can't be started: {error}"))?;
    let engine = Engine::start(Path::new(library))?;
    let options = RunOptions::new().map_err(|error| error.to_string())?;
    *running.options() = Some(Arc::new(options));
    let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
    let memory = memory.map_err(|error| format!("ONNX Runtime has no CPU memory: {error}"))?;
    let mut worker =
        Worker { engine, running, memory, file: SharedFile::inherited(file), areas: Areas::default(), model: None };
    worker.answer_all(&mut MessageStream::new(socket)).map_err(|error| error.to_string())
}

/// ONNX Runtime's warnings go to the server's log by way of stderr.
fn log_to_stderr() {
    let log = tracing_subscriber::fmt().with_writer(|| ServerLog).with_ansi(false).without_time().with_target(false);
    // To complain of a lost line on the same stream would end the process.
    let log = log.log_internal_errors(false);
    let _ = log.with_max_level(tracing::Level::WARN).try_init();
}

/// Sends lines to the server, and drops those that find no room: the server does not read while it waits for a load, and some
/// models have ONNX Runtime warn of thousands of weights.
struct ServerLog;

impl io::Write for ServerLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        match SockRef::from(&io::stderr()).send_with_flags(line, flags) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(line.len()),
            sent => sent,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The run that goes on, for the thread that may have to stop it.
#[derive(Default)]
struct CurrentRun {
    /// Its number; 0 while there is none.
    number: Mutex<u64>,
    options: Mutex<Option<Arc<RunOptions>>>,
}

impl CurrentRun {
    fn options(&self) -> MutexGuard<'_, Option<Arc<RunOptions>>> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, number: u64) {
        let mut current = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(options) = &*self.options() {
            let _ = options.unterminate();
        }
        *current = number;
    }

    fn end(&self) {
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    /// Stops a run, if it still is the one that goes on.
    fn stop(&self, number: u64) {
        let current = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(options) = self.options().as_ref().filter(|_| *current == number) {
            let _ = options.terminate();
        }
    }
}

/// Stops runs that the server wants stopped, and ends the process once the server has gone, whatever runs then.
fn watch(mut control: UnixStream, running: &CurrentRun) {
    let mut number = [0; size_of::<u64>()];
    while control.read_exact(&mut number).is_ok() {
        running.stop(u64::from_le_bytes(number));
    }
    setup::exit_now()
}

/// A worker process.
struct Worker {
    engine: Engine,
    running: Arc<CurrentRun>,
    memory: MemoryInfo<'static>,
    file: SharedFile,
    areas: Areas,
    model: Option<LoadedModel>,
}

impl Worker {
    fn answer_all(&mut self, stream: &mut MessageStream) -> io::Result<()> {
        // Outputs that there was no room for.
        let mut waiting: Option<Made> = None;
        loop {
            let call = match stream.receive::<RequestMessage>() {
                Ok(Some(call)) => call,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => setup::exit_now(),
                Err(error) => return Err(error),
            };
            let answer = match call.request {
                Some(RequestBody::Load(load)) => self.load(&load),
                Some(RequestBody::Run(run)) => {
                    self.running.begin(run.number);
                    let made = self.run(&run);
                    self.running.end();
                    self.hand_over(made, run.output.unwrap_or_default(), &mut waiting)
                }
                Some(RequestBody::Room(area)) => {
                    let made = waiting.take().ok_or_else(|| Error::internal("no outputs wait for room"));
                    self.hand_over(made, area, &mut waiting)
                }
                None => failed(&Error::internal("the worker does not know the request")),
            };
            stream.send(&ReplyMessage::from(answer))?;
        }
    }

    fn run(&mut self, run: &RunCommand) -> Result<Made> {
        let model = self.model.as_mut().ok_or_else(|| Error::internal("the worker has loaded no model"))?;
        let options = self.running.options().clone();
        model.run(run, &self.file, &mut self.areas, &self.memory, options.as_deref())
    }

    /// The answer with these outputs, which are in the area then, or wait where that is too small.
    fn hand_over(&mut self, made: Result<Made>, area: Area, waiting: &mut Option<Made>) -> ReplyBody {
        let model = self.model.as_mut().ok_or_else(|| Error::internal("the worker has loaded no model"));
        let written = made.and_then(|made| model?.write(made, area, &self.file, &mut self.areas));
        match written {
            Ok(WriteOutcome::All(outputs)) => ReplyBody::Ran(RunOutputs { outputs }),
            Ok(WriteOutcome::Lacks(length, made)) => {
                *waiting = Some(made);
                ReplyBody::Lacks(length)
            }
            Err(error) => failed(&error),
        }
    }

    fn load(&mut self, load: &LoadCommand) -> ReplyBody {
        self.model = None;
        self.areas = Areas::default();
        match self.load_model(load) {
            Ok(model) => {
                let signature = model.signature().into();
                self.model = Some(model);
                ReplyBody::Loaded(signature)
            }
            Err(Failure { why, may_pass }) => ReplyBody::Refused(Refused { why, may_pass }),
        }
    }

    fn load_model(&self, load: &LoadCommand) -> Result<LoadedModel, Failure> {
        let threads = NonZeroUsize::new(load.threads as usize).unwrap_or(NonZeroUsize::MIN);
        let max_run_memory = usize::try_from(load.max_run_memory).ok();
        let target = Target { max_run_memory, ..Target::cpu(threads) };
        let mut offset = load.offset;
        let mut read = |length: u64| {
            let read = read_part(self.file.file(), offset, length);
            offset += length;
            read.map_err(|error| Failure::passing(format!("the worker can't read the model: {error}")))
        };
        let encoded = read(load.model)?;
        let mut weights = Vec::new();
        for file in &load.weights {
            let names = file.names.iter().map(|name| PathBuf::from(OsString::from_vec(name.clone())));
            weights.push(WeightsFile { names: names.collect(), contents: read(file.length)?.into() });
        }
        let file = ModelFile {
            encoded,
            weights,
            labels: BTreeMap::new(),
            uneven: None,
            hazard: None,
            zero_extents: NeedsElements::default(),
            rows: RowAnalysis::default(),
            unwritten: load.zeroed.then(|| "told by the server".to_owned()),
            inputs: Vec::new(),
            digest: OnceLock::new(),
        };
        let folder = PathBuf::from(OsString::from_vec(load.folder.clone()));
        let (session, pool) = self.engine.counted_session(file, &folder, &target)?;
        let signature = signature::signature(&session, BTreeMap::new()).map_err(Failure::lasting)?;
        let session = SharedSession::new(session, &signature, pool).map_err(Failure::lasting)?;
        Ok(LoadedModel::new(session, signature))
    }
}

/// Bytes of the shared file, read in pieces.
fn read_part(file: &File, mut offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length)?;
    bytes.resize(length, 0);
    for piece in bytes.chunks_mut(PIECE) {
        file.read_exact_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(bytes)
}

fn failed(error: &Error) -> ReplyBody {
    let code = Code::OF_INFERENCES.iter().position(|code| *code == error.code());
    let internal = Code::OF_INFERENCES.len() - 1;
    ReplyBody::Failed(ErrorReply { code: code.unwrap_or(internal) as u32, why: error.message().to_owned() })
}
