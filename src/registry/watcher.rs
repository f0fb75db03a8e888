//! File notifications of the operating system for the repository.

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc::Sender,
    thread,
};

use super::shared::Message;

/// Sends a message at each change, as long as the returned watcher is kept. `None` where notifications can't be had: then
/// polling alone finds changes.
pub(super) fn watch(folder: &Path, inbox: Sender<Message>) -> Option<RecommendedWatcher> {
    let send = move |event: notify::Result<notify::Event>| {
        // What is only read does not change; the registry itself reads.
        let is_read = event.is_ok_and(|event| match event.kind {
            EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
            _ => false,
        });
        if !is_read {
            let _ = inbox.send(Message::Files);
        }
    };
    let watcher = thread_available().map_err(notify::Error::io).and_then(|()| start(folder, send));
    let log = |error: notify::Error| tracing::info!(%error, "file notifications unavailable, polling");
    watcher.map_err(log).ok()
}

/// Whether a thread can be started. The watcher needs one, and panics without it.
fn thread_available() -> io::Result<()> {
    let thread = thread::Builder::new().name("notify-test".into()).spawn(|| ())?;
    let _ = thread.join();
    Ok(())
}

fn start(
    folder: &Path,
    send: impl Fn(notify::Result<notify::Event>) + Send + 'static,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(send)?;
    // Another thread may have taken the last one meanwhile.
    match catch_unwind(AssertUnwindSafe(|| watcher.watch(folder, RecursiveMode::Recursive))) {
        Ok(watched) => watched.map(|()| watcher),
        Err(_) => {
            // Without its thread its destructor would panic too.
            mem::forget(watcher);
            Err(notify::Error::generic("the watcher's thread did not start"))
        }
    }
}
