//! Settings of a model.

mod device;
mod priority;
mod routing;
mod versions;

pub use priority::{PriorityLimit, PriorityLimits};
pub use versions::Versions;

use std::{collections::BTreeMap, fmt::Display, time::Duration};
use toml::{Spanned, de::DeValue};

use super::{
    Device, QueueTime,
    document::{self, Document},
};
use crate::traffic::{Traffic, Weights};

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
                        Setting::read(&mut self.$key, key, value, most, file);
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
        /// Whether requests are joined into batches. "auto": where the signature says that axis 0 is the batch (one symbolic
        /// dimension that all inputs and outputs share) and a probe at load shows that a row gets the same answer alone and in
        /// company; and, where a row has 64 KiB or more and runs in a millisecond, that a batch takes less time than its rows
        /// one by one. "on": axis 0 is the batch, whatever the dimensions are called, and requests are joined whatever that
        /// takes; only if rows influence each other they are not. "off": every request runs alone.
        batching: Batching = Batching::Auto;

        /// Rows that a batch holds at most. Larger requests are split and rejoined.
        max_batch_size: usize = 64, at most 1 << 24;

        /// How long a request may wait for others to join it while an instance is free, such as "2ms"; at most 1 day.
        /// While all instances run, requests gather anyway.
        max_queue_delay: Duration = Duration::ZERO;

        /// Requests that wait at most; one more is refused (RESOURCE_EXHAUSTED, 429).
        max_queue_size: usize = 1024, at most 1 << 32;

        /// How long a request may wait in the queue: "auto" (1s, or 20 runs of one request, or 4 of the longest runs of late,
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

        /// What it runs on: "auto" (NVIDIA GPUs where they work, else the CPU), "cpu", "cuda" (every GPU) or "cuda:0" (that one),
        /// "tensorrt" or "tensorrt:0"; and "openvino", "migraphx", "coreml" or "xnnpack", where the library of ONNX Runtime has it.
        /// Without it: what the server's --device says.
        device: Option<Device> = None;

        /// Whether runs on an NVIDIA GPU are recorded once for each size of batch and then replayed (CUDA graphs), which saves the
        /// launch of every kernel. The model must run on the GPU as a whole. Without it: where a batch of another size than the
        /// last has to be prepared for long, as convolutions are.
        cuda_graphs: Option<bool> = None;

        /// Whether the threads that read requests run the model themselves. "auto": where its inputs have one size and a full
        /// batch (of 64 rows at most; a row where they are not joined) takes no more than 100 us, which is less than to hand it to another thread and back.
        /// "off": never.
        in_place: InPlace = InPlace::Auto;

        /// Which versions are loaded: "all", the latest { latest = 2 }, or [1, 3]. One that a weight or a name below names, or
        /// would after a rollback, or that an admin call has loaded, is loaded too.
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

        /// How requests without a version are divided over versions: any numbers, of which those count whose versions are
        /// ready. Versions that are not named get none. Requests with a routing key stay with their version.
        weights: Weights = Weights::default();
    }
}

/// Whether a model's requests are joined into batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Batching {
    /// Where the signature says that axis 0 is the batch and a probe shows that rows don't influence each other.
    #[default]
    Auto,
    /// Axis 0 is the batch, whatever the dimensions are called. The probe still sees whether rows influence each other.
    On,
    /// Every request runs alone.
    Off,
}

/// Whether the threads that read requests run the model themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InPlace {
    /// Where it takes less time than to hand requests to another thread.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Longer makes no sense, and far longer is more than a clock can count.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

impl ModelConfig {
    /// The settings that `text`, the contents of the `config.toml` of that name, holds.
    ///
    /// # Errors
    /// For people, one per problem: file, line, column, key, what was expected, what came.
    pub fn parse(name: &dyn Display, text: &str) -> Result<Self, Vec<String>> {
        let mut config = ModelConfig::default();
        let mut file = Document::parse(name, text);
        let entries = file.take_entries();
        let (places, levels) = (device::places(&entries), priority::places(&entries));
        for entry in entries {
            if !config.set(entry.key.get_ref(), entry.value, &mut file) {
                file.unknown(&entry.key, Self::KEYS);
            }
        }
        device::check(&config, &places, &mut file);
        priority::check(&config, &levels, &mut file);
        file.finish().map(|()| config)
    }

    /// The settings that a version is loaded with: all but those that say which versions are loaded and where requests go. Where
    /// they change, versions are loaded anew.
    pub fn for_load(&self) -> ModelConfig {
        let (aliases, weights, routing_key_headers) = Default::default();
        ModelConfig { aliases, weights, routing_key_headers, versions: Versions::All, ..self.clone() }
    }

    /// Where requests go.
    pub fn traffic(&self) -> Traffic {
        Traffic { weights: self.weights.clone(), aliases: self.aliases.clone() }
    }
}

/// What can stand behind a key.
trait Setting {
    /// Takes the value that the file gives, or tells it what is wrong.
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>);

    /// The line of TOML that gives this value; an example in a comment where there is none.
    fn written(&self, key: &str) -> String;
}

fn wrong(what: &str, value: &Spanned<DeValue<'_>>, expected: &str, file: &mut Document<'_>) {
    let came = document::describe(value.get_ref());
    file.problem(value.span().start, format!("{what} must be {expected}, got {came}"));
}

impl Setting for usize {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>) {
        match document::integer(value.get_ref(), 1..=most) {
            Ok(number) => *self = usize::try_from(number).unwrap_or(usize::MAX),
            Err(expected) => wrong(key, &value, &expected, file),
        }
    }

    fn written(&self, key: &str) -> String {
        format!("{key} = {self}")
    }
}

impl Setting for Option<usize> {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, most: u64, file: &mut Document<'_>) {
        self.insert(1).read(key, value, most, file);
    }

    fn written(&self, key: &str) -> String {
        self.map_or_else(|| format!("# {key} = 1"), |number| number.written(key))
    }
}

impl Setting for Duration {
    fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
        match value.get_ref().as_str().map(humantime::parse_duration) {
            Some(Ok(duration)) if duration <= LONGEST_DELAY => *self = duration,
            Some(Ok(_)) => wrong(key, &value, "at most 1 day", file),
            Some(Err(_)) | None => wrong(key, &value, "a duration such as \"2ms\"", file),
        }
    }

    fn written(&self, key: &str) -> String {
        format!("{key} = \"{}\"", humantime::format_duration(*self))
    }
}

/// A setting that is one of a few words.
macro_rules! words {
    ($type:ident: $($word:literal => $variant:ident),+) => {
        impl Setting for $type {
            fn read(&mut self, key: &str, value: Spanned<DeValue<'_>>, _: u64, file: &mut Document<'_>) {
                let words = [$($word),+];
                match value.get_ref().as_str() {
                    $(Some($word) => *self = $type::$variant,)+
                    other => {
                        let near = other.and_then(|word| document::nearest(word, &words));
                        let meant = near.map(|near| format!(" (did you mean \"{near}\"?)")).unwrap_or_default();
                        wrong(key, &value, &format!("{}{meant}", one_of(&words)), file);
                    }
                }
            }

            fn written(&self, key: &str) -> String {
                let word = match self {
                    $($type::$variant => $word,)+
                };
                format!("{key} = \"{word}\"")
            }
        }
    };
}

words!(Batching: "auto" => Auto, "on" => On, "off" => Off);
words!(InPlace: "auto" => Auto, "off" => Off);

/// `"a", "b" or "c"`
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelConfig, Vec<String>> {
        ModelConfig::parse(&"m/config.toml", text)
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            batching = "off"
            max_batch_size = 8
            max_queue_delay = "2ms"
            max_queue_size = 9
            max_queue_time = "1s 500ms"
            priority_levels = 3
            default_priority = 2
            instances = 2
            intra_op_threads = 3
            in_place = "off"
            device = "cuda:1"
            cuda_graphs = true
            versions = { latest = 2 }
            routing_key_headers = ["X-User-Id", "x-session"]
            [priority.1]
            max_queue_time = "none"
            [priority.3]
            max_queue_size = 4
            max_queue_time = "50ms"
            [provider_options]
            gpu_mem_limit = 0x1000
            use_tf32 = false
            [aliases]
            stable = 2
            [weights]
            2 = 95
            3 = 4.5
            4 = 0
        "#;
        let expected = ModelConfig {
            aliases: BTreeMap::from([("stable".into(), 2)]),
            batching: Batching::Off,
            max_batch_size: 8,
            max_queue_delay: Duration::from_millis(2),
            max_queue_size: 9,
            max_queue_time: Some(QueueTime::AtMost(Duration::from_millis(1500))),
            priority_levels: Some(3),
            default_priority: Some(2),
            priority: PriorityLimits(BTreeMap::from([
                (1, PriorityLimit { max_queue_size: None, max_queue_time: Some(QueueTime::Unlimited) }),
                (3, PriorityLimit { max_queue_size: Some(4), max_queue_time: "50ms".parse().ok() }),
            ])),
            instances: Some(2),
            intra_op_threads: Some(3),
            in_place: InPlace::Off,
            device: Some(Device::Cuda(Some(1))),
            cuda_graphs: Some(true),
            provider_options: BTreeMap::from([
                ("gpu_mem_limit".into(), "4096".into()),
                ("use_tf32".into(), "false".into()),
            ]),
            versions: Versions::Latest(2),
            routing_key_headers: vec!["x-user-id".into(), "x-session".into()],
            weights: Weights::new([(2, 95.0), (3, 4.5), (4, 0.0)].into()).unwrap(),
        };
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(ModelConfig::default()));
        assert_eq!(parse("aliases = { stable = 0x2 }").unwrap().aliases["stable"], 2);
        assert_eq!(parse("aliases.stable = 2").unwrap().aliases["stable"], 2);
        assert_eq!(parse("weights = { 7 = 0x10 }").unwrap().weights.of(7), 16.0);
        assert_eq!(parse("[aliases]\ncanary = 3\n'v2.1-b' = 2").unwrap().traffic().aliases.len(), 2);
    }

    #[test]
    fn where_requests_go_does_not_touch_what_is_loaded() {
        let text = "instances = 3\nrouting_key_headers = [\"a\"]\naliases.stable = 2\nweights.2 = 1";
        assert_eq!(parse(text).unwrap().for_load(), parse("instances = 3").unwrap());
    }

    #[test]
    #[rustfmt::skip]
    fn problems_name_place_key_and_what_was_expected() {
        for (text, expected) in [
            ("max_batch_sise = 8", "1:1: unknown key 'max_batch_sise'; did you mean 'max_batch_size'? known keys: batching, max_batch_size,"),
            ("\n  colour = 8", "2:3: unknown key 'colour'; known keys: batching,"),
            ("[batching]\nmax_rows = 3", "1:1: batching must be \"auto\", \"on\" or \"off\", got a table"),
            ("[dynamic]\nx = 1", "1:2: unknown key 'dynamic'; known"),
            ("max_batch_size = 0", "1:18: max_batch_size must be an integer from 1 to 16777216, got 0"),
            ("max_batch_size = -1", "1:18: max_batch_size must be an integer from 1 to 16777216, got -1"),
            ("max_batch_size = 99999999999999999999999", "1:18: max_batch_size must be an integer from 1 to 16777216, got 9999"),
            ("max_batch_size = 8.5", "max_batch_size must be an integer from 1 to 16777216, got 8.5"),
            ("max_batch_size = \"8\"", "max_batch_size must be an integer from 1 to 16777216, got the string \"8\""),
            ("max_batch_size = [8]", "got an array"),
            ("max_batch_size = true", "got true"),
            ("max_batch_size = 1979-05-27", "got a date"),
            ("instances = 1000000000", "1:13: instances must be an integer from 1 to 1024, got 1000000000"),
            ("max_queue_delay = \"fast\"", "1:19: max_queue_delay must be a duration such as \"2ms\", got the string \"fast\""),
            ("max_queue_delay = 2", "1:19: max_queue_delay must be a duration such as \"2ms\", got 2"),
            ("max_queue_delay = \"400000000years\"", "max_queue_delay must be"),
            ("max_queue_delay = \"25h\"", "max_queue_delay must be at most 1 day, got the string \"25h\""),
            ("max_queue_time = \"soon\"", "1:18: max_queue_time must be \"auto\", \"none\" or a duration such as \"500ms\", got the string \"soon\""),
            ("max_queue_time = 5", "1:18: max_queue_time must be \"auto\", \"none\" or a duration such as \"500ms\", got 5"),
            ("priority_levels = 65", "1:19: priority_levels must be an integer from 1 to 64, got 65"),
            ("priority_levels = 2\ndefault_priority = 3", "2:20: default_priority is 3, and priority_levels = 2"),
            ("default_priority = 1", "1:20: default_priority is 1, and the file gives no priority_levels: write such as priority_levels = 2"),
            ("priority = 1", "1:12: priority must be a table such as { 2 = { max_queue_size = 100, max_queue_time = \"100ms\" } }, got 1"),
            ("priority_levels = 2\n[priority]\n3 = {}", "3:1: priority.3 is the limit of a level that there is not: priority_levels = 2"),
            ("priority_levels = 2\n[priority]\nhigh = {}", "3:1: a priority level is an integer from 1 to 64, got 'high'"),
            ("priority_levels = 2\n[priority]\n1 = 5", "3:5: priority.1 must be a table such as { max_queue_size = 100, max_queue_time = \"100ms\" }, got 5"),
            ("priority_levels = 2\n[priority.1]\nmax_queue_size = 0", "3:18: priority.1.max_queue_size must be an integer from 1 to 4294967296, got 0"),
            ("priority_levels = 2\n[priority.1]\nmax_queue_tame = \"1s\"", "3:1: unknown key 'max_queue_tame'; did you mean 'max_queue_time'?"),
            ("batching = \"atuo\"", "1:12: batching must be \"auto\", \"on\" or \"off\" (did you mean \"auto\"?), got the string \"atuo\""),
            ("batching = false", "batching must be \"auto\", \"on\" or \"off\", got false"),
            ("in_place = \"of\"", "1:12: in_place must be \"auto\" or \"off\" (did you mean \"off\"?), got the string \"of\""),
            ("aliases = 2", "1:11: aliases must be a table such as { stable = 2 }, got 2"),
            ("[aliases]\nstable = 0", "2:10: alias 'stable' must be a version, an integer of at least 1, got 0"),
            ("[aliases]\nstable = \"2\"", "2:10: alias 'stable' must be a version, an integer of at least 1, got the string \"2\""),
            ("[aliases]\nstable = 2\nmax_batch_size = 8", "3:18: 'max_batch_size' stands below [aliases]"),
            ("[aliases]\n2 = 2", "2:1: an alias is a letter and up to 63 letters, digits, '-', '_' and '.', got '2'"),
            ("weights = 2", "1:11: weights must be a table such as { 2 = 95, 3 = 5 }, got 2"),
            ("[weights]\n2 = -1", "2:5: the weight of version 2 must be a finite number of at least 0, got -1"),
            ("[weights]\n2 = nan", "2:5: the weight of version 2 must be a finite number of at least 0, got NaN"),
            ("[weights]\n2 = inf", "2:5: the weight of version 2 must be a finite number of at least 0, got inf"),
            ("[weights]\n2 = 1e999", "2:5: the weight of version 2 must be a finite number of at least 0, got "),
            ("[weights]\n2 = \"5\"", "2:5: the weight of version 2 must be a finite number of at least 0, got the string \"5\""),
            ("[weights]\n2 = 0\n3 = 0.0", "1:1: at least one weight must be greater than 0, got only zeros"),
            ("[weights]\n2 = 1e308\n3 = 1e308", "1:1: the weights must have a finite sum"),
            ("[weights]\n0 = 1", "2:1: a version is an integer of at least 1, got '0'"),
            ("[weights]\n02 = 1", "2:1: a version is an integer of at least 1, got '02'"),
            ("[weights]\nstable = 1", "2:1: a version is an integer of at least 1, got 'stable'"),
            ("[weights]\n99999999999999999999 = 1", "2:1: a version is an integer of at least 1, got '99999999999999999999'"),
            ("[weights]\n2 = 1\ninstances = 8", "3:13: 'instances' stands below [weights]"),
            ("routing_key_headers = \"x\"", "1:23: routing_key_headers must be an array of names of headers such as [\"x-user-id\"], got the string \"x\""),
            ("routing_key_headers = [\"a\", 2]", "1:29: a header of routing_key_headers must be a string, got 2"),
            ("routing_key_headers = [\"a b\"]", "1:24: a header of routing_key_headers must be of letters, digits and !#$%&'*+-.^_`|~, got the string \"a b\""),
            ("routing_key_headers = [\"\"]", "1:24: a header of routing_key_headers must be of letters"),
            ("device = \"cudda\"", "1:10: device must be one of \"auto\", \"cpu\", \"cuda\", \"tensorrt\", \"openvino\", \"migraphx\", \"rocm\", \"coreml\", \"xnnpack\", or a GPU by its number such as \"cuda:0\" or \"tensorrt:0\" (did you mean \"cuda\"?), got the string \"cudda\""),
            ("device = 1", "1:10: device must be a string such as \"cuda\", got 1"),
            ("cuda_graphs = 1", "1:15: cuda_graphs must be true or false, got 1"),
            ("cuda_graphs = true\ndevice = \"cpu\"", "1:15: cuda_graphs are of NVIDIA's GPUs, and device = \"cpu\" is none"),
            ("provider_options = 1", "1:20: provider_options must be a table such as { use_tf32 = false }, got 1"),
            ("device = \"cuda\"\n[provider_options]\nuse_tf32 = [1]", "3:12: provider_options.use_tf32 must be a string, a number, true or false, got an array"),
            ("device = \"cuda\"\n[provider_options]\nuse_tf23 = 1", "3:1: provider_options: unknown option 'use_tf23' of device \"cuda\"; did you mean 'use_tf32'? known: arena_extend_strategy,"),
            ("[provider_options]\nuse_tf32 = 1", "2:1: provider_options: 'use_tf32' is an option of one device, and the file names none: write such as device = \"cuda\""),
            ("device = \"cpu\"\nprovider_options.use_tf32 = 1", "2:18: provider_options: 'use_tf32' is given, and device = \"cpu\" takes no options"),
            ("device = \"cuda\"\n[provider_options]\ninstances = 1", "3:13: 'instances' stands below [provider_options]"),
            ("instances = 1\ninstances = 2", "2:1: not valid TOML: duplicate key"),
            ("instances = ", "1:13: not valid TOML: "),
            ("instances", "not valid TOML: "),
            ("\0", "1:1: not valid TOML: "),
        ] {
            let problems = parse(text).unwrap_err();
            assert!(problems[0].contains(expected), "{text}: {problems:?}");
            assert!(problems.iter().all(|problem| problem.starts_with("m/config.toml:") && !problem.contains('\n')), "{problems:?}");
        }
    }

    #[test]
    fn every_problem_is_told_in_the_order_of_the_file() {
        let problems = parse("instances = 0\nx = 1\nbatching = 1\n[aliases]\na = 0\nb = -1").unwrap_err();
        let lines: Vec<_> = problems.iter().map(|problem| problem.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["1", "2", "3", "5", "6"], "{problems:?}");
    }

    #[test]
    fn what_nests_without_end_is_refused() {
        for text in [format!("x = {}", "[".repeat(100_000)), format!("[{}a]", "a.".repeat(100_000))] {
            assert!(parse(&text).is_err());
        }
    }

    /// What is documented is the default, and every key is documented.
    #[test]
    fn the_documentation_is_a_configuration_that_changes_nothing() {
        let text = ModelConfig::documented();
        assert_eq!(parse(&text), Ok(ModelConfig::default()), "{text}");
        for key in ModelConfig::KEYS {
            let beginnings = [format!("\n{key} = "), format!("\n# {key} = "), format!("\n[{key}]")];
            assert!(beginnings.iter().any(|beginning| text.contains(beginning)), "{key} is not in\n{text}");
        }
    }
}
