//! Requests that ONNX Runtime can't take: refusals, and the party that they name at fault.

mod operators;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    client::{Answer, post},
    onnx::{self, FLOAT, Graph, INT64, Tensor, floats, node, value},
    server::{Server, field},
};

/// An answer to one request with these inputs: name, datatype, shape, elements.
async fn ask(server: &Server, model: &str, inputs: &[(&str, &str, &[usize], Value)]) -> Answer {
    let inputs: Vec<_> = inputs
        .iter()
        .map(
            |(name, datatype, shape, data)| json!({ "name": name, "datatype": datatype, "shape": shape, "data": data }),
        )
        .collect();
    post(server.http, &format!("/v2/models/{model}/infer"), json!({ "inputs": inputs }).to_string()).await
}

fn expect(answer: &Answer, status: u16, says: &[&str]) {
    let body = String::from_utf8_lossy(&answer.body);
    let unsaid: Vec<_> = says.iter().filter(|part| !body.contains(**part)).collect();
    assert!(answer.status == status && unsaid.is_empty(), "{} without {unsaid:?}: {body}", answer.status);
}

fn integers(name: &str, values: &[i64]) -> Tensor {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dims: vec![values.len() as i64], data_type: INT64, name: name.into(), raw_data, ..Tensor::default() }
}

/// An LSTM over `x` FP32 [batch,time,4].
fn lstm() -> Graph {
    Graph {
        name: "lstm".into(),
        node: vec![
            node("Shape", &["x"], &["shape"]),
            node("Gather", &["shape", "swapped"], &["turned"]),
            node("Reshape", &["x", "turned"], &["steps"]),
            node("LSTM", &["steps", "W", "R"], &["y"]).int("hidden_size", 3),
        ],
        initializer: vec![
            integers("swapped", &[1, 0, 2]),
            floats("W", &[1, 12, 4], &[0.1; 48]),
            floats("R", &[1, 12, 3], &[0.1; 36]),
        ],
        input: vec![value("x", FLOAT, &["batch", "time", "4"])],
        output: vec![value("y", FLOAT, &["time", "1", "batch", "3"])],
    }
}

/// One node over these inputs, with an output of undeclared extents.
fn single(operator: &str, inputs: Vec<(&str, i32, &[&str])>, output: (i32, &[&str])) -> Graph {
    let names: Vec<&str> = inputs.iter().map(|(name, ..)| *name).collect();
    Graph {
        name: "single".into(),
        node: vec![node(operator, &names, &["y"])],
        initializer: vec![],
        input: inputs.into_iter().map(|(name, element, axes)| value(name, element, axes)).collect(),
        output: vec![value("y", output.0, output.1)],
    }
}

/// Takes seven elements, which the inputs that are made up at load don't have.
fn seven() -> Graph {
    let mut graph = single("Reshape", vec![("x", FLOAT, &["n"])], (FLOAT, &["7"]));
    graph.node[0] = node("Reshape", &["x", "seven"], &["y"]);
    graph.initializer = vec![integers("seven", &[7])];
    graph
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_axes_are_refused_where_they_could_end_the_process() {
    let repository = TempDir::new().unwrap();
    let save = |name: &str, graph: Graph| graph.save(&repository.path().join(name).join("1/model.onnx"));
    save("lstm", lstm());
    save("unique", single("Unique", vec![("x", FLOAT, &["n"])], (FLOAT, &["m"])));
    save("same", onnx::identity(FLOAT, &["batch", "width"]));
    save("seven", seven());
    let server = Server::start(repository.path());

    for shape in [[0, 2, 4], [2, 0, 4]] {
        let answer = ask(&server, "lstm", &[("x", "FP32", &shape, json!([]))]).await;
        expect(&answer, 400, &["'x'", "'lstm'", "is empty", "'LSTM'"]);
    }
    let answer = ask(&server, "unique", &[("x", "FP32", &[0], json!([]))]).await;
    expect(&answer, 400, &["axis 0 of [0]", "'Unique'"]);
    expect(&ask(&server, "seven", &[("x", "FP32", &[0], json!([]))]).await, 400, &["'x'", "axis 0 of [0]", "made up"]);
    for shape in [[0, 2], [2, 0], [0, 0]] {
        expect(&ask(&server, "same", &[("x", "FP32", &shape, json!([]))]).await, 200, &[]);
    }
    let ones = json!([[[1, 1, 1, 1]]]);
    expect(&ask(&server, "lstm", &[("x", "FP32", &[1, 1, 4], ones)]).await, 200, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_fail_for_their_inputs_are_the_clients_fault() {
    let repository = TempDir::new().unwrap();
    let save = |name: &str, graph: Graph| graph.save(&repository.path().join(name).join("1/model.onnx"));
    save("sum", single("Add", vec![("a", FLOAT, &["n"]), ("b", FLOAT, &["m"])], (FLOAT, &["k"])));
    let mut joined = single("Concat", vec![("a", FLOAT, &["n", "m"]), ("b", FLOAT, &["k", "l"])], (FLOAT, &["o", "p"]));
    joined.node[0] = node("Concat", &["a", "b"], &["y"]).int("axis", 1);
    save("axis", joined);
    save("seven", seven());
    let server = Server::start(repository.path());

    let three_and_two: [(&str, &str, &[usize], Value); 2] =
        [("a", "FP32", &[3], json!([1, 2, 3])), ("b", "FP32", &[2], json!([1, 2]))];
    let answer = ask(&server, "sum", &three_and_two).await;
    expect(&answer, 400, &["model 'sum' version 1 failed to run: operator Add", "broadcast"]);
    let inputs: [(&str, &str, &[usize], Value); 2] =
        [("a", "FP32", &[1, 1], json!([[1]])), ("b", "FP32", &[2, 1], json!([[1], [2]]))];
    let mismatched = ask(&server, "axis", &inputs).await;
    expect(&mismatched, 400, &["operator Concat", "Non concat axis dimensions must match"]);
    for message in [answer.error(), mismatched.error()] {
        let cpp: Vec<_> =
            ["onnxruntime", "::", ".cc", ".h:", "was false"].iter().filter(|part| message.contains(**part)).collect();
        assert!(cpp.is_empty(), "{cpp:?} in {message}");
    }
    // Nothing shows that this model works: its failure is not reported as the client's.
    expect(&ask(&server, "seven", &[("x", "FP32", &[2], json!([1, 2]))]).await, 500, &["operator Reshape"]);
    expect(&ask(&server, "seven", &[("x", "FP32", &[7], json!([1, 2, 3, 4, 5, 6, 7]))]).await, 200, &[]);
    // Now it is shown.
    expect(&ask(&server, "seven", &[("x", "FP32", &[2], json!([1, 2]))]).await, 400, &["operator Reshape"]);
}

/// `y`, INT64 [batch, the largest of x]: each row of x, as often. Values of 0 and 1 give one column.
fn as_wide_as_the_largest() -> Graph {
    Graph {
        name: "wide".into(),
        node: vec![
            node("ReduceMax", &["x"], &["largest"]).int("keepdims", 0),
            node("Max", &["largest", "one"], &["width"]),
            node("Shape", &["x"], &["shape"]),
            node("Slice", &["shape", "zero", "one"], &["rows"]),
            node("Concat", &["rows", "width"], &["wide"]).int("axis", 0),
            node("Expand", &["x", "wide"], &["y"]),
        ],
        initializer: vec![integers("zero", &[0]), integers("one", &[1])],
        input: vec![value("x", INT64, &["batch", "1"])],
        output: vec![value("y", INT64, &["batch", "width"])],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_runs_whole_where_its_pieces_do_not_fit_together() {
    let repository = TempDir::new().unwrap();
    as_wide_as_the_largest().save(&repository.path().join("wide/1/model.onnx"));
    std::fs::write(repository.path().join("wide/config.toml"), "max_batch_size = 2\nbatching = \"on\"\n").unwrap();
    let server = Server::start(repository.path());
    let metadata = crate::support::client::get(server.http, "/v2/models/wide").await.json();
    let batching = metadata["properties"]["batching"].as_str().unwrap().to_owned();
    assert!(batching.starts_with("on: "), "the test is about requests that are cut: {batching}");
    let answer = ask(&server, "wide", &[("x", "INT64", &[3, 1], json!([[1], [3], [2]]))]).await;
    expect(&answer, 200, &[]);
    let output = &answer.json()["outputs"][0];
    assert_eq!((&output["shape"], &output["data"]), (&json!([3, 3]), &json!([1, 1, 1, 3, 3, 3, 2, 2, 2])));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_warns_of_operators_that_can_end_the_process() {
    let repository = TempDir::new().unwrap();
    let inputs = vec![("a", INT64, &["n"][..]), ("b", INT64, &["n"])];
    single("Mod", inputs, (INT64, &["n"])).save(&repository.path().join("mod/1/model.onnx"));
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    let server = Server::start(repository.path());
    let warns = |model: &str| {
        let model = model.to_owned();
        move |line: &Value| {
            line["level"] == "WARN" && line["model"] == *model && field(line, "reason").contains("end the process")
        }
    };
    server.wait_for_log(warns("mod"));
    assert_eq!(server.count_log(warns("add")), 0);
}
