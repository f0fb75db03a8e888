//! Word from the operating system that something has changed in the repository.

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use std::{path::Path, sync::mpsc::Sender};

use super::shared::Message;

/// Sends word of changes for as long as what it returns is kept. Where that can't be had, the repository is only looked at
/// now and then.
pub(super) fn watch(folder: &Path, inbox: Sender<Message>) -> Option<RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        // What is only read does not change; the registry itself reads.
        let is_read = event.is_ok_and(|event| match event.kind {
            EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
            _ => false,
        });
        if !is_read {
            let _ = inbox.send(Message::Files);
        }
    };
    let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    let told = |error: notify::Error| {
        tracing::info!(
            "the repository's changes are found by looking at it only, as there is no word of them: {error}"
        );
    };
    watcher.map_err(told).ok()
}
