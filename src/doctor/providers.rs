//! Execution providers: which the library was built with, whether what they need can be loaded, and whether they work.

use serde_json::json;
use std::path::Path;

use super::report::Finding;
use crate::{engine::Engine, gpu::Gpus};

/// Providers that models can be served by.
const USED: [&str; 7] = [
    "CPUExecutionProvider",
    CUDA,
    "TensorrtExecutionProvider",
    "OpenVINOExecutionProvider",
    "MIGraphXExecutionProvider",
    "CoreMLExecutionProvider",
    "XnnpackExecutionProvider",
];

const CUDA: &str = "CUDAExecutionProvider";

/// What was found out about a provider that the library was built with.
struct Tried {
    name: String,
    /// Libraries that it needs and that can't be loaded, one line for each.
    missing: Vec<String>,
    works: Result<(), String>,
}

pub(super) fn examine(library: &Path, engine: &Engine) -> Vec<Finding> {
    let used = engine.providers().into_iter().filter(|name| USED.contains(&name.as_str()));
    let tried = used.map(|name| {
        let missing = missing(library, &name);
        let works = if missing.is_empty() { works(engine, &name) } else { Err("libraries are missing".into()) };
        Tried { name, missing, works }
    });
    tell(tried.collect(), Gpus::here().is_ok_and(|gpus| gpus.count() > 0))
}

fn tell(tried: Vec<Tried>, has_gpu: bool) -> Vec<Finding> {
    let without_cuda = has_gpu && tried.iter().all(|tried| tried.name != CUDA);
    let tell = |Tried { name, missing, works }: Tried| {
        let facts =
            json!({ "built_in": true, "loadable": missing.is_empty(), "works": works.is_ok(), "missing": missing });
        match works {
            Ok(()) => Finding::ok(name, "works", facts),
            Err(why) if missing.is_empty() => Finding::ok(name, "does not work", facts).warning(why),
            Err(_) => Finding::ok(name, "can't be loaded; what is missing:", facts).warning(missing.join("\n")),
        }
    };
    let mut findings: Vec<_> = tried.into_iter().map(tell).collect();
    if without_cuda {
        let facts = json!({ "built_in": false, "loadable": false, "works": false, "missing": [] });
        let finding = Finding::ok(CUDA, "there is a GPU, and this is a build of ONNX Runtime for CPUs", facts);
        findings.push(finding.warning("`onnxd runtime install --cuda` fetches the one for GPUs"));
    }
    findings
}

/// What keeps a provider's library from being loaded.
fn missing(library: &Path, name: &str) -> Vec<String> {
    let file = match name {
        CUDA => "libonnxruntime_providers_cuda.so",
        "TensorrtExecutionProvider" => "libonnxruntime_providers_tensorrt.so",
        _ => return Vec::new(),
    };
    let path = library.with_file_name(file);
    if path.is_file() { Vec::new() } else { vec![format!("{}: there is no such file", path.display())] }
}

/// Whether a model can be run by a provider.
fn works(_: &Engine, name: &str) -> Result<(), String> {
    if name == "CPUExecutionProvider" { Ok(()) } else { Err("models can't be served by it yet".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Level;

    #[test]
    fn each_provider_is_told_with_what_it_lacks() {
        let tried = |name: &str, missing: &[&str], works: Result<(), &str>| Tried {
            name: name.into(),
            missing: missing.iter().map(|&line| line.into()).collect(),
            works: works.map_err(Into::into),
        };
        let cpu = || tried("CPUExecutionProvider", &[], Ok(()));
        let cuda = |missing, works| tell(vec![cpu(), tried(CUDA, missing, works)], true).remove(1);
        assert_eq!(cuda(&[], Ok(())).level, Level::Ok);
        let broken = cuda(&[], Err("no memory"));
        assert_eq!((broken.level, broken.advice.as_deref()), (Level::Warning, Some("no memory")));
        let lacking = cuda(&["libcudart.so.13: none", "libcuda.so.1: none"], Err("missing"));
        assert_eq!(lacking.advice.as_deref(), Some("libcudart.so.13: none\nlibcuda.so.1: none"));
        assert_eq!(lacking.facts["missing"], json!(["libcudart.so.13: none", "libcuda.so.1: none"]));

        assert_eq!(tell(vec![cpu()], false).len(), 1);
        let none = tell(vec![cpu()], true).remove(1);
        assert!(none.level == Level::Warning && none.name == CUDA && none.advice.unwrap().contains("install --cuda"));
    }
}
