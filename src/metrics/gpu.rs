//! Metric families of GPUs.

use super::text::{Family, labels};

/// Figures that a GPU reports. Some GPUs don't have all of them: one whose memory is the machine's, a part of one (MIG).
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Its number as models name it: N of `cuda:N`.
    pub index: u32,
    /// Its identifier, the same on every start.
    pub uuid: String,
    /// Its product name.
    pub name: String,
    /// Its memory.
    pub memory: Option<GpuMemory>,
    /// Fraction of the last moments (up to a second) in which something ran on it, from 0 to 1.
    pub utilization: Option<f64>,
    /// Power that it draws, in watts.
    pub power_watts: Option<f64>,
    /// Power that it may draw, in watts.
    pub power_limit_watts: Option<f64>,
    /// Energy that it has consumed since the driver was loaded, in joules.
    pub energy_joules: Option<f64>,
}

/// Memory of a GPU, in bytes, counting all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// All memory.
    pub total: u64,
    /// Memory in use.
    pub used: u64,
    /// Memory that can be allocated. The driver keeps the rest for itself.
    pub free: u64,
}

/// GPUs with onnxd's labels.
pub(super) fn ours(gpus: &[Gpu]) -> Vec<(String, &Gpu)> {
    gpus.iter().map(|gpu| (labels([("gpu", itoa::Buffer::new().format(gpu.index))]), gpu)).collect()
}

/// GPUs with Triton's label.
pub(super) fn tritons(gpus: &[Gpu]) -> Vec<(String, &Gpu)> {
    gpus.iter().map(|gpu| (labels([("gpu_uuid", gpu.uuid.as_str())]), gpu)).collect()
}

/// GPUs with the labels of `onnxd_gpu_info`, which carry all its information.
pub(super) fn named(gpus: &[Gpu]) -> Vec<(String, &Gpu)> {
    let named = |gpu: &Gpu| {
        let index = gpu.index.to_string();
        labels([("gpu", index.as_str()), ("uuid", &gpu.uuid), ("name", &gpu.name)])
    };
    gpus.iter().map(|gpu| (named(gpu), gpu)).collect()
}

pub(super) const INFO: &[Family<Gpu>] =
    &[Family::gauge("onnxd_gpu_info", "A GPU that models can be served on, as labels; always 1.", |series, _| {
        series.value(true)
    })];

pub(super) const FAMILIES: &[Family<Gpu>] = &[
    Family::gauge(
        "onnxd_gpu_utilization_ratio",
        "Part of the last moments in which something ran on the GPU, from 0 to 1.",
        |series, gpu| series.optional(gpu.utilization),
    ),
    Family::gauge("onnxd_gpu_memory_total_bytes", "Memory of the GPU.", |series, gpu| {
        series.optional(gpu.memory.map(|memory| memory.total));
    }),
    Family::gauge("onnxd_gpu_memory_used_bytes", "Memory of the GPU that is taken, by any process.", |series, gpu| {
        series.optional(gpu.memory.map(|memory| memory.used));
    }),
    Family::gauge("onnxd_gpu_power_watts", "Power that the GPU draws.", |series, gpu| {
        series.optional(gpu.power_watts);
    }),
    Family::gauge("onnxd_gpu_power_limit_watts", "Power that the GPU may draw.", |series, gpu| {
        series.optional(gpu.power_limit_watts);
    }),
    Family::counter(
        "onnxd_gpu_energy_joules_total",
        "Energy that the GPU has taken since its driver was loaded.",
        |series, gpu| series.optional(gpu.energy_joules),
    ),
];

/// Metrics of a GPU under Triton's names.
pub(super) const TRITON: &[Family<Gpu>] = &[
    Family::gauge(
        "nv_gpu_utilization",
        "Triton's name: part of the last moments in which something ran on the GPU, from 0 to 1.",
        |series, gpu| series.optional(gpu.utilization),
    ),
    Family::gauge("nv_gpu_memory_total_bytes", "Triton's name: memory of the GPU.", |series, gpu| {
        series.optional(gpu.memory.map(|memory| memory.total));
    }),
    Family::gauge("nv_gpu_memory_used_bytes", "Triton's name: memory of the GPU that is taken.", |series, gpu| {
        series.optional(gpu.memory.map(|memory| memory.used));
    }),
    Family::gauge("nv_gpu_power_usage", "Triton's name: watts that the GPU draws.", |series, gpu| {
        series.optional(gpu.power_watts);
    }),
    Family::gauge("nv_gpu_power_limit", "Triton's name: watts that the GPU may draw.", |series, gpu| {
        series.optional(gpu.power_limit_watts);
    }),
    Family::counter(
        "nv_energy_consumption",
        "Triton's name: joules that the GPU has taken since its driver was loaded.",
        |series, gpu| series.optional(gpu.energy_joules),
    ),
];
