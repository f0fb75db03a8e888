//! `onnxd doctor`: checks this machine, and whether a server would start and serve with the given settings.

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
use report::{FindingGroup, Report};

/// Runs all checks and prints the findings. Success means that a server would start and serve.
///
/// # Errors
/// None: every problem is reported as a finding.
pub fn run(options: &Doctor) -> Result<ExitCode, String> {
    let report = examine(&options.sources.settings);
    let text = if options.json { json::document(&report) } else { text::page(&report) };
    // The reader may have closed stdout.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(settings: &Settings) -> Report {
    let (library, engine) = onnx_runtime::examine();
    let providers = engine.map(|engine| providers::examine(&engine, settings.device)).unwrap_or_default();
    let groups = [
        FindingGroup::new("cpus", "CPUs", machine::cpus()),
        FindingGroup::new("memory", "Memory", machine::memory(settings)),
        FindingGroup::new("files", "Open files", machine::files(settings)),
        FindingGroup::new("onnxruntime", "ONNX Runtime", library),
        FindingGroup::new("providers", "Execution providers", providers),
        // After the providers, which load CUDA's libraries.
        FindingGroup::new("gpus", "GPUs", gpus::examine()),
        FindingGroup::new("ports", "Ports", ports::examine(&server_config(Path::new(""), settings))),
        FindingGroup::new("folders", "Folders and files", folders::examine(settings)),
    ];
    Report { groups: groups.into() }
}
