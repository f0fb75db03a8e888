//! Figures from the registry: states, weights and loads of versions.

use std::collections::BTreeMap;

use super::text::{Family, Text, labels, version_labels};

/// Figures of all models at one moment.
#[derive(Debug, Clone, Default)]
pub struct ControlMetrics {
    /// The desired state's revision.
    pub revision: u64,
    /// Time at which the state came to that revision, in seconds since the Unix epoch, if it is known.
    pub changed: Option<f64>,
    /// The models.
    pub models: Vec<ModelStanding>,
    /// Instances of the versions that answer, by device.
    pub instances: BTreeMap<String, u64>,
    /// Number of those versions that run on the CPU although a GPU works.
    pub fallbacks: u64,
}

/// Figures of a model.
#[derive(Debug, Clone, Default)]
pub struct ModelStanding {
    /// Its name.
    pub model: String,
    /// Time at which an admin call last changed the model's traffic, in seconds since the Unix epoch.
    pub traffic_changed: Option<f64>,
    /// Versions that answer.
    pub ready: u64,
    /// Its versions.
    pub versions: Vec<VersionStanding>,
}

/// Figures of a version.
#[derive(Debug, Clone, Default)]
pub struct VersionStanding {
    /// Its number.
    pub version: u64,
    /// State in its lifecycle; `None`: the version does not exist, and only a weight names it.
    pub state: Option<&'static str>,
    /// Its aliases.
    pub aliases: Vec<String>,
    /// Generation of the load that answers.
    pub generation: Option<u64>,
    /// Its weight, where the model has weights.
    pub weight: Option<f64>,
    /// Its share of the requests without a version.
    pub share: f64,
    /// Bytes that it takes, if it is loaded.
    pub memory: Option<u64>,
    /// True if its last load succeeded; `None` if none has ended.
    pub last_load: Option<bool>,
    /// Counters of its loads.
    pub loads: LoadCounts,
}

/// Counters of a version's loads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LoadCounts {
    /// Loads that succeeded.
    pub succeeded: u64,
    /// Loads that failed.
    pub failed: u64,
    /// Loads that replaced a generation that served.
    pub swaps: u64,
    /// Seconds that the last successful load took, without its warm-up, and with it.
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

/// Writes all series of the registry.
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
