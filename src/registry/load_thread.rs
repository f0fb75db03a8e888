//! Threads of loads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Sender},
    thread,
};

use super::{
    generation::LoadedVersion,
    message::{LoadEnd, Message},
    running_load::StartedLoad,
};
use crate::{
    error::Failure,
    host::priority,
    loader::{Loaded, Loader, VersionKey},
};

/// Starts a load on its own thread, which sends its result to the registry's thread. `yields`: it lets what serves go first.
pub(super) fn start_load(loader: &Loader, key: &VersionKey, load: StartedLoad, yields: bool, inbox: Sender<Message>) {
    let StartedLoad { generation, request, watch } = load;
    let (model, version, path) = (&key.0, key.1, request.source.path.display());
    tracing::info!(model, version, %path, "loading");
    let end = {
        let (key, inbox) = (key.clone(), inbox);
        move |loaded: Result<Loaded, Failure>| {
            let warnings = loaded.as_ref().map(Loaded::warnings).unwrap_or_default();
            let result = loaded.map(loaded_version);
            let _ = inbox.send(Message::LoadEnded(Box::new(LoadEnd { key, generation, result, warnings })));
        }
    };
    let (end_without_thread, loader, key) = (end.clone(), loader.clone(), key.clone());
    let run = move || {
        if yields {
            priority::lower_until_restored();
        }
        // A panic would be a defect, here or in a library; it must cost this version only.
        let loaded = catch_unwind(AssertUnwindSafe(|| loader.load(&key, generation, &request, watch)));
        let panicked = |_| Err(Failure::lasting("loading it panicked: this is a defect of the server"));
        let loaded = loaded.unwrap_or_else(panicked);
        // Before anything serves.
        priority::restore();
        end(loaded);
    };
    if let Err(error) = thread::Builder::new().name("load".into()).spawn(run) {
        end_without_thread(Err(Failure::passing(format!("no thread can be started for it: {error}"))));
    }
}

fn loaded_version(loaded: Loaded) -> LoadedVersion {
    LoadedVersion {
        version: Arc::new(loaded.version),
        memory: loaded.weights_on_host,
        warm_up_seconds: loaded.warm_up.as_secs_f64(),
    }
}
