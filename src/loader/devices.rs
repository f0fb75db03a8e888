//! Devices that work on this machine. GPUs are tried when they are first asked for, and the result is kept: a library that was not
//! found is not found later by the same process either. That another provider works is kept too; one that does not is tried again by the
//! next load that asks for it, as its device may be there by then.

#[cfg(test)]
mod test_access;

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock, PoisonError},
};

use super::device::{Available, GpuStates, broken, choose};
use crate::{
    config::{Device, OtherProvider},
    engine::{self, Engine, Provider},
    error::Failure,
    host::gpus,
    ort_library::{Missing, ProviderLibrary, prepare},
};

/// The devices of this machine.
pub struct Devices {
    engine: Engine,
    providers: OnceLock<Vec<String>>,
    cuda: OnceLock<Result<GpuStates, String>>,
    tensorrt: OnceLock<Result<GpuStates, String>>,
    auto: OnceLock<bool>,
    others: Mutex<BTreeSet<OtherProvider>>,
}

impl Devices {
    /// The devices that the engine can use.
    pub fn new(engine: Engine) -> Self {
        let (providers, cuda, tensorrt, auto, others) = Default::default();
        Devices { engine, providers, cuda, tensorrt, auto, others }
    }

    /// The providers that a version runs on.
    ///
    /// # Errors
    /// For people: why what is asked for can't be had, and how to get it.
    pub fn choose(&self, device: Device) -> Result<Vec<Provider>, String> {
        choose(device, self)
    }

    fn is_built_with(&self, provider: Provider) -> bool {
        let providers = self.providers.get_or_init(|| self.engine.providers());
        providers.iter().any(|name| name == provider.name())
    }

    /// GPUs by a provider that these libraries are for, or everything that is missing.
    fn find(&self, libraries: &[ProviderLibrary], provider: impl Fn(u32) -> Provider) -> Result<GpuStates, String> {
        if !self.is_built_with(provider(0)) {
            return Err(self.other_build(provider(0)));
        }
        let missing: Vec<Missing> =
            libraries.iter().flat_map(|library| prepare(self.engine.library(), *library)).collect();
        if !missing.is_empty() {
            return Err(format!("{} can't be used without {}", provider(0).title(), grouped(&missing)));
        }
        let names = engine::gpus()?;
        let mut found = GpuStates::new();
        for (gpu, name) in (0..).zip(names) {
            found.insert(gpu, self.works(provider(gpu), name));
        }
        let works = found.iter().zip(names).filter(|((_, works), _)| works.is_ok());
        let works: Vec<String> = works.map(|((gpu, _), name)| format!("{} ({name})", provider(*gpu))).collect();
        // Where none works, the load reports it.
        if !works.is_empty() {
            let provider = provider(0).title();
            tracing::info!(provider, device = works.join(", "), "GPUs usable");
            for why in broken(&found) {
                tracing::warn!(provider, error = why, "GPU unusable, the others are used");
            }
        }
        Ok(found)
    }

    /// Tries a GPU. One that has no memory left now may have some when a load needs it, which finds out.
    fn works(&self, provider: Provider, name: &str) -> Result<(), String> {
        let Err(Failure { why, may_pass }) = self.engine.try_provider(provider) else { return Ok(()) };
        if may_pass {
            tracing::warn!(device = %provider, name, error = why, "GPU can't be tried now, the loads find out");
            return Ok(());
        }
        Err(format!("{name}: {why}"))
    }

    /// Advice where the library has no such provider.
    fn other_build(&self, provider: Provider) -> String {
        let providers = self.providers.get_or_init(|| self.engine.providers());
        let has =
            providers.iter().map(|name| name.trim_end_matches("ExecutionProvider")).collect::<Vec<_>>().join(", ");
        let instead = match provider {
            Provider::Cuda { .. } | Provider::TensorRt { .. } => {
                "run `onnxd runtime install --cuda`, which fetches a build for NVIDIA GPUs"
            }
            Provider::Cpu | Provider::Other(_) => {
                "set ORT_DYLIB_PATH to the library of an ONNX Runtime 1.31 that has it"
            }
        };
        let (name, library) = (provider.title(), self.engine.library().display());
        format!("this ONNX Runtime is a build without {name} ({library} has {has}): {instead}")
    }

    /// True if versions run on GPUs by default. The reason against it is logged once where it may be unexpected: there is a GPU,
    /// or ONNX Runtime is built for GPUs.
    fn find_auto(&self) -> bool {
        let why = if self.is_built_with(Provider::Cuda { gpu: 0 }) {
            match engine::gpus().map(|_| self.cuda()) {
                Err(why) => format!(
                    "ONNX Runtime is built for GPUs, and {why}; `onnxd doctor` tells more, and --device cpu that none is meant"
                ),
                Ok(Err(why)) => why,
                Ok(Ok(found)) if found.values().any(Result::is_ok) => return true,
                Ok(Ok(found)) => format!("no GPU works: {}", broken(found).collect::<Vec<_>>().join("; ")),
            }
        } else {
            match unused_gpus() {
                Some(names) => format!("of GPUs there is {names}, and {}", self.other_build(Provider::Cuda { gpu: 0 })),
                None => return false,
            }
        };
        tracing::warn!(reason = why, "models run on the CPU where device is auto");
        false
    }
}

/// The GPUs that there are, for a process that can't use them: CUDA's part of the driver is not loaded for that.
fn unused_gpus() -> Option<String> {
    let reading = gpus::read(gpus::MOMENT).ok()?;
    let names: Vec<_> = reading.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

impl Available for Devices {
    fn cuda(&self) -> Result<&GpuStates, String> {
        let find = || self.find(&[ProviderLibrary::Cuda], |gpu| Provider::Cuda { gpu });
        self.cuda.get_or_init(find).as_ref().map_err(Clone::clone)
    }

    fn tensorrt(&self) -> Result<&GpuStates, String> {
        // It leaves to CUDA what it does not take.
        let libraries = [ProviderLibrary::TensorRt, ProviderLibrary::Cuda];
        let find = || self.find(&libraries, |gpu| Provider::TensorRt { gpu });
        self.tensorrt.get_or_init(find).as_ref().map_err(Clone::clone)
    }

    fn other(&self, other: OtherProvider) -> Result<(), String> {
        let provider = Provider::Other(other);
        if !self.is_built_with(provider) {
            return Err(self.other_build(provider));
        }
        let known = || self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if !known().contains(&other) {
            // Loads that go on at once may each try it.
            self.engine.try_provider(provider).map_err(|failure| failure.why)?;
            known().insert(other);
        }
        Ok(())
    }

    fn auto(&self) -> Option<&GpuStates> {
        // CUDA's libraries are loaded only where there is a GPU.
        let works = *self.auto.get_or_init(|| self.find_auto());
        if works { self.cuda().ok() } else { None }
    }
}

/// Missing libraries, each once, grouped by the way to install them.
fn grouped(missing: &[Missing]) -> String {
    let mut groups: Vec<(Vec<&str>, &Missing)> = Vec::new();
    for lacking in missing {
        let name = lacking.library.as_str();
        if groups.iter().any(|(names, _)| names.contains(&name)) {
            continue;
        }
        match groups.iter_mut().find(|(_, other)| (other.advice, &other.why) == (lacking.advice, &lacking.why)) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], lacking)),
        }
    }
    let group = |(names, lacking): &(Vec<&str>, &Missing)| {
        let library = names.join(", ");
        Missing { library, ..(*lacking).clone() }.to_string()
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_libraries_are_listed_once_by_cause() {
        let missing = |library: &str, why: &str, advice| Missing { library: library.into(), why: why.into(), advice };
        let all = [
            missing("libcudart.so.13", "no such file", "of CUDA"),
            missing("libcuda.so.1", "no such file", "the driver"),
            missing("libcublas.so.13", "no such file", "of CUDA"),
            missing("libcudart.so.13", "no such file", "of CUDA"),
            missing("libcurand.so.10", "wrong ELF class", "of CUDA"),
        ];
        assert_eq!(
            grouped(&all),
            "libcudart.so.13, libcublas.so.13 (of CUDA): no such file; libcuda.so.1 (the driver): no such file; \
             libcurand.so.10 (of CUDA): wrong ELF class"
        );
    }
}
