//! Metric families of a version's requests.

use super::{
    reasons::{Rejection, StopReason},
    text::Family,
    version_snapshot::{RequestPhase, VersionSnapshot},
};
use crate::{error::Code, traffic::Reason};

pub(super) const FAMILIES: &[Family<VersionSnapshot>] = &[
    Family::counter("onnxd_requests_total", "Inference requests that ended, by code.", |series, version| {
        series.labelled("code", "ok", version.succeeded);
        for code in Code::OF_INFERENCES {
            series.labelled("code", code.label(), version.failed[code as usize]);
        }
    }),
    Family::counter(
        "onnxd_routed_requests_total",
        "Inference requests that came to the version, by the reason why.",
        |series, version| {
            for reason in Reason::ALL {
                series.labelled("reason", reason.label(), version.routed[reason as usize]);
            }
        },
    ),
    Family::counter(
        "onnxd_rejected_requests_total",
        "Inference requests that never ran, by the reason why.",
        |series, version| {
            for why in Rejection::ALL {
                series.labelled("reason", why.label(), version.rejected[why as usize]);
            }
        },
    ),
    Family::counter(
        "onnxd_runs_stopped_total",
        "Runs that were stopped before they had ended, by the reason why.",
        |series, version| {
            for why in StopReason::ALL.into_iter().filter(|why| *why != StopReason::LoadEnded) {
                series.labelled("reason", why.label(), version.stopped[why as usize]);
            }
        },
    ),
    Family::counter(
        "onnxd_runs_abandoned_total",
        "Runs that did not end though they were stopped, each of which holds a CPU until it ends.",
        |series, version| series.value(version.abandoned),
    ),
    Family::gauge("onnxd_requests_in_flight", "Inference requests that wait or run.", |series, version| {
        series.value(version.in_flight);
    }),
    Family::histogram(
        "onnxd_request_duration_seconds",
        "Time from a decoded request to its answer, of those that succeeded.",
        |series, version| series.histogram(&version.request_duration),
    ),
    Family::gauge(
        "onnxd_queued_requests",
        "Inference requests that wait; one of more rows than a batch may have counts for each of its pieces.",
        |series, version| series.value(version.queued_requests),
    ),
    Family::gauge(
        "onnxd_queued_requests_limit",
        "Inference requests that may wait in a queue of the version (max_queue_size).",
        |series, version| series.value(version.queue_limit),
    ),
    Family::gauge("onnxd_queued_rows", "Rows of the inference requests that wait.", |series, version| {
        series.value(version.queued_rows);
    }),
    Family::gauge(
        "onnxd_predicted_queue_seconds",
        "Predicted time until all that wait have run, in the longest queue of the version.",
        |series, version| series.value(version.queued_work.as_secs_f64()),
    ),
    Family::histogram(
        "onnxd_queue_duration_seconds",
        "Time that inference requests waited for an instance.",
        |series, version| series.histogram(&version.phase(RequestPhase::Queue).duration),
    ),
    Family::summary("onnxd_input_duration_seconds", "Time to stack the rows of a batch.", |series, version| {
        series.summary(&version.phase(RequestPhase::Input).duration);
    }),
    Family::histogram("onnxd_run_duration_seconds", "Time of a batch in ONNX Runtime.", |series, version| {
        series.histogram(&version.phase(RequestPhase::Run).duration);
    }),
    Family::summary(
        "onnxd_output_duration_seconds",
        "Time to cut a batch's outputs into answers.",
        |series, version| series.summary(&version.phase(RequestPhase::Output).duration),
    ),
    Family::histogram(
        "onnxd_batch_rows",
        "Rows of each batch that ran; its count is the number of batches.",
        |series, version| series.histogram(&version.batch_rows),
    ),
    Family::counter("onnxd_rows_total", "Rows that ONNX Runtime was given.", |series, version| {
        series.value(version.rows);
    }),
    Family::counter("onnxd_worker_deaths_total", "Deaths of the version's worker processes.", |series, version| {
        series.value(version.worker_deaths);
    }),
    Family::gauge(
        "onnxd_version_run_memory_bytes",
        "Memory that the version's runs hold on the host: tensors, answers until they are written, and what is kept for the next runs.",
        |series, version| series.value(version.run_memory),
    ),
    Family::counter(
        "onnxd_version_run_memory_refused_total",
        "Requests whose run was refused memory (max_run_memory, --max-run-memory).",
        |series, version| series.value(version.run_memory_refused),
    ),
];

/// Metrics of a version under Triton's names.
pub(super) const TRITON: &[Family<VersionSnapshot>] = &[
    Family::counter("nv_inference_request_success", "Triton's name: requests that succeeded.", |series, version| {
        series.value(version.succeeded)
    }),
    Family::counter(
        "nv_inference_request_failure",
        "Triton's name: requests that failed, by Triton's reasons.",
        |series, version| {
            for reason in ["REJECTED", "CANCELED", "BACKEND", "OTHER"] {
                let codes = Code::OF_INFERENCES.into_iter().filter(|code| triton_reason(*code) == reason);
                let count: u64 = codes.map(|code| version.failed[code as usize]).sum();
                series.labelled("reason", reason, count);
            }
        },
    ),
    Family::counter("nv_inference_count", "Triton's name: rows that ran.", |series, version| {
        series.value(version.rows);
    }),
    Family::counter("nv_inference_exec_count", "Triton's name: batches that ran.", |series, version| {
        series.value(version.batch_rows.count());
    }),
    Family::counter(
        "nv_inference_request_duration_us",
        "Triton's name: microseconds of requests from arrival to answer.",
        |series, version| series.value(version.request_duration.sum / 1000),
    ),
    Family::counter(
        "nv_inference_queue_duration_us",
        "Triton's name: microseconds of requests in the queue.",
        |series, version| series.value(version.phase(RequestPhase::Queue).request_nanoseconds / 1000),
    ),
    Family::counter(
        "nv_inference_compute_input_duration_us",
        "Triton's name: microseconds of requests while their batch was stacked.",
        |series, version| series.value(version.phase(RequestPhase::Input).request_nanoseconds / 1000),
    ),
    Family::counter(
        "nv_inference_compute_infer_duration_us",
        "Triton's name: microseconds of requests while their batch ran.",
        |series, version| series.value(version.phase(RequestPhase::Run).request_nanoseconds / 1000),
    ),
    Family::counter(
        "nv_inference_compute_output_duration_us",
        "Triton's name: microseconds of requests while their batch's outputs were cut.",
        |series, version| series.value(version.phase(RequestPhase::Output).request_nanoseconds / 1000),
    ),
    Family::gauge("nv_inference_pending_request_count", "Triton's name: requests that wait.", |series, version| {
        series.value(version.queued_requests);
    }),
    Family::gauge(
        "nv_model_load_duration_secs",
        "Triton's name: seconds that the last load took.",
        |series, version| series.value(version.load_time.as_secs_f64()),
    ),
];

/// Triton's `reason` of a failure.
fn triton_reason(code: Code) -> &'static str {
    match code {
        Code::ResourceExhausted | Code::DeadlineExceeded => "REJECTED",
        Code::Cancelled => "CANCELED",
        Code::Internal | Code::RunFailed => "BACKEND",
        Code::InvalidArgument
        | Code::NotFound
        | Code::Unimplemented
        | Code::Unavailable
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unauthenticated => "OTHER",
    }
}
