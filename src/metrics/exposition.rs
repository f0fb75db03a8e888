use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    ControlMetrics, ScrapeGauges, ServerMetrics, VersionMetrics, control, families, gpu, server,
    server::MetricSources,
    text::{Text, labels, version_labels},
};
use crate::clock;

/// Versions whose counters are summed before the next piece is written.
const AT_ONCE: usize = 32;

/// All exported metrics: those of versions, of the registry, and of the server.
#[derive(Debug)]
pub struct Exposition {
    versions: Mutex<BTreeMap<(String, u64), Weak<VersionMetrics>>>,
    /// Shared, so that rendering does not hold up the registry's updates.
    control: Mutex<Arc<ControlMetrics>>,
    server: ServerMetrics,
    /// Labels of `onnxd_build_info`.
    build: String,
    /// Seconds since the Unix epoch.
    started: f64,
}

impl Exposition {
    /// The exposition of a server that starts now. `build` becomes the labels of `onnxd_build_info`.
    pub fn new(build: &[(&str, &str)]) -> Self {
        let started = clock::since_epoch().as_secs_f64();
        Exposition {
            versions: Mutex::default(),
            control: Mutex::default(),
            server: ServerMetrics::new(),
            build: labels(build.iter().copied()),
            started,
        }
    }

    /// Metrics of the server as a whole.
    pub fn server(&self) -> &ServerMetrics {
        &self.server
    }

    /// The metrics of a version. A reloaded version continues with those that still live; otherwise they are new.
    pub fn version(&self, model: &str, version: u64) -> Arc<VersionMetrics> {
        let mut versions = self.versions();
        let slot = versions.entry((model.into(), version)).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let metrics = Arc::new(VersionMetrics::new());
            *slot = Arc::downgrade(&metrics);
            metrics
        })
    }

    /// Replaces the figures of states, weights and loads.
    pub fn set_control(&self, control: ControlMetrics) {
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(control);
    }

    /// Writes the text, in Prometheus' exposition format 0.0.4, and passes it to `give` in pieces. Some pieces are empty: they
    /// mark points between which little work is done.
    pub fn render(&self, readings: ScrapeGauges, give: &mut dyn FnMut(&str)) {
        let mut text = Text::new(give);
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).clone();
        text.write(server::BUILD, &[(self.build.clone(), &())]);
        control::write(&mut text, &control);
        let server = MetricSources { metrics: self.server.clone(), readings, control, started: self.started };
        text.write(server::FAMILIES, &[(String::new(), &server)]);
        let gpus = &server.readings.gpus;
        if !gpus.is_empty() {
            text.write(gpu::INFO, &gpu::named(gpus));
            text.write(gpu::FAMILIES, &gpu::ours(gpus));
            text.write(gpu::TRITON, &gpu::tritons(gpus));
        }
        let mut live = Vec::new();
        for (index, ((model, version), metrics)) in self.live().into_iter().enumerate() {
            live.push((version_labels(&model, version), metrics.snapshot()));
            if index % AT_ONCE == AT_ONCE - 1 {
                text.give();
            }
        }
        let versions: Vec<_> = live.iter().map(|(labels, snapshot)| (labels.clone(), snapshot)).collect();
        text.write(families::FAMILIES, &versions);
        text.write(families::TRITON, &versions);
        text.give();
    }

    fn live(&self) -> Vec<((String, u64), Arc<VersionMetrics>)> {
        let mut versions = self.versions();
        versions.retain(|_, metrics| metrics.strong_count() > 0);
        let live = versions.iter().filter_map(|(key, metrics)| Some((key.clone(), metrics.upgrade()?)));
        live.collect()
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Weak<VersionMetrics>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
