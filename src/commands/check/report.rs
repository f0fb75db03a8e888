//! Findings about versions.

use std::{sync::Arc, time::Duration};

use super::{example::Example, header::ModelHeader};
use crate::{
    loader::TestCases,
    repository::{Source, Verified},
    router::Version,
    tensor::{Dimension, TensorSpec},
};

/// Finding about one version.
pub(super) struct VersionReport<'a> {
    pub(super) model: &'a str,
    pub(super) version: u64,
    pub(super) source: &'a Source,
    pub(super) header: Option<ModelHeader>,
    /// A warning about the whole model.
    pub(super) warning: Option<&'a str>,
    /// The version's report, or the reason why it would not serve.
    pub(super) outcome: Result<Served, String>,
}

/// A version that would serve.
pub(super) struct Served {
    pub(super) version: Arc<Version>,
    /// Findings of the load, besides the version above.
    pub(super) found: LoadFindings,
    pub(super) warnings: Vec<String>,
    /// A request that the version answers, or the reason why there is none.
    pub(super) example: Result<Example, String>,
}

/// Findings of the load, besides the version.
pub(super) struct LoadFindings {
    pub(super) row: Option<Duration>,
    /// Reason why no made-up inputs could be run.
    pub(super) probe_error: Option<String>,
    /// Bytes that a run may hold.
    pub(super) max_run_memory: usize,
    pub(super) threads_why: &'static str,
    pub(super) manifest: Option<Verified>,
    pub(super) test_cases: TestCases,
}

/// The shape with the names that the model gives its axes.
pub(super) fn shape(spec: &TensorSpec) -> String {
    let dimension = |dimension: &Dimension| match dimension {
        Dimension::Fixed(extent) => extent.to_string(),
        Dimension::Symbolic(Some(name)) => name.to_string(),
        Dimension::Symbolic(None) => "?".into(),
    };
    match &spec.shape {
        Some(shape) => format!("[{}]", shape.iter().map(dimension).collect::<Vec<_>>().join(",")),
        None => "of any rank".into(),
    }
}
