//! Choice of a version's devices among those that work here: pure.

use std::collections::BTreeMap;

use crate::{
    config::{Device, OtherProvider},
    engine::Provider,
};

/// GPUs by their numbers: whether each works, or why not.
pub(in crate::loader) type GpuStates = BTreeMap<u32, Result<(), String>>;

/// Devices that work here. Each is tried when it is first asked for, which may take seconds and load gigabytes.
pub(in crate::loader) trait Available {
    /// GPUs by CUDA, or everything that is missing, for people.
    fn cuda(&self) -> Result<&GpuStates, String>;

    /// GPUs by TensorRT.
    fn tensorrt(&self) -> Result<&GpuStates, String>;

    /// Another provider.
    fn other(&self, provider: OtherProvider) -> Result<(), String>;

    /// GPUs for whoever did not ask for one. Nothing is said of a machine that is not meant to have any.
    fn auto(&self) -> Option<&GpuStates>;
}

/// The providers of a version: each has instances of it.
///
/// # Errors
/// For people: why what is asked for can't be had.
pub(in crate::loader) fn choose(device: Device, here: &impl Available) -> Result<Vec<Provider>, String> {
    let cuda = |gpu| Provider::Cuda { gpu };
    let tensorrt = |gpu| Provider::TensorRt { gpu };
    match device {
        Device::Cpu => Ok(vec![Provider::Cpu]),
        Device::Auto => Ok(match here.auto().map(working) {
            Some(gpus) if !gpus.is_empty() => gpus.into_iter().map(cuda).collect(),
            _ => vec![Provider::Cpu],
        }),
        Device::Cuda(wanted) => pick(device, wanted, here.cuda()?, cuda),
        Device::TensorRt(wanted) => pick(device, wanted, here.tensorrt()?, tensorrt),
        Device::Other(other) => here.other(other).map(|()| vec![Provider::Other(other)]),
    }
}

fn working(gpus: &GpuStates) -> Vec<u32> {
    gpus.iter().filter(|(_, works)| works.is_ok()).map(|(gpu, _)| *gpu).collect()
}

/// GPUs that don't work, with the reasons.
pub(in crate::loader) fn broken(gpus: &GpuStates) -> impl Iterator<Item = String> {
    gpus.iter().filter_map(|(gpu, works)| Some(format!("GPU {gpu}: {}", works.as_ref().err()?)))
}

/// The GPU that is wanted, or all that work.
fn pick(
    device: Device,
    wanted: Option<u32>,
    gpus: &GpuStates,
    provider: impl Fn(u32) -> Provider,
) -> Result<Vec<Provider>, String> {
    let working = working(gpus);
    let there = || working.iter().map(|gpu| provider(*gpu).to_string()).collect::<Vec<_>>().join(", ");
    let whys = || broken(gpus).collect::<Vec<_>>().join("; ");
    match wanted {
        Some(wanted) => match gpus.get(&wanted) {
            Some(Ok(())) => Ok(vec![provider(wanted)]),
            Some(Err(why)) => Err(format!("device \"{device}\" does not work: {why}")),
            None if gpus.is_empty() => Err(format!("there is no GPU {wanted}, and no other")),
            None if working.is_empty() => Err(format!("there is no GPU {wanted}, and no other works: {}", whys())),
            None => Err(format!("there is no GPU {wanted}: there are {}", there())),
        },
        None if working.is_empty() => {
            let why = if gpus.is_empty() { "there is none".into() } else { whys() };
            Err(format!("device \"{device}\": no GPU works: {why}"))
        }
        None => Ok(working.into_iter().map(provider).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        cuda: Result<GpuStates, String>,
        tensorrt: Result<GpuStates, String>,
    }

    impl Available for Fake {
        fn cuda(&self) -> Result<&GpuStates, String> {
            self.cuda.as_ref().map_err(Clone::clone)
        }

        fn tensorrt(&self) -> Result<&GpuStates, String> {
            self.tensorrt.as_ref().map_err(Clone::clone)
        }

        fn other(&self, provider: OtherProvider) -> Result<(), String> {
            if provider == OtherProvider::Xnnpack { Ok(()) } else { Err(format!("no {provider}")) }
        }

        fn auto(&self) -> Option<&GpuStates> {
            self.cuda.as_ref().ok()
        }
    }

    /// GPUs that work or don't.
    fn gpus(works: &[bool]) -> Result<GpuStates, String> {
        let works = works.iter().map(|works| if *works { Ok(()) } else { Err("no kernel image".to_owned()) });
        Ok((0..).zip(works).collect())
    }

    fn nothing() -> Result<GpuStates, String> {
        Err("libcuda.so.1 is missing".into())
    }

    #[test]
    fn device_choice_returns_working_gpus_or_the_cause() {
        let none = || Fake { cuda: nothing(), tensorrt: nothing() };
        let two = || Fake { cuda: gpus(&[true, true]), tensorrt: nothing() };
        let one_of_two = || Fake { cuda: gpus(&[false, true]), tensorrt: gpus(&[false, true]) };
        let broken = || Fake { cuda: gpus(&[false]), tensorrt: gpus(&[]) };
        for (machine, device, expected) in [
            (none(), "auto", Ok("cpu")),
            (none(), "cpu", Ok("cpu")),
            (none(), "cuda", Err("libcuda.so.1 is missing")),
            (none(), "tensorrt:0", Err("libcuda.so.1 is missing")),
            (none(), "xnnpack", Ok("xnnpack")),
            (none(), "openvino", Err("no openvino")),
            (two(), "auto", Ok("cuda:0 cuda:1")),
            (two(), "cpu", Ok("cpu")),
            (two(), "cuda", Ok("cuda:0 cuda:1")),
            (two(), "cuda:1", Ok("cuda:1")),
            (two(), "cuda:7", Err("there is no GPU 7: there are cuda:0, cuda:1")),
            (two(), "tensorrt", Err("libcuda.so.1 is missing")),
            (one_of_two(), "auto", Ok("cuda:1")),
            (one_of_two(), "cuda", Ok("cuda:1")),
            (one_of_two(), "tensorrt", Ok("tensorrt:1")),
            (one_of_two(), "tensorrt:0", Err("device \"tensorrt:0\" does not work: no kernel image")),
            (broken(), "auto", Ok("cpu")),
            (broken(), "cuda", Err("device \"cuda\": no GPU works: GPU 0: no kernel image")),
            (broken(), "cuda:3", Err("there is no GPU 3, and no other works: GPU 0: no kernel image")),
            (broken(), "tensorrt", Err("device \"tensorrt\": no GPU works: there is none")),
            (broken(), "tensorrt:3", Err("there is no GPU 3, and no other")),
        ] {
            let chosen = choose(device.parse().unwrap(), &machine);
            let shown = chosen.map(|providers| providers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{device}");
        }
    }
}
