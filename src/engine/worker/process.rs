//! The server's hold on a worker process: starts it, stops its runs, ends it.

use std::{
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use super::{
    death::Death,
    death_watch::{Notify, Registration, watch},
    memory::SharedFile,
    stream::MessageStream,
};

/// Time between two checks whether a run that goes on is to be stopped.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Bytes of a worker's stderr that are kept until they are logged.
const MAX_LOG: usize = 16 << 10;

/// Settings with which workers are started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The executable.
    program: PathBuf,
    /// ONNX Runtime's library.
    library: Arc<Path>,
    /// The nice value of its threads.
    nice: i32,
    /// Bytes that it may allocate at most, beside the memory that it shares.
    memory: Option<u64>,
}

impl Launch {
    /// Workers of this executable, with this library of ONNX Runtime.
    pub(in crate::engine) fn new(library: Arc<Path>, nice: i32, memory: Option<u64>) -> Self {
        // The file that this process was started from, even where another file has taken its name meanwhile.
        let program = PathBuf::from("/proc/self/exe");
        let program = if program.exists() { program } else { std::env::current_exe().unwrap_or(program) };
        Launch { program, library, nice, memory }
    }
}

/// A worker process, which ends with this.
pub(super) struct WorkerProcess {
    child: Child,
    pub(super) stream: MessageStream,
    /// Numbers of runs to stop go one way, what the worker writes to stderr comes the other way.
    control: UnixStream,
    log: Vec<u8>,
    /// Until it is ended here.
    watched: Option<Registration>,
}

impl WorkerProcess {
    /// Starts a worker, which maps this file. `label` is shown by `ps`.
    pub(super) fn start(launch: &Launch, file: &SharedFile, label: &str) -> io::Result<Self> {
        let (socket, worker_socket) = UnixStream::pair()?;
        let (control, worker_control) = UnixStream::pair()?;
        socket.set_read_timeout(Some(TICK))?;
        control.set_nonblocking(true)?;
        let mut command = Command::new(&launch.program);
        command.arg0("onnxd").arg("worker").arg(&*launch.library).arg(label);
        command.arg(launch.nice.to_string());
        command.arg(launch.memory.unwrap_or(0).to_string());
        // A worker closes everything else that it may have inherited. In a group of its own, since it has to outlive what a
        // terminal sends to the server: the server finishes what is in flight first.
        command.stdin(OwnedFd::from(worker_socket)).stdout(Stdio::from(file.file().try_clone()?));
        command.stderr(OwnedFd::from(worker_control)).process_group(0);
        let child = command.spawn()?;
        Ok(WorkerProcess { child, stream: MessageStream::new(socket), control, log: Vec::new(), watched: None })
    }

    /// Has a function called once it ends, unless this process ends it.
    pub(super) fn watch(&mut self, notify: Notify) {
        self.watched = watch(&self.control, notify);
    }

    /// True if it has ended, or closed what it was started with. Reads what it wrote to stderr.
    pub(super) fn is_gone(&mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match self.control.read(&mut buffer) {
                Ok(0) => return true,
                Ok(read) => {
                    self.log.extend_from_slice(&buffer[..read]);
                    let excess = self.log.len().saturating_sub(MAX_LOG);
                    self.log.drain(..excess);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Lines that it has written to stderr since the last call.
    pub(super) fn take_log(&mut self) -> Vec<String> {
        self.is_gone();
        let log = std::mem::take(&mut self.log);
        let lines = String::from_utf8_lossy(&log);
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Asks it to stop a run, as soon as an operator ends.
    pub(super) fn stop_run(&mut self, number: u64) {
        // One that has ended is found out by the next read.
        let _ = self.control.write_all(&number.to_le_bytes());
    }

    /// Ends it where it has not ended, and returns its death.
    pub(super) fn end(&mut self) -> Death {
        self.watched = None;
        // It closes its sockets while it ends: the system's word on what ended it stays.
        let _ = self.child.kill();
        let status = self.child.wait();
        let last_words = self.take_log().pop();
        match status {
            Ok(status) => Death::of(status, last_words),
            Err(error) => Death::ended(format!("and the system does not tell how: {error}")),
        }
    }

    /// The process's number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.watched = None;
        // One that has been waited for is left alone: its number may be another's.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
