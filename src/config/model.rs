//! Settings of a model.

mod device;
mod modes;
mod priority;
mod routing;
mod setting;
mod versions;

pub use modes::{Batching, InPlace};
pub use priority::{PriorityLimit, PriorityLimits};
pub use versions::Versions;

use std::{collections::BTreeMap, fmt::Display, time::Duration};
use toml::{Spanned, de::DeValue};

use super::{ByteSize, Device, Isolation, QueueTime, document::Document};
use crate::traffic::{Traffic, Weights};
use setting::SettingValue;

/// Declares settings: each with its documentation, type, default and, for numbers, the greatest that makes sense. The type,
/// the reader of `config.toml` and its documentation are made of the one declaration.
macro_rules! settings {
    (
        $(#[$outer:meta])*
        pub struct $name:ident {
            $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr $(, at most $most:expr)?;)+
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)+ }
            }
        }

        impl $name {
            /// Every key, in the order of the documentation.
            const KEYS: &[&str] = &[$(stringify!($key)),+];

            /// Sets a key that the file gives. False where there is no such key.
            fn set(&mut self, key: &str, value: Spanned<DeValue<'_>>, file: &mut Document<'_>) -> bool {
                match key {
                    $(stringify!($key) => {
                        #[allow(unused_mut, unused_assignments, reason = "not every key has a greatest value")]
                        let mut most = u64::MAX;
                        $(most = $most;)?
                        SettingValue::read(&mut self.$key, key, value, most, file);
                    })+
                    _ => return false,
                }
                true
            }

            /// A `config.toml` with every key at its default, each with its documentation.
            pub fn documented() -> String {
                let defaults = $name::default();
                let mut text = String::new();
                $(
                    for line in [$($doc),+] {
                        text.push('#');
                        text.push_str(line);
                        text.push('\n');
                    }
                    text.push_str(&defaults.$key.written(stringify!($key)));
                    text.push_str("\n\n");
                )+
                text.pop();
                text
            }
        }
    };
}

settings! {
    /// Settings of one model: `config.toml` in its folder. Every key is optional.
    pub struct ModelConfig {
        /// Requests are joined into batches under one of four rules. "auto": where axis 0 of every input is open and the graph proves that a row
        /// gets the same answer alone and in company; and, where a row has 64 KiB or more or takes more than a millisecond, a batch
        /// takes less time than its rows one by one. "probed": also where that is not proven (no operator is known to let rows
        /// influence each other), and some hundred made-up rows show no influence at load. "on": your word for it; requests are
        /// joined whatever the graph or a probe says, and a probe that sees an influence is a warning. "off": every request runs
        /// alone.
        batching: Batching = Batching::Auto;

        /// Rows that a batch holds at most. Larger requests are split and rejoined.
        max_batch_size: usize = 64, at most 1 << 24;

        /// Time for which a request may wait for others to join it while an instance is free, such as "2ms"; at most 1 day.
        /// While all instances run, requests gather anyway.
        max_queue_delay: Duration = Duration::ZERO;

        /// Requests that wait at most; one more is refused (RESOURCE_EXHAUSTED, 429).
        max_queue_size: usize = 1024, at most 1 << 32;

        /// Time that one run may take, such as "10s"; at most 1 day. A longer run is stopped, and its requests get
        /// DEADLINE_EXCEEDED (504). A run that can't be stopped takes the version out of service. A version whose runs take
        /// longer while it is loaded fails to load. "0s": for ever. Without it: what the server's --max-run-time says.
        max_run_time: Option<Duration> = None;
        /// Time for which a request may wait in the queue: "auto" (2s, or 20 runs of one request, or 4 of the longest runs of late,
        /// whichever is longest), "none", or a duration. A request is refused at once when its wait is predicted to be longer,
        /// and dropped when it has been (RESOURCE_EXHAUSTED, 429). Without it: what the server's --max-queue-time says.
        max_queue_time: Option<QueueTime> = None;

        /// Priority levels of the queue, of which 1 is served first; at most 64. A request gives its level by the parameter
        /// `priority` or the header (metadata over gRPC) `onnxd-priority`. Without it: one level, and what requests give is ignored.
        priority_levels: Option<usize> = None, at most priority::MAX_PRIORITY_LEVELS;

        /// The level of requests that give none, 0, or one that there is not. Without it: the lowest.
        default_priority: Option<usize> = None, at most priority::MAX_PRIORITY_LEVELS;

        /// Runs of each version at once, on each GPU where it runs on several: one session for each, but on a GPU, where they
        /// share one unless runs are recorded. Without it: 1, and 2 on a GPU.
        instances: Option<usize> = None, at most 1024;

        /// Threads that one run uses, at most one per CPU. Without it: 1 for models that answer one row within a millisecond,
        /// else every CPU.
        intra_op_threads: Option<usize> = None;

        /// Memory that one run may hold on the host, such as "512MiB": its tensors and its answer, not its inputs. A request whose run
        /// needs more is refused (RESOURCE_EXHAUSTED, 429); a batch is run in smaller parts first. Without it: what the server's
        /// --max-run-memory says.
        max_run_memory: Option<ByteSize> = None;

        /// Device that the model runs on: "auto" (NVIDIA GPUs where they work, else the CPU), "cpu", "cuda" (every GPU) or
        /// "cuda:0" (that one), "tensorrt" or "tensorrt:0"; and "openvino", "migraphx", "coreml" or "xnnpack", where the
        /// library of ONNX Runtime has it. Without it: what the server's --device says.
        device: Option<Device> = None;

        /// Records runs on an NVIDIA GPU once for each size of batch and then replays them (CUDA graphs), which saves the
        /// launch of every kernel. The model must run on the GPU as a whole. Without it: where a batch of another size than the
        /// last has to be prepared for long, as convolutions are.
        cuda_graphs: Option<bool> = None;

        /// Runs the model on the threads that read requests. "auto": where its inputs have one size and a full batch (of 64
        /// rows at most; a row where they are not joined) takes no more than 100 us, which is less than to hand it to another
        /// thread and back. "off": never.
        in_place: InPlace = InPlace::Auto;

        /// Runs the model in a worker process, so that a request that makes ONNX Runtime crash ends only that process.
        /// "process": always, for some tens of microseconds more a run. "none": never. "auto": where the graph shows that
        /// values of a request can end the process. On the CPU only. Without it: what the server's --isolation says.
        isolation: Option<Isolation> = None;

        /// Versions that are loaded: "all", the latest { latest = 2 }, or [1, 3]. A version that a weight or a name below
        /// names, or would name after a rollback or an abort, is loaded too. So is one that an admin call has loaded.
        versions: Versions = Versions::All;

        /// Headers (metadata over gRPC) that a request's routing key is taken from, where it has neither the parameter
        /// `routing_key` nor the header `onnxd-routing-key`: the first of them that the request has.
        routing_key_headers: Vec<String> = Vec::new();

        /// Limits of single priority levels, where they are not those of the model.
        priority: PriorityLimits = PriorityLimits::default();

        /// Options of the execution provider that `device` names, as ONNX Runtime has them: of CUDA such as gpu_mem_limit (bytes),
        /// use_tf32 or cudnn_conv_algo_search, of TensorRT such as trt_fp16_enable. "auto" takes those of CUDA.
        provider_options: BTreeMap<String, String> = BTreeMap::new();

        /// Names for versions, which requests may give in place of a version. Without weights, requests without a version go
        /// to the one that `stable` names; without that too, to the highest version that is ready.
        aliases: BTreeMap<String, u64> = BTreeMap::new();

        /// Weights that divide requests without a version over versions: any numbers, of which those count whose versions are
        /// ready. Versions that are not named get none. Requests with a routing key stay with their version.
        weights: Weights = Weights::default();
    }
}

impl ModelConfig {
    /// The settings that `text`, the contents of the `config.toml` of that name, holds.
    ///
    /// # Errors
    /// For people, one per problem: file, line, column, key, what was expected, what came.
    pub fn parse(name: &dyn Display, text: &str) -> Result<Self, Vec<String>> {
        let mut config = ModelConfig::default();
        let mut file = Document::parse(name, text, Self::KEYS);
        let entries = file.take_entries();
        let (places, levels) = (device::places(&entries), priority::places(&entries));
        for entry in entries {
            if !config.set(entry.key.get_ref(), entry.value, &mut file) {
                file.unknown(&entry.key, Self::KEYS);
            }
        }
        device::check(config.device, (&config.provider_options, config.cuda_graphs), &places, &mut file);
        priority::check(config.priority_levels, config.default_priority, &levels, &mut file);
        file.finish().map(|()| config)
    }

    /// The settings that a version is loaded with: all but those that say which versions are loaded and where requests go. Where
    /// they change, versions are reloaded.
    pub fn for_load(&self) -> ModelConfig {
        let (aliases, weights, routing_key_headers) = Default::default();
        ModelConfig { aliases, weights, routing_key_headers, versions: Versions::All, ..self.clone() }
    }

    /// Where requests go.
    pub fn traffic(&self) -> Traffic {
        Traffic { weights: self.weights.clone(), aliases: self.aliases.clone() }
    }
}

#[cfg(test)]
mod tests;
