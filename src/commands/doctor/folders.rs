//! Folders and files that a server writes or reads, besides models.

use rustix::{
    fs::{Access, access},
    io::Errno,
};
use serde_json::json;
use std::{
    env,
    path::{Path, PathBuf},
};

use super::report::Finding;
use crate::{api::admin::Tokens, commands::cli::Settings, ort_library::fetch, state::default_folder};

pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![state(settings), cache()];
    if let Some(file) = settings.access_log.as_deref().filter(|file| *file != Path::new("-")) {
        findings.push(log(file));
    }
    if let Some(file) = &settings.admin_token_file {
        let finding = |text: String| Finding::ok("admin tokens", text, json!({ "path": file.to_string_lossy() }));
        findings.push(match Tokens::open(file.clone()) {
            Ok(_) => finding(file.display().to_string()),
            Err(why) => finding(why).problem(),
        });
    }
    findings
}

/// Checks the state folder. Without it a server serves, but can't keep the changes of admin calls.
fn state(settings: &Settings) -> Finding {
    // Each repository has its own folder in the parent.
    let parent = || {
        let folder = default_folder(Path::new("models"), &|name| env::var_os(name));
        folder.parent().map_or(folder.clone(), Path::to_path_buf)
    };
    let folder = settings.state_dir.clone().unwrap_or_else(parent);
    finding(
        "state",
        &folder,
        "admin calls can't change anything: give a folder that may be written with --state-dir DIR",
    )
}

fn cache() -> Finding {
    match fetch::cache_directory() {
        Some(folder) => finding("cache", &folder, "what is fetched or compiled can't be kept: set ONNXD_CACHE_DIR"),
        None => Finding::ok("cache", "none: there is no home directory", json!({ "path": null, "writable": false }))
            .warning("what is fetched or compiled can't be kept: set ONNXD_CACHE_DIR"),
    }
}

fn finding(name: &str, path: &Path, otherwise: &str) -> Finding {
    let writable = writable(path);
    let facts = json!({ "path": path.to_string_lossy(), "writable": writable.is_ok() });
    match writable {
        Ok(()) => Finding::ok(name, format!("{} can be written", path.display()), facts),
        Err(why) => Finding::ok(name, why, facts).warning(otherwise),
    }
}

fn log(file: &Path) -> Finding {
    let is_folder = || file.is_dir().then(|| format!("{} is a folder", file.display()));
    let writable = is_folder().map_or_else(|| writable(file), Err);
    let facts = json!({ "path": file.to_string_lossy(), "writable": writable.is_ok() });
    match writable {
        Ok(()) => Finding::ok("access log", format!("{} can be written", file.display()), facts),
        Err(why) => Finding::ok("access log", format!("--access-log: {why}"), facts).problem(),
    }
}

/// Checks that a path can be written, or created if it does not exist. Writes and creates nothing.
fn writable(path: &Path) -> Result<(), String> {
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    for place in path.ancestors() {
        let needed = if place.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
        match access(place, needed) {
            Ok(()) => return Ok(()),
            // The missing path would be created in the folder above.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(format!("{} can't be written: {error}", place.display())),
        }
    }
    Err(format!("{} can't be made", path.display()))
}
