//! Setup of sessions for execution providers. Tests have another, where the CPU takes the place of devices.

use ort::session::builder::SessionBuilder;

use super::{
    cuda::{gpus, pinned_memory::Location},
    model_file::ModelFile,
    provider,
    target::{Provider, Target},
    tensorrt,
};

/// Setup of sessions for execution providers.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProviderSetup {
    /// Has a session run by the provider of the target. What it does not take runs on the CPU.
    pub register: fn(&mut SessionBuilder, &ModelFile, &Target) -> ort::Result<()>,
    /// Memory that batches for a provider are stacked in: the first of these that there is. Empty where it takes them from where
    /// they are.
    pub locations: fn(Provider) -> Vec<Location>,
}

impl Default for ProviderSetup {
    fn default() -> Self {
        ProviderSetup { register, locations: Location::of }
    }
}

fn register(builder: &mut SessionBuilder, file: &ModelFile, target: &Target) -> ort::Result<()> {
    match target.provider {
        Provider::Cpu => Ok(()),
        Provider::Cuda { gpu } => provider::register_cuda(builder, &target.options_of_cuda(gpu)),
        Provider::TensorRt { gpu } => {
            let name = gpus().ok().and_then(|names| names.get(gpu as usize)).map_or("unknown", String::as_str);
            tensorrt::register(builder, &tensorrt::prepared(target, gpu, name, file))?;
            provider::register_cuda(builder, &target.options_of_cuda(gpu))
        }
        Provider::Other(other) => provider::register_other(builder, other, &target.options_of_other()),
    }
}
