//! Placement of a version: the device and threads of its first instance, and the probe's result.

use std::{num::NonZeroUsize, time::Duration};

use super::{
    batching_gain::asks_for_batches,
    context::Loader,
    gpu_room::room_on,
    graphs,
    probe::{Probe, probe, warm_up},
    request::LoadRequest,
    shape_change_cost::cost_of_changing,
};
use crate::{
    config::{Batching, ByteSize, Device, ModelConfig},
    engine::{Instance, Provider, Target},
    error::Failure,
    host::priority,
    ort_library::fetch,
};

/// Files of this size are loaded for all CPUs at once; smaller ones are first tried with one thread, which costs a second
/// load where that turns out too slow.
const SURELY_LARGE: u64 = 16 << 20;

/// A model that answers one row within this time, on one thread, gains nothing from more: the hand-over between them costs as
/// much as they save, and other models need the cores.
const FAST: Duration = Duration::from_millis(1);

/// An instance that is warm.
pub(in crate::loader) struct WarmInstance {
    pub instance: Instance,
    /// Where and how it runs; other instances run so on what else there is.
    pub target: Target,
    /// Why a run takes so many threads.
    pub threads_why: &'static str,
    pub probe: Probe,
    /// Where recorded runs are requested: `Ok` if there are some, or the reason why not.
    pub graphs: Option<Result<(), String>>,
}

/// The first instance, and where the version runs.
pub(in crate::loader) struct Placement {
    pub first: WarmInstance,
    /// All that the version is to run on; the first instance runs on the first of these.
    pub providers: Vec<Provider>,
    /// Why not on other GPUs too, each by its name.
    pub refused: Vec<String>,
    /// Why that is the CPU though a GPU works.
    pub fallback: Option<String>,
}

impl Loader {
    /// The device that a version is configured for.
    pub(in crate::loader) fn device(&self, config: &ModelConfig) -> Device {
        config.device.unwrap_or(self.device)
    }

    /// Loads the first instance on what it is asked to run on. Where nothing is asked for, on the first GPU that can run it, or on
    /// the CPU.
    pub(in crate::loader) fn first(&self, request: &LoadRequest) -> Result<Placement, Failure> {
        let device = self.device(&request.config);
        let devices = self.devices.clone();
        // To try a GPU may start threads of CUDA's.
        let providers = priority::starting_threads(move || devices.choose(device)).map_err(Failure::lasting)?;
        let mut refused = Vec::new();
        for (index, provider) in providers.iter().enumerate() {
            let failure = match self.first_that_runs(request, *provider) {
                Ok(first) => {
                    let providers = providers[index..].to_vec();
                    return Ok(Placement { first, providers, refused, fallback: None });
                }
                Err(failure) if *provider == Provider::Cpu => return Err(failure),
                Err(failure) => failure,
            };
            let why = format!("{provider} can't run it: {}", failure.why.trim_end());
            if device != Device::Auto {
                return Err(Failure { why, ..failure });
            }
            refused.push(why);
            // Another GPU may have the memory that this one lacks, but not what they all lack.
            if !failure.may_pass {
                break;
            }
        }
        // A model that fails on the CPU too is itself at fault, and the CPU's message is plainer.
        let first = self.first_on(request, Provider::Cpu)?;
        let fallback = Some(refused.join("; "));
        Ok(Placement { first, providers: vec![Provider::Cpu], refused: Vec::new(), fallback })
    }

    fn first_that_runs(&self, request: &LoadRequest, provider: Provider) -> Result<WarmInstance, Failure> {
        let first = self.first_on(request, provider)?;
        match &first.probe.refused {
            Some(words) if provider.gpu().is_some() && first.probe.is_refused_by_device => {
                Err(Failure::passing(words.trim()))
            }
            // A run that fails with made-up inputs is no failure of the load.
            Some(_) | None => Ok(first),
        }
    }

    fn first_on(&self, request: &LoadRequest, provider: Provider) -> Result<WarmInstance, Failure> {
        room_on(provider, request.memory())?;
        let target = self.target(&request.config, provider);
        let mut refused = None;
        if request.config.cuda_graphs == Some(true) {
            match self.first_recorded(request, &target) {
                Ok(first) => return Ok(first),
                Err(why) => refused = Some(why),
            }
        }
        let target = Target { graphs: false, ..target };
        let mut first = self.first_unrecorded(request, target.clone())?;
        first.graphs = refused.map(Err);
        let is_batched = matches!(provider, Provider::Cuda { .. }) && first.probe.batching().is_ok();
        match is_batched.then(|| cost_of_changing(&mut first.instance, &first.probe)).flatten() {
            Some(cost) => self.first_of_few_sizes(request, target, first, cost),
            None => Ok(first),
        }
    }

    /// One that replays recorded runs, which were prepared when they were recorded, in the place of one to which another size of
    /// batch costs so much; where there can't be one, one whose requests are not joined.
    fn first_of_few_sizes(
        &self,
        request: &LoadRequest,
        target: Target,
        mut first: WarmInstance,
        cost: Duration,
    ) -> Result<WarmInstance, Failure> {
        let mut refused = first.graphs.clone().and_then(Result::err);
        if request.config.cuda_graphs.is_none() {
            // Its memory is needed.
            drop(first);
            match self.first_recorded(request, &Target { graphs: true, ..target.clone() }) {
                Ok(recorded) => return Ok(recorded),
                Err(why) => refused = Some(why),
            }
            first = self.first_unrecorded(request, target)?;
        }
        let why = refused.map_or_else(
            || "config.toml says cuda_graphs = false".to_owned(),
            |why| format!("runs can't be recorded: {why}"),
        );
        if !asks_for_batches(&request.config) {
            let cost = cost.as_secs_f64() * 1e3;
            first.probe.batching_gain = Err(format!("another number of rows takes {cost:.1} ms to prepare, and {why}"));
        }
        Ok(first)
    }

    fn first_unrecorded(&self, request: &LoadRequest, mut target: Target) -> Result<WarmInstance, Failure> {
        let mut first = self.first_instance(request, &target)?;
        // Requests of such a model are not split: TensorRT is not to build for so many rows and no more.
        if matches!(target.provider, Provider::TensorRt { .. })
            && target.splits
            && first.probe.rows_independent.is_err()
        {
            target.splits = false;
            first = self.first_instance(request, &target)?;
        }
        Ok(first)
    }

    /// One that replays recorded runs.
    ///
    /// # Errors
    /// For people: why it can't.
    fn first_recorded(&self, request: &LoadRequest, target: &Target) -> Result<WarmInstance, String> {
        if !target.captures_graphs() {
            return Err(format!("it runs on {}, and only runs by CUDA are recorded", target.provider));
        }
        let mut first = self.first_instance(request, target).map_err(|failure| failure.why)?;
        graphs::record(&mut first.instance, &first.probe, request.config.max_batch_size)?;
        Ok(WarmInstance { graphs: Some(Ok(())), ..first })
    }

    /// Where and how a version runs by a provider, with one thread.
    fn target(&self, config: &ModelConfig, provider: Provider) -> Target {
        let max_run_memory = config.max_run_memory.map(|ByteSize(bytes)| bytes);
        let cpu = Target { max_run_memory, ..Target::cpu(NonZeroUsize::MIN) };
        if provider == Provider::Cpu {
            return cpu;
        }
        Target {
            provider,
            options: config.provider_options.clone(),
            graphs: config.cuda_graphs == Some(true),
            max_batch_size: config.max_batch_size,
            splits: config.batching != Batching::Off,
            cache: fetch::cache_directory(),
            ..cpu
        }
    }

    /// An instance with the number of threads that suits the model, and why it is that.
    fn first_instance(&self, request: &LoadRequest, target: &Target) -> Result<WarmInstance, Failure> {
        let (config, source) = (&request.config, &request.source);
        let all = NonZeroUsize::new(self.cpus()).unwrap_or(NonZeroUsize::MIN);
        // More than there are CPUs would only take turns on them, and some numbers take memory without end.
        let configured = config.intra_op_threads.and_then(NonZeroUsize::new).map(|threads| threads.min(all));
        let on_a_gpu = target.provider.gpu().is_some();
        let large = source.fingerprint.size() >= SURELY_LARGE && !on_a_gpu;
        let threads = configured.unwrap_or(if large { all } else { NonZeroUsize::MIN });
        let mut target = Target { threads, ..target.clone() };
        let mut instance = self.instance(request, &target)?;
        let mut probe = probe(&mut instance, config);
        self.outlive_probe(&mut instance, &mut probe, config)?;
        let threads_why = match (configured, probe.row) {
            (Some(_), _) => "as config.toml says, one for each CPU at most",
            (None, _) if on_a_gpu => "the GPU does the work",
            _ if large => "one for each CPU, as its files are large",
            (None, None) => "no row could be timed",
            (None, Some(row)) if row <= FAST => "a row takes no longer than 1 ms on one",
            (None, Some(_)) if threads == all => "there is one CPU",
            (None, Some(_)) => {
                target.threads = all;
                instance = self.instance(request, &target)?;
                probe.took += warm_up(&mut instance);
                "one for each CPU, as a row takes longer than 1 ms on one"
            }
        };
        Ok(WarmInstance { instance, target, threads_why, probe, graphs: None })
    }
}
