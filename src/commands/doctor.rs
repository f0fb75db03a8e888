//! `onnxd doctor`: what a server would find here, and whether it would start and serve with the settings that are given.

mod folders;
mod gpus;
mod json;
mod machine;
mod onnx_runtime;
mod ports;
mod providers;
mod report;
mod text;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use super::{
    cli::{Doctor, Settings},
    serve::server_config,
};
use report::{Group, Report};

/// Looks at everything and tells it. Success means that a server would start and serve.
///
/// # Errors
/// None: what is wrong is told as a finding.
pub fn run(options: &Doctor) -> Result<ExitCode, String> {
    let report = examine(&options.sources.settings);
    let text = if options.json { json::document(&report) } else { text::page(&report) };
    // Whoever reads it may have seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(settings: &Settings) -> Report {
    let (library, engine) = onnx_runtime::examine();
    let providers = engine.map(|engine| providers::examine(&engine, settings.device)).unwrap_or_default();
    let groups = [
        Group::new("cpus", "CPUs", machine::cpus()),
        Group::new("memory", "Memory", machine::memory(settings)),
        Group::new("files", "Open files", machine::files(settings)),
        Group::new("onnxruntime", "ONNX Runtime", library),
        Group::new("providers", "Execution providers", providers),
        // Behind the providers, which load CUDA's libraries.
        Group::new("gpus", "GPUs", gpus::examine()),
        Group::new("ports", "Ports", ports::examine(&server_config(Path::new(""), settings))),
        Group::new("folders", "Folders and files", folders::examine(settings)),
    ];
    Report { groups: groups.into() }
}
