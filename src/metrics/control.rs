//! What the registry tells of versions: their states, weights and loads.

use super::exposition::LabelledLines;

/// What is told of all versions at a moment.
#[derive(Debug, Clone, Default)]
pub struct ControlMetrics {
    /// The desired state's revision.
    pub revision: u64,
    /// The versions.
    pub versions: Vec<VersionStanding>,
}

/// What is told of a version.
#[derive(Debug, Clone, Default)]
pub struct VersionStanding {
    /// Its model.
    pub model: String,
    /// Its number.
    pub version: u64,
    /// Where it is in its life; `None`: it is not there, and only a weight names it.
    pub state: Option<&'static str>,
    /// Which loading answers.
    pub generation: Option<u64>,
    /// Its weight, where the model has weights.
    pub weight: Option<f64>,
    /// The part of the requests without a version that it gets.
    pub share: f64,
    /// Bytes that it takes, where it is loaded.
    pub memory: Option<u64>,
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

/// Writes a version's lines of one metric.
type Write = fn(&VersionStanding, &mut LabelledLines<'_>);

/// Name, type, help, and the lines of a version.
const FAMILIES: &[(&str, &str, &str, Write)] = &[
    ("onnxd_traffic_weight", "gauge", "Weight of the version, where its model has weights.", |version, lines| {
        lines.optional(version.weight);
    }),
    (
        "onnxd_traffic_share_ratio",
        "gauge",
        "Part of the requests without a version that the version gets, from 0 to 1.",
        |version, lines| lines.value(None, version.share),
    ),
    ("onnxd_version_state", "gauge", "1 for the state that the version is in.", |version, lines| {
        if let Some(state) = version.state {
            lines.value(Some(("state", state)), 1);
        }
    }),
    ("onnxd_version_generation", "gauge", "Which loading of files answers.", |version, lines| {
        lines.optional(version.generation);
    }),
    ("onnxd_version_loads_total", "counter", "Loads that ended, by outcome.", |version, lines| {
        lines.value(Some(("outcome", "ok")), version.loads.succeeded);
        lines.value(Some(("outcome", "failed")), version.loads.failed);
    }),
    ("onnxd_version_load_seconds", "gauge", "Time that the last load took, without its warm-up.", |version, lines| {
        lines.optional(version.loads.seconds.map(|(load, _)| load))
    }),
    (
        "onnxd_version_warm_up_seconds",
        "gauge",
        "Time that the last load's warm-up took: probes, test cases, first runs.",
        |version, lines| lines.optional(version.loads.seconds.map(|(_, warm_up)| warm_up)),
    ),
    ("onnxd_version_swaps_total", "counter", "Loads that replaced a generation that served.", |version, lines| {
        lines.value(None, version.loads.swaps)
    }),
    (
        "onnxd_version_memory_bytes",
        "gauge",
        "Memory of the version, estimated: the size of its files for each of its sessions.",
        |version, lines| lines.optional(version.memory),
    ),
];

impl ControlMetrics {
    /// Writes all that is told.
    pub(super) fn write(&self, text: &mut String) {
        let name = "onnxd_desired_state_revision";
        LabelledLines::begin(text, name, "gauge", "Changes that admin calls have made, counted.");
        LabelledLines::unlabelled(text, name, self.revision);
        for (name, kind, help, write) in FAMILIES {
            LabelledLines::begin(text, name, kind, help);
            for version in &self.versions {
                write(version, &mut LabelledLines::of(text, name, &version.model, version.version));
            }
            text.push('\n');
        }
    }
}
