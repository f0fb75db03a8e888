//! Metrics of the server as a whole: counters, and gauges that are sampled at each scrape.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    ControlMetrics,
    access_log::{AccessLogMetrics, Unlogged},
    codec::{CodecMetrics, CodecOutcome},
    gpu::Gpu,
    histogram::{DURATIONS, Histogram},
    text::{Family, Number, Series},
    transport::{Closed, ExceededLimit, TransportMetrics},
    version::nanoseconds,
};
use crate::error::Code;

/// Counters of the server as a whole. Clones share them.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    /// Counters of connections.
    pub transport: TransportMetrics,
    /// Counters of the access log.
    pub access_log: AccessLogMetrics,
    /// Counters of the codec threads' jobs.
    pub codecs: CodecMetrics,
    unrouted: Arc<[AtomicU64; Code::OF_INFERENCES.len()]>,
    io_delay: Arc<Histogram>,
}

impl ServerMetrics {
    pub(super) fn new() -> Self {
        let io_delay = Arc::new(Histogram::new(&DURATIONS));
        ServerMetrics {
            transport: TransportMetrics::default(),
            access_log: AccessLogMetrics::default(),
            codecs: CodecMetrics::default(),
            unrouted: Arc::default(),
            io_delay,
        }
    }

    /// Counts a request that ended before it reached a version: it could not be decoded, or names no model that exists.
    pub fn unrouted(&self, code: Code) {
        self.unrouted[code as usize].fetch_add(1, Relaxed);
    }

    /// Records the delay of an I/O thread behind its schedule.
    pub fn io_delayed(&self, delay: Duration) {
        self.io_delay.record(nanoseconds(delay));
    }
}

/// Gauges that are sampled at each scrape.
#[derive(Debug, Default)]
pub struct ScrapeGauges {
    /// True if the server is ready for new clients.
    pub ready: bool,
    /// Hash of the settings; as many bits as a float holds exactly.
    pub config_hash: u64,
    /// CPUs that the server uses at once at most.
    pub cpus: usize,
    /// Runs that were abandoned and still go on.
    pub abandoned_runs: usize,
    /// Bytes that are held for clients.
    pub request_memory: usize,
    /// Limit of these bytes.
    pub request_memory_limit: usize,
    /// Requests that were refused because of that limit.
    pub request_memory_refused: u64,
    /// Bytes that versions take, by the estimate.
    pub model_memory: u64,
    /// Limit of these bytes, if there is one.
    pub model_memory_limit: Option<u64>,
    /// Limit of open connections.
    pub connections_limit: usize,
    /// Log lines that were dropped, as stderr was not read in time or could not be written.
    pub log_lines_dropped: u64,
    /// Time that each I/O thread has been busy.
    pub io_busy: Vec<Duration>,
    /// Figures from the operating system, if it reports them.
    pub process: Option<ProcessStats>,
    /// Figures of GPUs, if there is a driver.
    pub gpus: Vec<Gpu>,
}

/// Figures of the process from the operating system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessStats {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Virtual memory in bytes.
    pub virtual_memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Limit of open descriptors; `None`: no limit.
    pub descriptors_limit: Option<u64>,
    /// Threads.
    pub threads: u64,
}

/// All sources of the server's metrics.
pub(super) struct MetricSources {
    pub metrics: ServerMetrics,
    pub readings: ScrapeGauges,
    pub control: Arc<ControlMetrics>,
    /// Seconds since the Unix epoch.
    pub started: f64,
}

/// Writes a figure of the process, if the operating system reports it.
fn process<N: Number>(series: &mut Series<'_>, server: &MetricSources, value: impl Fn(&ProcessStats) -> N) {
    server.readings.process.iter().for_each(|process| series.value(value(process)));
}

pub(super) const FAMILIES: &[Family<MetricSources>] = &[
    Family::gauge(
        "onnxd_ready",
        "Whether the server takes new clients (1), or starts, drains or lacks a model (0).",
        |series, server| series.value(server.readings.ready),
    ),
    Family::gauge(
        "onnxd_abandoned_runs",
        "Abandoned runs that go on, each of which holds a CPU; the server is not live once there are as many as CPUs.",
        |series, server| series.value(server.readings.abandoned_runs as u64),
    ),
    Family::gauge(
        "onnxd_config_hash",
        "Hash of the settings that hold, wherever they come from: the same where servers are set alike.",
        |series, server| series.value(server.readings.config_hash),
    ),
    Family::gauge(
        "onnxd_device_fallback_versions",
        "Versions that run on the CPU since a GPU that works can't run them.",
        |series, server| series.value(server.control.fallbacks),
    ),
    Family::gauge("onnxd_desired_state_revision", "Changes that admin calls have made, counted.", |series, server| {
        series.value(server.control.revision)
    }),
    Family::gauge(
        "onnxd_desired_state_change_timestamp_seconds",
        "When an admin call last changed the desired state, since the Unix epoch; 0 where none has.",
        |series, server| series.value(server.control.changed.unwrap_or(0.0)),
    ),
    Family::counter(
        "onnxd_unrouted_requests_total",
        "Inference requests that ended before they reached a version, by code.",
        |series, server| {
            for code in Code::OF_INFERENCES {
                series.labelled("code", code.label(), server.metrics.unrouted[code as usize].load(Relaxed));
            }
        },
    ),
    Family::gauge(
        "onnxd_request_memory_bytes",
        "Bytes held of requests, from their first byte until they are answered, and of answers until they are written.",
        |series, server| series.value(server.readings.request_memory as u64),
    ),
    Family::gauge(
        "onnxd_request_memory_limit_bytes",
        "Bytes that may be held of requests at once (--request-memory).",
        |series, server| series.value(server.readings.request_memory_limit as u64),
    ),
    Family::counter(
        "onnxd_request_memory_refused_total",
        "Requests and answers that were refused because there was no room for their bytes (--request-memory).",
        |series, server| series.value(server.readings.request_memory_refused),
    ),
    Family::gauge(
        "onnxd_model_memory_bytes",
        "Memory of all versions, estimated, with those that are being loaded and those that are not freed yet.",
        |series, server| series.value(server.readings.model_memory),
    ),
    Family::gauge(
        "onnxd_model_memory_limit_bytes",
        "Memory that versions may take together, estimated (--model-memory); +Inf where there is no limit.",
        |series, server| series.value(limit(server.readings.model_memory_limit)),
    ),
    Family::gauge(
        "onnxd_connections",
        "Connections that are open, but for those of scrapers and of the admin port.",
        |series, server| series.value(server.metrics.transport.open_now()),
    ),
    Family::gauge(
        "onnxd_connections_limit",
        "Connections that may be open at once (--max-connections).",
        |series, server| series.value(server.readings.connections_limit as u64),
    ),
    Family::counter(
        "onnxd_connections_refused_total",
        "Connections that found no place: closed at once, or answered health checks only.",
        |series, server| {
            for limit in ExceededLimit::ALL {
                series.labelled("limit", limit.label(), server.metrics.transport.all_refused(limit));
            }
        },
    ),
    Family::counter(
        "onnxd_connections_closed_total",
        "Connections that the server closed and the client would have kept, by reason.",
        |series, server| {
            for why in Closed::ALL {
                series.labelled("reason", why.label(), server.metrics.transport.all_closed(why));
            }
        },
    ),
    Family::counter(
        "onnxd_access_log_dropped_total",
        "Lines that the access log should have and has not, by reason.",
        |series, server| {
            for why in Unlogged::ALL {
                series.labelled("reason", why.label(), server.metrics.access_log.all_unlogged(why));
            }
        },
    ),
    Family::counter(
        "onnxd_codec_jobs_total",
        "Large requests that were decoded, and large answers that were encoded, off the I/O threads, by outcome.",
        |series, server| {
            for outcome in CodecOutcome::ALL {
                series.labelled("outcome", outcome.label(), server.metrics.codecs.all_ended(outcome));
            }
        },
    ),
    Family::counter(
        "onnxd_log_lines_dropped_total",
        "Log lines that were dropped: stderr was not read in time, or could not be written.",
        |series, server| series.value(server.readings.log_lines_dropped),
    ),
    Family::gauge("onnxd_cpus", "CPUs that the server uses at once at most.", |series, server| {
        series.value(server.readings.cpus as u64)
    }),
    Family::counter(
        "onnxd_io_thread_busy_seconds_total",
        "Time that the I/O thread did not wait for something to do.",
        |series, server| {
            for (number, busy) in server.readings.io_busy.iter().enumerate() {
                series.labelled("thread", itoa::Buffer::new().format(number), busy.as_secs_f64());
            }
        },
    ),
    Family::histogram(
        "onnxd_io_delay_seconds",
        "How late an I/O thread came to what was due ten times a second: so long its connections were held up.",
        |series, server| series.histogram(&server.metrics.io_delay.snapshot()),
    ),
    Family::counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        |series, server| process(series, server, |process| process.cpu.as_secs_f64()),
    ),
    Family::gauge("process_resident_memory_bytes", "Resident memory size in bytes.", |series, server| {
        process(series, server, |process| process.resident)
    }),
    Family::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", |series, server| {
        process(series, server, |process| process.virtual_memory)
    }),
    Family::gauge("process_open_fds", "Number of open file descriptors.", |series, server| {
        process(series, server, |process| process.descriptors)
    }),
    Family::gauge("process_max_fds", "Maximum number of open file descriptors.", |series, server| {
        process(series, server, |process| limit(process.descriptors_limit))
    }),
    Family::gauge("process_threads", "Number of OS threads in the process.", |series, server| {
        process(series, server, |process| process.threads)
    }),
    Family::gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        |series, server| series.value(server.started),
    ),
];

/// A limit as a number: infinity if there is none.
fn limit(limit: Option<u64>) -> f64 {
    limit.map_or(f64::INFINITY, |limit| limit as f64)
}

/// Info metric of the build: its labels carry all the information.
pub(super) const BUILD: &[Family<()>] = &[Family::gauge(
    "onnxd_build_info",
    "The server's version and what ONNX Runtime says of its build, as labels; always 1.",
    |series, ()| series.value(true),
)];
