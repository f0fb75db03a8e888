//! File notifications of the operating system for the repository.

use notify::{
    Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use std::{mem, path::Path, sync::mpsc::Sender, time::Duration};

use super::message::Message;
use crate::repository::Repository;

/// Sends a message at each change, as long as the returned watcher is kept. `None` where notifications can't be had: then
/// polling alone finds changes, at this interval.
pub(super) fn watch(repository: &Repository, inbox: Sender<Message>, interval: Duration) -> Option<RecommendedWatcher> {
    let send = move |event: notify::Result<notify::Event>| {
        // A read changes nothing; the registry itself reads.
        let is_read = event.is_ok_and(|event| match event.kind {
            EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
            _ => false,
        });
        if !is_read {
            let _ = inbox.send(Message::FilesChanged);
        }
    };
    let log = |error: notify::Error| tracing::info!(%error, ?interval, "file notifications unavailable, polling");
    let (folder, recursive) = repository.watched();
    let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    start(&folder, mode, send).map_err(log).ok()
}

fn start(
    folder: &Path,
    mode: RecursiveMode,
    send: impl Fn(notify::Result<notify::Event>) + Send + 'static,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(send)?;
    // The watcher panics where the system has started no thread for it, and so does its destructor. This call alone says so.
    if let Err(error) = watcher.configure(Config::default()) {
        mem::forget(watcher);
        return Err(error);
    }
    watcher.watch(folder, mode)?;
    Ok(watcher)
}
