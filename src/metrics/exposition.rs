//! The text that Prometheus scrapes.

use metrics::{Counter, Key, Label};
use metrics_exporter_prometheus::{
    LabelSet, PrometheusBuilder, PrometheusHandle,
    formatting::{write_help_line, write_metric_line, write_type_line},
};
use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering::Relaxed},
};

use super::{
    ControlMetrics, Histogram,
    access_log::AccessLogMetrics,
    transport::TransportMetrics,
    version::{Counts, Phase, VersionMetrics},
};
use crate::{error::Code, traffic::Reason};

/// Everything that is exported: what versions own, and what belongs to the process.
#[derive(Debug)]
pub struct Exposition {
    versions: Mutex<BTreeMap<(String, u64), Weak<VersionMetrics>>>,
    control: Mutex<ControlMetrics>,
    process: PrometheusHandle,
}

/// What is counted for the process as a whole.
#[derive(Clone)]
pub struct ProcessMetrics {
    /// Of connections.
    pub transport: TransportMetrics,
    /// Of the access log.
    pub access_log: AccessLogMetrics,
    unrouted: [Counter; Code::OF_INFERENCES.len()],
}

impl ProcessMetrics {
    /// A request ended before it reached a version: it could not be decoded, or names no model that there is.
    pub fn unrouted(&self, code: Code) {
        self.unrouted[code as usize].increment(1);
    }
}

impl Exposition {
    /// The exposition of this process. `build` is told as labels of `onnxd_build_info`. To be called once.
    pub fn new(build: &[(&'static str, String)]) -> (Self, ProcessMetrics) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let process = recorder.handle();
        let (transport, access_log, unrouted, started) = metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!(
                "onnxd_unrouted_requests_total",
                "Inference requests that ended before they reached a version, by code."
            );
            metrics::describe_gauge!(
                "onnxd_build_info",
                "The server's version and what ONNX Runtime says of its build, as labels; always 1."
            );
            metrics::describe_gauge!("process_start_time_seconds", "Start time of the process since the Unix epoch.");
            let labels: Vec<Label> = build.iter().map(|(key, value)| Label::new(*key, value.clone())).collect();
            metrics::gauge!("onnxd_build_info", labels).set(1.0);
            let unrouted = Code::OF_INFERENCES
                .map(|code| metrics::counter!("onnxd_unrouted_requests_total", "code" => code.label()));
            (TransportMetrics::new(), AccessLogMetrics::new(), unrouted, metrics::gauge!("process_start_time_seconds"))
        });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        started.set(now.as_secs_f64());
        (
            Exposition { versions: Mutex::default(), control: Mutex::default(), process },
            ProcessMetrics { transport, access_log, unrouted },
        )
    }

    /// The metrics of a version: those that live, so that a version loaded anew goes on counting where it was, else new ones.
    pub fn version(&self, model: &str, version: u64) -> Arc<VersionMetrics> {
        let mut versions = self.versions();
        let slot = versions.entry((model.into(), version)).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let metrics = Arc::new(VersionMetrics::new(model, version));
            *slot = Arc::downgrade(&metrics);
            metrics
        })
    }

    /// What is told of states, weights and loads from now on.
    pub fn set_control(&self, control: ControlMetrics) {
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = control;
    }

    /// The text, in Prometheus' exposition format 0.0.4.
    pub fn render(&self) -> String {
        let live: Vec<_> = {
            let mut versions = self.versions();
            versions.retain(|_, metrics| metrics.strong_count() > 0);
            versions.values().filter_map(Weak::upgrade).collect()
        };
        let mut text = self.process.render();
        let labelled: Vec<_> = live.iter().map(|metrics| (metrics.total(), Labels::new(metrics))).collect();
        for family in FAMILIES {
            write_help_line(&mut text, family.name, None, None, family.help);
            write_type_line(&mut text, family.name, None, None, family.kind);
            for (counts, labels) in &labelled {
                (family.write)(&mut Series { text: &mut text, name: family.name, labels }, counts);
            }
            text.push('\n');
        }
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).clone();
        control.write(&mut text);
        text
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Weak<VersionMetrics>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A metric with one name: what it is, and how a version's series of it are written.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    write: fn(&mut Series<'_>, &Counts),
}

const FAMILIES: &[Family] = &[
    Family {
        name: "onnxd_requests_total",
        kind: "counter",
        help: "Inference requests that ended, by code.",
        write: |series, version| {
            series.value(&[("code", "ok")], version.succeeded.load(Relaxed));
            for code in Code::OF_INFERENCES {
                series.value(&[("code", code.label())], version.failed[code as usize].load(Relaxed));
            }
        },
    },
    Family {
        name: "onnxd_routed_requests_total",
        kind: "counter",
        help: "Inference requests that came to the version, by the reason why.",
        write: |series, version| {
            for reason in Reason::ALL {
                series.value(&[("reason", reason.label())], version.routed[reason as usize].load(Relaxed));
            }
        },
    },
    Family {
        name: "onnxd_pending_requests",
        kind: "gauge",
        help: "Inference requests that wait or run.",
        write: |series, version| series.value(&[], version.pending.load(Relaxed)),
    },
    Family {
        name: "onnxd_rows_total",
        kind: "counter",
        help: "Rows that ONNX Runtime was given.",
        write: |series, version| series.value(&[], version.rows.load(Relaxed)),
    },
    Family {
        name: "onnxd_request_duration_seconds",
        kind: "histogram",
        help: "Time from a decoded request to its answer, of those that succeeded.",
        write: |series, version| series.seconds(&version.request_duration),
    },
    Family {
        name: "onnxd_queue_duration_seconds",
        kind: "histogram",
        help: "Time that requests waited for an instance.",
        write: |series, version| series.seconds(&version.phases[Phase::Queue as usize].duration),
    },
    Family {
        name: "onnxd_input_duration_seconds",
        kind: "histogram",
        help: "Time to stack the rows of a batch.",
        write: |series, version| series.seconds(&version.phases[Phase::Input as usize].duration),
    },
    Family {
        name: "onnxd_run_duration_seconds",
        kind: "histogram",
        help: "Time of a batch in ONNX Runtime.",
        write: |series, version| series.seconds(&version.phases[Phase::Run as usize].duration),
    },
    Family {
        name: "onnxd_output_duration_seconds",
        kind: "histogram",
        help: "Time to cut a batch's outputs into answers.",
        write: |series, version| series.seconds(&version.phases[Phase::Output as usize].duration),
    },
    Family {
        name: "onnxd_batch_rows",
        kind: "histogram",
        help: "Rows of each batch that ran; its count is the number of batches.",
        write: |series, version| series.histogram(&version.batch_rows, 1.0),
    },
    Family {
        name: "onnxd_load_duration_seconds",
        kind: "gauge",
        help: "Time that the last load of the version took, checks and warm-up included.",
        write: |series, version| series.value(&[], seconds(version.load_nanoseconds.load(Relaxed))),
    },
    Family {
        name: "nv_inference_request_success",
        kind: "counter",
        help: "Triton's name: requests that succeeded.",
        write: |series, version| series.value(&[], version.succeeded.load(Relaxed)),
    },
    Family {
        name: "nv_inference_request_failure",
        kind: "counter",
        help: "Triton's name: requests that failed, by Triton's reasons.",
        write: |series, version| {
            for reason in ["REJECTED", "CANCELED", "BACKEND", "OTHER"] {
                let codes = Code::OF_INFERENCES.into_iter().filter(|code| triton_reason(*code) == reason);
                let count: u64 = codes.map(|code| version.failed[code as usize].load(Relaxed)).sum();
                series.value(&[("reason", reason)], count);
            }
        },
    },
    Family {
        name: "nv_inference_count",
        kind: "counter",
        help: "Triton's name: rows that ran.",
        write: |series, version| series.value(&[], version.rows.load(Relaxed)),
    },
    Family {
        name: "nv_inference_exec_count",
        kind: "counter",
        help: "Triton's name: batches that ran.",
        write: |series, version| series.value(&[], count(&version.batch_rows)),
    },
    Family {
        name: "nv_inference_request_duration_us",
        kind: "counter",
        help: "Triton's name: microseconds of requests from arrival to answer.",
        write: |series, version| series.value(&[], version.request_duration.sum() / 1000),
    },
    Family {
        name: "nv_inference_queue_duration_us",
        kind: "counter",
        help: "Triton's name: microseconds of requests in the queue.",
        write: |series, version| series.microseconds(version, Phase::Queue),
    },
    Family {
        name: "nv_inference_compute_input_duration_us",
        kind: "counter",
        help: "Triton's name: microseconds of requests while their batch was stacked.",
        write: |series, version| series.microseconds(version, Phase::Input),
    },
    Family {
        name: "nv_inference_compute_infer_duration_us",
        kind: "counter",
        help: "Triton's name: microseconds of requests while their batch ran.",
        write: |series, version| series.microseconds(version, Phase::Run),
    },
    Family {
        name: "nv_inference_compute_output_duration_us",
        kind: "counter",
        help: "Triton's name: microseconds of requests while their batch's outputs were cut.",
        write: |series, version| series.microseconds(version, Phase::Output),
    },
    Family {
        name: "nv_inference_pending_request_count",
        kind: "gauge",
        help: "Triton's name: requests that wait or run.",
        write: |series, version| series.value(&[], version.pending.load(Relaxed)),
    },
    Family {
        name: "nv_model_load_duration_secs",
        kind: "gauge",
        help: "Triton's name: seconds that the last load took.",
        write: |series, version| series.value(&[], seconds(version.load_nanoseconds.load(Relaxed))),
    },
];

/// Triton's `reason` of a failure.
fn triton_reason(code: Code) -> &'static str {
    match code {
        Code::ResourceExhausted | Code::DeadlineExceeded => "REJECTED",
        Code::Cancelled => "CANCELED",
        Code::Internal => "BACKEND",
        Code::InvalidArgument
        | Code::NotFound
        | Code::Unimplemented
        | Code::Unavailable
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unauthenticated => "OTHER",
    }
}

/// Writes the series of one version in one family.
struct Series<'a> {
    text: &'a mut String,
    name: &'static str,
    labels: &'a Labels,
}

impl Series<'_> {
    fn line(&mut self, suffix: Option<&'static str>, extra: Option<(&'static str, &str)>, value: impl Display) {
        write_metric_line(self.text, self.name, suffix, &self.labels.0, extra, value, None);
    }

    fn value(&mut self, extra: &[(&'static str, &str)], value: impl Display) {
        self.line(None, extra.first().copied(), value);
    }

    fn microseconds(&mut self, version: &Counts, phase: Phase) {
        self.value(&[], version.phases[phase as usize].request_nanoseconds.load(Relaxed) / 1000);
    }

    /// A histogram that holds nanoseconds.
    fn seconds(&mut self, histogram: &Histogram) {
        self.histogram(histogram, 1e9);
    }

    /// A histogram whose values are told divided by `unit`.
    fn histogram(&mut self, histogram: &Histogram, unit: f64) {
        // The count is that of the last bucket: they must agree while others record.
        let mut count = 0;
        for (bound, cumulative) in histogram.cumulative() {
            let bound = bound.map_or("+Inf".into(), |bound| (bound as f64 / unit).to_string());
            self.line(Some("bucket"), Some(("le", &bound)), cumulative);
            count = cumulative;
        }
        self.line(Some("sum"), None, histogram.sum() as f64 / unit);
        self.line(Some("count"), None, count);
    }
}

/// Writes the lines of a version in a metric, under its labels.
pub(super) struct LabelledLines<'a> {
    text: &'a mut String,
    name: &'static str,
    labels: Labels,
}

impl<'a> LabelledLines<'a> {
    pub(super) fn begin(text: &mut String, name: &'static str, kind: &'static str, help: &'static str) {
        write_help_line(text, name, None, None, help);
        write_type_line(text, name, None, None, kind);
    }

    pub(super) fn unlabelled(text: &mut String, name: &'static str, value: impl Display) {
        let labels = LabelSet::from_key_and_global(&Key::from_parts("", Vec::new()), &Default::default());
        write_metric_line::<&str, _>(text, name, None, &labels, None, value, None);
        text.push('\n');
    }

    pub(super) fn of(text: &'a mut String, name: &'static str, model: &str, version: u64) -> Self {
        LabelledLines { text, name, labels: Labels::of(model, version) }
    }

    pub(super) fn value(&mut self, extra: Option<(&'static str, &str)>, value: impl Display) {
        write_metric_line(self.text, self.name, None, &self.labels.0, extra, value, None);
    }

    pub(super) fn optional(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.value(None, value);
        }
    }
}

/// The labels of a version's series.
struct Labels(LabelSet);

impl Labels {
    fn new(metrics: &VersionMetrics) -> Self {
        Labels::of(&metrics.model, metrics.version)
    }

    fn of(model: &str, version: u64) -> Self {
        let labels = vec![Label::new("model", model.to_owned()), Label::new("version", version.to_string())];
        Labels(LabelSet::from_key_and_global(&Key::from_parts("", labels), &Default::default()))
    }
}

/// Number of values in a histogram.
fn count(histogram: &Histogram) -> u64 {
    histogram.cumulative().last().map_or(0, |(_, count)| count)
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
