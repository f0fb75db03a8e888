//! Findings of `onnxd check` for scripts: one JSON document with stable keys.

use serde_json::{Map, Value, json};

use super::report::{Served, VersionReport};
use crate::{
    engine::RowProof,
    tensor::{Dimension, TensorSpec},
};

/// The document, as it grows.
pub(super) struct JsonReport {
    onnxruntime: String,
    problems: Vec<Value>,
    versions: Vec<Value>,
    /// Sentences about files that would not be served at all.
    pub(super) unserved: Vec<String>,
}

impl JsonReport {
    pub(super) fn new(onnxruntime: &str) -> Self {
        JsonReport { onnxruntime: onnxruntime.into(), problems: Vec::new(), versions: Vec::new(), unserved: Vec::new() }
    }

    pub(super) fn add_problem(&mut self, model: &str, why: &str) {
        self.problems.push(json!({ "model": model, "error": why }));
    }

    pub(super) fn add(&mut self, checked: &VersionReport<'_>) {
        let mut version = json!({
            "model": checked.model,
            "version": checked.version,
            "ok": checked.outcome.is_ok(),
            "file": checked.source.path.to_string_lossy(),
            "bytes": checked.source.fingerprint.size(),
        });
        if let Some(header) = &checked.header {
            let sets = header.operator_sets.iter().map(|set| (set.domain().to_owned(), Value::from(set.version)));
            version["ir_version"] = header.ir_version.into();
            version["operator_sets"] = sets.collect::<Map<_, _>>().into();
            version["producer"] = header.producer().into();
        }
        match &checked.outcome {
            Ok(served) => add_served(&mut version, served, checked.warning),
            Err(why) => {
                version["error"] = why.as_str().into();
                version["warnings"] = checked.warning.into_iter().collect();
            }
        }
        self.versions.push(version);
    }

    pub(super) fn finish(self, ok: bool) -> String {
        let document = json!({
            "ok": ok,
            "onnxd": env!("CARGO_PKG_VERSION"),
            "onnxruntime": self.onnxruntime,
            "problems": self.problems,
            "versions": self.versions,
            "unserved": self.unserved,
        });
        format!("{document:#}\n")
    }
}

fn add_served(object: &mut Value, served: &Served, warning: Option<&str>) {
    let Served { version, found, warnings, example } = served;
    let signature = &version.signature;
    let required = signature.inputs.iter().map(|spec| tensor(spec, Some(false)));
    let optional = signature.optional_inputs.iter().map(|spec| tensor(spec, Some(true)));
    object["inputs"] = required.chain(optional).collect();
    object["outputs"] = signature.outputs.iter().map(|spec| tensor(spec, None)).collect();
    object["batching"] = match &version.derived.batching {
        Ok(rows) => json!({ "on": true, "max_batch_size": rows }),
        Err(why) => json!({ "on": false, "why": why }),
    };
    object["rows"] = match &version.derived.row_proof {
        RowProof::Proven => json!({ "verdict": "proven" }),
        RowProof::Mixes(finding) => json!({ "verdict": "mixes", "why": finding.why, "chain": finding.chain }),
        RowProof::Unproven(finding) => json!({ "verdict": "not_proven", "why": finding.why, "chain": finding.chain }),
    };
    object["devices"] = version.derived.devices_shown().into();
    object["device_why"] = version.derived.fallback.as_deref().into();
    object["cuda_graphs"] = match &version.derived.graphs {
        Some(Ok(())) => json!({ "on": true }),
        Some(Err(why)) => json!({ "on": false, "why": why }),
        None => json!(null),
    };
    object["row_seconds"] = found.row.map(|row| row.as_secs_f64()).into();
    object["probe_error"] = found.probe_error.as_deref().into();
    object["max_run_memory"] = found.max_run_memory.into();
    object["instances"] = version.derived.instances.into();
    object["intra_op_threads"] = version.derived.intra_op_threads.into();
    object["intra_op_threads_why"] = found.threads_why.into();
    object["in_place"] = match &version.derived.in_place {
        Ok(rows) => json!({ "on": true, "rows": rows }),
        Err(why) => json!({ "on": false, "why": why }),
    };
    object["isolation"] = match &version.derived.isolation {
        Some(why) => json!({ "on": true, "why": why }),
        None => json!({ "on": false }),
    };
    object["load_seconds"] = version.load_time.as_secs_f64().into();
    object["manifest"] = match &found.manifest {
        Some(verified) => json!({ "files": verified.files }),
        None => Value::Null,
    };
    let cases = found.test_cases.passed.iter();
    object["test_cases"] = cases
        .map(|(file, description)| json!({ "file": file.to_string_lossy(), "description": description }))
        .collect();
    object["warnings"] = warnings.iter().map(String::as_str).chain(warning).collect();
    object["example"] = example.as_ref().ok().map(|example| example.command.as_str()).into();
}

fn tensor(spec: &TensorSpec, optional: Option<bool>) -> Value {
    let dimension = |dimension: &Dimension| match dimension {
        Dimension::Fixed(extent) => Value::from(*extent),
        Dimension::Symbolic(Some(name)) => Value::from(&**name),
        Dimension::Symbolic(None) => Value::Null,
    };
    let shape = spec.shape.as_ref().map(|shape| shape.iter().map(dimension).collect::<Vec<_>>());
    let mut tensor = json!({ "name": *spec.name, "datatype": spec.datatype.name(), "shape": shape });
    if let Some(optional) = optional {
        tensor["optional"] = optional.into();
    }
    if !spec.labels.is_empty() {
        tensor["labels"] = spec.labels.as_slice().into();
    }
    tensor
}
