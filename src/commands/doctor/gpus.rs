//! GPUs, their driver, and CUDA.

use serde_json::json;
use std::{env, path::Path, time::Duration};

use super::report::Finding;
use crate::{
    config::rounded,
    host::gpus::{self, NUMBERING},
    metrics::Gpu,
};

/// Version file of the driver's kernel module.
const KERNEL_MODULE: &str = "/proc/driver/nvidia/version";

/// Time to wait for the driver, which may have many GPUs to wake up.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(30);

/// CUDA version that ONNX Runtime's builds for GPUs need.
const NEEDED: &str = "13.0";

pub(super) fn examine() -> Vec<Finding> {
    let mut findings = match gpus::read(DRIVER_TIMEOUT) {
        Ok(reading) => {
            let visible = env::var_os("CUDA_VISIBLE_DEVICES").map(|list| list.to_string_lossy().into_owned());
            let driver = driver(reading.driver.clone(), reading.cuda.clone());
            [vec![driver], gpu_findings(&reading.gpus, visible.as_deref(), gpus::numbered_by_bus())].concat()
        }
        Err(why) => vec![none(&why, Path::new(KERNEL_MODULE).exists())],
    };
    for (name, version) in [("CUDA runtime", gpus::runtime_version()), ("cuDNN", gpus::cudnn_version())] {
        // Only libraries that are used are loaded. Those that can't be loaded are reported with the providers.
        findings.extend(version.map(|version| Finding::ok(name, version.clone(), json!({ "version": version }))));
    }
    findings
}

fn none(why: &str, has_kernel_module: bool) -> Finding {
    let finding = Finding::ok("driver", format!("none: {why}"), json!({ "version": null, "cuda": null }));
    if !has_kernel_module {
        return finding;
    }
    if !why.starts_with(gpus::NO_NVML) {
        return finding.warning("the driver is broken: the kernel's log may say why (`dmesg | grep -i nvrm`)");
    }
    finding.warning(
        "the kernel has NVIDIA's driver, and its libraries are not to be had here: a container has to be given them by NVIDIA's \
         container toolkit (NVIDIA_DRIVER_CAPABILITIES=compute,utility)",
    )
}

fn driver(version: Option<String>, cuda: Option<String>) -> Finding {
    let shown = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".into());
    let text = format!("{}, for CUDA {} and older", shown(&version), shown(&cuda));
    let is_old = cuda.as_deref().is_some_and(|cuda| major(cuda) < major(NEEDED));
    let finding = Finding::ok("driver", text, json!({ "version": version, "cuda": cuda }));
    if is_old {
        return finding
            .warning(format!("ONNX Runtime's builds for GPUs need CUDA {NEEDED}: install driver 580 or newer"));
    }
    finding
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

fn gpu_findings(gpus: &[Gpu], visible: Option<&str>, by_bus: bool) -> Vec<Finding> {
    if gpus.is_empty() {
        let none = Finding::ok("GPU", "none that this process may use", json!({ "index": null }));
        return vec![match visible {
            Some(list) => none.warning(format!("CUDA_VISIBLE_DEVICES is '{list}', which names none that there is")),
            None => none.warning("the driver has none for this process: is one given to the container?"),
        }];
    }
    let mut findings: Vec<_> = gpus.iter().map(one).collect();
    let differ = gpus.iter().any(|gpu| gpu.name != gpus[0].name);
    if differ && !by_bus {
        let order = Finding::ok("order", "GPUs of different kinds, by speed", json!({}));
        findings.push(order.warning(format!(
            "with {NUMBERING} as it is set, cuda:N may be another GPU than the one that is named here and in the metrics as N: \
             unset it"
        )));
    }
    findings
}

fn one(gpu: &Gpu) -> Finding {
    let memory = gpu.memory.map(|memory| format!(", {} of {} free", rounded(memory.free), rounded(memory.total)));
    Finding::ok(
        format!("cuda:{}", gpu.index),
        format!("{}{} ({})", gpu.name, memory.unwrap_or_default(), gpu.uuid),
        json!({
            "index": gpu.index,
            "uuid": gpu.uuid,
            "name": gpu.name,
            "memory_total": gpu.memory.map(|memory| memory.total),
            "memory_used": gpu.memory.map(|memory| memory.used),
            "memory_free": gpu.memory.map(|memory| memory.free),
            "utilization": gpu.utilization,
            "power_watts": gpu.power_watts,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::report::Level;

    fn gpu(index: u32, name: &str) -> Gpu {
        Gpu {
            index,
            uuid: format!("GPU-{index}"),
            name: name.into(),
            memory: None,
            utilization: None,
            power_watts: None,
            power_limit_watts: None,
            energy_joules: None,
        }
    }

    #[test]
    fn driver_findings_report_the_cause_and_advice() {
        assert_eq!(none("no library", false).level, Level::Ok);
        let advice = |why: &str| none(why, true).advice.unwrap();
        assert!(advice(&format!("{}: no library", gpus::NO_NVML)).contains("container toolkit"));
        assert!(advice("the NVIDIA driver (NVML) does not answer within 30 s").contains("dmesg"));
        let finding = |cuda: &str| driver(Some("580.65".into()), Some(cuda.into()));
        assert_eq!(finding("12.8").level, Level::Warning);
        assert_eq!(
            (finding("13.1").level, finding("13.1").text),
            (Level::Ok, "580.65, for CUDA 13.1 and older".into())
        );
        assert_eq!(driver(None, None).level, Level::Ok);
    }

    #[test]
    fn gpu_findings_warn_of_ambiguous_numbers() {
        let levels = |gpus: &[Gpu], by_bus| {
            gpu_findings(gpus, None, by_bus)
                .into_iter()
                .map(|finding| (finding.name, finding.level))
                .collect::<Vec<_>>()
        };
        let ok = |name: &str| (name.to_owned(), Level::Ok);
        let (same, differ) = ([gpu(0, "A"), gpu(1, "A")], [gpu(0, "A"), gpu(1, "B")]);
        assert_eq!(levels(&same, false), [ok("cuda:0"), ok("cuda:1")]);
        assert_eq!(levels(&differ, true), [ok("cuda:0"), ok("cuda:1")]);
        assert_eq!(levels(&differ, false)[2], ("order".into(), Level::Warning));
        let finding = gpu_findings(&[], Some("7"), true).remove(0);
        assert!(finding.advice.unwrap().contains("'7'") && finding.level == Level::Warning);
    }
}
