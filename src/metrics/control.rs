//! What the registry tells of versions: their states, weights and loads.

use std::collections::BTreeMap;

use super::text::{Family, Text, labels, version_labels};

/// What is told of all models at a moment.
#[derive(Debug, Clone, Default)]
pub struct ControlMetrics {
    /// The desired state's revision.
    pub revision: u64,
    /// When it came to that, in seconds since the Unix epoch, if it is known.
    pub changed: Option<f64>,
    /// The models.
    pub models: Vec<ModelStanding>,
    /// Instances of the versions that answer, by what they run on.
    pub instances: BTreeMap<String, u64>,
    /// Of those versions the ones that run on the CPU though a GPU works.
    pub fallbacks: u64,
}

/// What is told of a model.
#[derive(Debug, Clone, Default)]
pub struct ModelStanding {
    /// Its name.
    pub model: String,
    /// When an admin call last changed where its requests go, in seconds since the Unix epoch.
    pub traffic_changed: Option<f64>,
    /// Versions that answer.
    pub ready: u64,
    /// Its versions.
    pub versions: Vec<VersionStanding>,
}

/// What is told of a version.
#[derive(Debug, Clone, Default)]
pub struct VersionStanding {
    /// Its number.
    pub version: u64,
    /// Where it is in its life; `None`: it is not there, and only a weight names it.
    pub state: Option<&'static str>,
    /// Its aliases.
    pub aliases: Vec<String>,
    /// Which loading answers.
    pub generation: Option<u64>,
    /// Its weight, where the model has weights.
    pub weight: Option<f64>,
    /// The part of the requests without a version that it gets.
    pub share: f64,
    /// Bytes that it takes, where it is loaded.
    pub memory: Option<u64>,
    /// Whether its last load went well, where one has ended.
    pub last_load: Option<bool>,
    /// What is counted of its loads.
    pub loads: LoadCounts,
}

/// What is counted of a version's loads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LoadCounts {
    /// Those that went well.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that replaced a generation that served.
    pub swaps: u64,
    /// Seconds that the last good one took, without its warm-up, and with it.
    pub seconds: Option<(f64, f64)>,
}

const DEVICES: &[Family<u64>] = &[Family::gauge(
    "onnxd_device_instances",
    "Instances of versions that answer, by what they run on.",
    |series, instances| series.value(*instances),
)];

const MODELS: &[Family<ModelStanding>] = &[
    Family::gauge("onnxd_model_ready_versions", "Versions of the model that answer.", |series, model| {
        series.value(model.ready);
    }),
    Family::gauge(
        "onnxd_traffic_change_timestamp_seconds",
        "When an admin call last changed where the model's requests go, since the Unix epoch; not there where none has.",
        |series, model| series.optional(model.traffic_changed),
    ),
];

const VERSIONS: &[Family<VersionStanding>] = &[
    Family::gauge("onnxd_version_state", "1 for the state that the version is in.", |series, version| {
        version.state.iter().for_each(|state| series.labelled("state", state, true));
    }),
    Family::gauge("onnxd_version_alias", "1 for each alias of the version.", |series, version| {
        version.aliases.iter().for_each(|alias| series.labelled("alias", alias, true));
    }),
    Family::gauge("onnxd_version_generation", "Which loading of files answers, where one does.", |series, version| {
        series.optional(version.generation)
    }),
    Family::counter("onnxd_version_loads_total", "Loads that ended, by outcome.", |series, version| {
        if version.state.is_some() {
            series.labelled("outcome", "ok", version.loads.succeeded);
            series.labelled("outcome", "failed", version.loads.failed);
        }
    }),
    Family::gauge(
        "onnxd_version_last_load_successful",
        "Whether the last load of the version went well (1) or failed (0).",
        |series, version| series.optional(version.last_load),
    ),
    Family::counter("onnxd_version_swaps_total", "Loads that replaced a generation that served.", |series, version| {
        series.optional(version.state.map(|_| version.loads.swaps))
    }),
    Family::gauge(
        "onnxd_version_load_seconds",
        "Time that the last good load took, without its warm-up.",
        |series, version| series.optional(version.loads.seconds.map(|(load, _)| load)),
    ),
    Family::gauge(
        "onnxd_version_warm_up_seconds",
        "Time that the last good load's warm-up took: probes, test cases, first runs.",
        |series, version| series.optional(version.loads.seconds.map(|(_, warm_up)| warm_up)),
    ),
    Family::gauge(
        "onnxd_version_memory_bytes",
        "Memory of the version's weights on the host, for each of its sessions: as they were read, or as they were counted where that is more.",
        |series, version| series.optional(version.memory),
    ),
    Family::gauge("onnxd_traffic_weight", "Weight of the version, where its model has weights.", |series, version| {
        series.optional(version.weight)
    }),
    Family::gauge(
        "onnxd_traffic_share_ratio",
        "Part of the requests without a version that the version gets, from 0 to 1.",
        |series, version| series.value(version.share),
    ),
];

/// Writes all that is told.
pub(super) fn write(text: &mut Text<'_>, control: &ControlMetrics) {
    let devices: Vec<_> =
        control.instances.iter().map(|(device, count)| (labels([("device", &**device)]), count)).collect();
    text.write(DEVICES, &devices);
    let models: Vec<_> = control.models.iter().map(|model| (labels([("model", &*model.model)]), model)).collect();
    text.write(MODELS, &models);
    let versions = control.models.iter().flat_map(|model| {
        let labels = |version: &VersionStanding| version_labels(&model.model, version.version);
        model.versions.iter().map(move |version| (labels(version), version))
    });
    text.write(VERSIONS, &versions.collect::<Vec<_>>());
}
