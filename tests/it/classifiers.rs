//! Classifiers as converters of scikit-learn, LightGBM and others write them: their last operators make no tensors, and are served.

use onnxd::api::proto::ModelMetadataRequest;
use prost::Message;
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

use crate::support::{
    client::{get, inference, post},
    embedded::Embedded,
    onnx::{self, DOUBLE, FLOAT, Graph, Model, Node, OperatorSet, node, sequence_of, value},
};

/// A ZipMap of `scores` with these classes.
fn zip_map(classes: &[&str]) -> Node {
    let mut node = node("ZipMap", &["scores"], &["probabilities"]).strings("classlabels_strings", classes);
    node.domain = "ai.onnx.ml".into();
    node
}

/// The answer of a model to x = [[1,2]] and its metadata.
async fn served(nodes: Vec<Node>, element: i32, output: onnx::ValueInfo) -> (Value, Value) {
    let graph = Graph {
        name: "classifier".into(),
        node: nodes,
        initializer: vec![],
        input: vec![value("x", element, &["batch", "2"])],
        output: vec![value("half", element, &["batch", "2"]), output],
    };
    let sets = [("", 17), ("ai.onnx.ml", 3)].map(|(domain, version)| OperatorSet { domain: domain.into(), version });
    let model = Model { ir_version: 8, graph: Some(graph), opset_import: sets.into() };
    let repository = TempDir::new().unwrap();
    fs::write(repository.path().join("classifier.onnx"), model.encode_to_vec()).unwrap();
    let server = Embedded::start(repository.path()).await;
    let datatype = if element == DOUBLE { "FP64" } else { "FP32" };
    let input = json!({"name": "x", "datatype": datatype, "shape": [1, 2], "data": [1, 2]});
    let answer = post(server.http, "/v2/models/classifier/infer", json!({ "inputs": [input] }).to_string()).await;
    // Both protocols show the same of it.
    let asked = ModelMetadataRequest { name: "classifier".into(), version: String::new() };
    let outputs = inference(&server).await.model_metadata(asked).await.unwrap().into_inner().outputs;
    let metadata = get(server.http, "/v2/models/classifier").await.json();
    assert_eq!(outputs.len(), metadata["outputs"].as_array().unwrap().len());
    (answer.json()["outputs"].clone(), metadata)
}

/// An output that is a sequence; what of is left to the operator that makes it.
fn maps(element: i32) -> onnx::ValueInfo {
    sequence_of(value("probabilities", element, &["batch"]))
}

fn half() -> Node {
    node("Add", &["x", "x"], &["half"])
}

#[tokio::test(flavor = "multi_thread")]
async fn zip_map_keeps_the_datatype_of_its_scores() {
    let softmax = || node("Softmax", &["x"], &["scores"]);
    for (element, datatype) in [(FLOAT, "FP32"), (DOUBLE, "FP64")] {
        let (answer, metadata) = served(vec![half(), softmax(), zip_map(&["no", "yes"])], element, maps(element)).await;
        assert_eq!(metadata["outputs"][1], json!({"name": "probabilities", "datatype": datatype, "shape": [-1, 2]}));
        assert_eq!(metadata["properties"]["labels:probabilities"], r#"["no","yes"]"#);
        assert_eq!(answer[1]["data"].as_array().unwrap().len(), 2, "{answer}");
    }
    // Converters of models in FP64 say so of the maps, though the scores are FP32.
    let cast = || node("Cast", &["x"], &["single"]).int("to", FLOAT.into());
    let softmax = node("Softmax", &["single"], &["scores"]);
    let (_, metadata) = served(vec![half(), cast(), softmax, zip_map(&["no", "yes"])], DOUBLE, maps(DOUBLE)).await;
    assert_eq!(metadata["outputs"][1]["datatype"], "FP32");
}

/// Several classifiers in one: the scores have an axis for them, and the ZipMap no classes.
#[tokio::test(flavor = "multi_thread")]
async fn zip_map_without_classes_names_none() {
    let scores = node("Unsqueeze", &["x", "axis"], &["scores"]);
    let axis = node("Constant", &[], &["axis"]).ints("value_ints", &[0]);
    let (answer, metadata) = served(vec![half(), axis, scores, zip_map(&[])], FLOAT, maps(FLOAT)).await;
    assert_eq!(metadata["properties"].get("labels:probabilities"), None, "{metadata}");
    assert_eq!(metadata["outputs"][1], json!({"name": "probabilities", "datatype": "FP32", "shape": [1, -1, 2]}));
    assert_eq!((&answer[1]["shape"], &answer[1]["data"]), (&json!([1, 1, 2]), &json!([1.0, 2.0])));
}

/// A classifier of several outputs gives a sequence of tensors: one output for each.
#[tokio::test(flavor = "multi_thread")]
async fn sequence_at_the_end_is_an_output_for_each_element() {
    for element in [FLOAT, DOUBLE] {
        let negative = node("Neg", &["x"], &["negative"]);
        let sequence = node("SequenceConstruct", &["x", "negative"], &["probabilities"]);
        let (answer, metadata) = served(vec![half(), negative, sequence], element, maps(element)).await;
        let names = |outputs: &Value| outputs.as_array().unwrap().iter().map(|output| output["name"].clone()).collect();
        let expected: Vec<Value> = vec!["half".into(), "probabilities_0".into(), "probabilities_1".into()];
        assert_eq!((names(&metadata["outputs"]), names(&answer)), (expected.clone(), expected));
        assert_eq!(answer[1]["data"], json!([1.0, 2.0]));
        assert_eq!(answer[2]["data"], json!([-1.0, -2.0]));
    }
}
