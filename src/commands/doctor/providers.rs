//! Checks execution providers: whether the library was built with them, their libraries can be loaded, and they work.

use serde_json::json;

use super::report::{Finding, Level};
use crate::{
    config::{Device, OtherProvider},
    engine::{self, Engine, Provider},
    loader::Devices,
    ort_library::{ProviderLibrary, prepare},
};

/// Providers that can serve models.
const PROVIDERS: [Provider; 7] = [
    Provider::Cpu,
    Provider::Cuda { gpu: 0 },
    Provider::TensorRt { gpu: 0 },
    Provider::Other(OtherProvider::OpenVino),
    Provider::Other(OtherProvider::MiGraphX),
    Provider::Other(OtherProvider::CoreMl),
    Provider::Other(OtherProvider::Xnnpack),
];

/// Result of trying a provider that the library was built with.
struct ProviderTrial {
    provider: Provider,
    /// Libraries that the provider needs and that can't be loaded, one line for each.
    missing: Vec<String>,
    /// Devices where the provider was tried, with the results.
    tried: Vec<(String, Result<(), String>)>,
}

pub(super) fn examine(engine: &Engine, asked: Device) -> Vec<Finding> {
    let built_in = engine.providers();
    let ours = PROVIDERS.into_iter().filter(|provider| built_in.iter().any(|name| name == provider.name()));
    let mut findings: Vec<_> = ours.map(|provider| provider_finding(try_one(engine, provider))).collect();
    let has_cuda = built_in.iter().any(|name| name == Provider::Cuda { gpu: 0 }.name());
    if let (Ok(names), false) = (engine::gpus(), has_cuda) {
        findings.push(unused(names));
    }
    findings.push(device(asked, Devices::new(engine.clone()).choose(asked)));
    findings
}

fn try_one(engine: &Engine, provider: Provider) -> ProviderTrial {
    let missing = match provider {
        Provider::Cuda { .. } => prepare(engine.library(), ProviderLibrary::Cuda),
        Provider::TensorRt { .. } => prepare(engine.library(), ProviderLibrary::TensorRt),
        Provider::Cpu | Provider::Other(_) => Vec::new(),
    };
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    let on = |provider: Provider| {
        let works = engine.try_provider(provider);
        (provider.to_string(), works.map_err(|failure| failure.why))
    };
    let gpus = || engine::gpus().map(|names| 0..u32::try_from(names.len()).unwrap_or(u32::MAX));
    let tried = match (missing.is_empty(), provider) {
        (false, _) => Vec::new(),
        (true, Provider::Cuda { .. } | Provider::TensorRt { .. }) => match gpus() {
            Err(why) => vec![("GPUs".into(), Err(why.to_owned()))],
            Ok(numbers) => numbers
                .map(|gpu| match provider {
                    Provider::TensorRt { .. } => on(Provider::TensorRt { gpu }),
                    _ => on(Provider::Cuda { gpu }),
                })
                .collect(),
        },
        (true, Provider::Cpu | Provider::Other(_)) => vec![on(provider)],
    };
    ProviderTrial { provider, missing, tried }
}

fn provider_finding(ProviderTrial { provider, missing, tried }: ProviderTrial) -> Finding {
    let name = provider.name();
    // Other providers are used only where a setting names them. The finding about the device reports their failures.
    let matters = matches!(provider, Provider::Cpu | Provider::Cuda { .. });
    let less = |finding: Finding, advice: String| match finding.warning(advice) {
        finding if matters => finding,
        finding => Finding { level: Level::Ok, ..finding },
    };
    let works: Vec<_> = tried.iter().filter(|(_, works)| works.is_ok()).map(|(on, _)| on.as_str()).collect();
    let fails = tried.iter().filter_map(|(on, works)| Some(format!("{on}: {}", works.as_ref().err()?)));
    let fails: Vec<_> = fails.collect();
    let facts =
        json!({ "built_in": true, "loadable": missing.is_empty(), "works": works, "fails": fails, "missing": missing });
    if !missing.is_empty() {
        return less(Finding::ok(name, "can't be loaded; what is missing:", facts), missing.join("\n"));
    }
    let text = if works.is_empty() { "does not work".into() } else { format!("works: {}", works.join(", ")) };
    let finding = Finding::ok(name, text, facts);
    if fails.is_empty() { finding } else { less(finding, fails.join("\n")) }
}

/// Finding about GPUs that this library can't use.
fn unused(gpus: &[String]) -> Finding {
    let facts = json!({ "built_in": false, "loadable": false, "works": [], "fails": [], "missing": [] });
    let text = format!("this is a build of ONNX Runtime for CPUs, and there is {}", gpus.join(", "));
    let finding = Finding::ok(Provider::Cuda { gpu: 0 }.name(), text, facts);
    finding.warning("`onnxd runtime install --cuda` fetches the one for NVIDIA GPUs")
}

/// Finding about the default device of models.
fn device(asked: Device, chosen: Result<Vec<Provider>, String>) -> Finding {
    let finding = |text: String, providers: Vec<String>| {
        Finding::ok("device", text, json!({ "device": asked.to_string(), "providers": providers }))
    };
    match chosen {
        Ok(providers) => {
            let providers: Vec<_> = providers.iter().map(ToString::to_string).collect();
            finding(format!("{asked}: models run on {}", providers.join(", ")), providers)
        }
        Err(why) => finding(format!("{asked} can't be had: {why}"), Vec::new()).problem(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_findings_name_missing_libraries() {
        let cuda = |missing: &[&str], tried: &[(&str, Result<(), &str>)]| {
            let tried = tried.iter().map(|(on, works)| ((*on).to_owned(), works.map_err(Into::into))).collect();
            let missing = missing.iter().map(|&line| line.into()).collect();
            provider_finding(ProviderTrial { provider: Provider::Cuda { gpu: 0 }, missing, tried })
        };
        let well = cuda(&[], &[("cuda:0", Ok(())), ("cuda:1", Ok(()))]);
        assert_eq!((well.level, well.text.as_str()), (Level::Ok, "works: cuda:0, cuda:1"));
        let half = cuda(&[], &[("cuda:0", Ok(())), ("cuda:1", Err("no memory"))]);
        assert_eq!((half.level, half.text.as_str()), (Level::Warning, "works: cuda:0"));
        assert_eq!(half.advice.as_deref(), Some("cuda:1: no memory"));
        let broken = cuda(&[], &[("GPUs", Err("no driver"))]);
        assert_eq!((broken.level, broken.text.as_str()), (Level::Warning, "does not work"));
        let lacking = cuda(&["libcudart.so.13: none", "libcuda.so.1: none"], &[]);
        assert_eq!(
            (lacking.level, lacking.advice.as_deref()),
            (Level::Warning, Some("libcudart.so.13: none\nlibcuda.so.1: none"))
        );
        assert_eq!(lacking.facts["missing"], json!(["libcudart.so.13: none", "libcuda.so.1: none"]));
        let provider = Provider::TensorRt { gpu: 0 };
        let other =
            provider_finding(ProviderTrial { provider, missing: vec!["libnvinfer.so.10: none".into()], tried: vec![] });
        assert_eq!((other.level, other.advice.as_deref()), (Level::Ok, Some("libnvinfer.so.10: none")));
        assert!(unused(&["H100".into()]).advice.unwrap().contains("install --cuda"));
    }

    #[test]
    fn missing_configured_device_is_a_problem() {
        let there = device(Device::Auto, Ok(vec![Provider::Cuda { gpu: 0 }, Provider::Cuda { gpu: 1 }]));
        assert_eq!((there.level, there.text.as_str()), (Level::Ok, "auto: models run on cuda:0, cuda:1"));
        let missing = device(Device::Cuda(None), Err("no driver".into()));
        assert_eq!((missing.level, missing.text.as_str()), (Level::Problem, "cuda can't be had: no driver"));
    }
}
