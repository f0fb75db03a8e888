//! Memory of runs: what one needs too much is refused, and what a large one took is given back.

use http::StatusCode;
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;

use crate::support::{
    client::{get, metric, post, post_with, with_binary},
    onnx::{FLOAT, Graph, INT64, Node, node, value, value_of_any_rank},
    server::{Server, eventually},
};

const MIB: usize = 1 << 20;

/// An input as a request has it: name, datatype, shape, elements.
type Input = (&'static str, &'static str, Vec<usize>, Value);

/// A small request that has an operator make gigabytes.
struct Bomb {
    node: Node,
    inputs: Vec<Input>,
}

fn integers(name: &'static str, values: &[i64]) -> Input {
    (name, "INT64", vec![values.len()], json!(values))
}

fn scalar(name: &'static str, value: i64) -> Input {
    (name, "INT64", vec![], json!([value]))
}

fn zeros(name: &'static str, shape: &[usize]) -> Input {
    (name, "FP32", shape.into(), json!(vec![0; shape.iter().product()]))
}

#[rustfmt::skip]
fn bombs() -> Vec<Bomb> {
    const LENGTH: i64 = 800_000_000;
    const SIDE: i64 = 20_000;
    let y = &["y"];
    vec![
        Bomb { node: node("Expand", &["x", "s"], y), inputs: vec![zeros("x", &[1]), integers("s", &[LENGTH])] },
        Bomb { node: node("ConstantOfShape", &["s"], y), inputs: vec![integers("s", &[LENGTH])] },
        Bomb { node: node("Tile", &["x", "s"], y), inputs: vec![zeros("x", &[1]), integers("s", &[LENGTH])] },
        Bomb { node: node("Pad", &["x", "s"], y), inputs: vec![zeros("x", &[1]), integers("s", &[0, LENGTH])] },
        Bomb { node: node("OneHot", &["i", "s", "x"], y), inputs: vec![integers("i", &[0]), integers("s", &[LENGTH]), zeros("x", &[2])] },
        Bomb { node: node("Resize", &["x", "", "", "s"], y), inputs: vec![zeros("x", &[1, 1, 1, 1]), integers("s", &[1, 1, SIDE, SIDE])] },
        Bomb { node: node("Range", &["a", "s", "b"], y), inputs: vec![scalar("a", 0), scalar("s", LENGTH), scalar("b", 1)] },
        Bomb { node: node("CenterCropPad", &["x", "s"], y), inputs: vec![zeros("x", &[1]), integers("s", &[LENGTH])] },
        Bomb { node: node("AffineGrid", &["x", "s"], y), inputs: vec![zeros("x", &[1, 2, 3]), integers("s", &[1, 1, SIDE, SIDE])] },
        Bomb { node: node("Einsum", &["x", "z"], y).string("equation", "i,j->ij"), inputs: vec![zeros("x", &[20_000]), zeros("z", &[20_000])] },
        Bomb { node: node("ConvTranspose", &["x", "z"], y).ints("strides", &[SIDE, SIDE]), inputs: vec![zeros("x", &[1, 1, 2, 2]), zeros("z", &[1, 1, 1, 1])] },
        Bomb {
            node: node("MaxUnpool", &["x", "i", "s"], y).ints("kernel_shape", &[1, 1]),
            inputs: vec![zeros("x", &[1, 1, 1, 1]), ("i", "INT64", vec![1, 1, 1, 1], json!([0])), integers("s", &[1, 1, SIDE, SIDE])],
        },
        Bomb {
            node: node("RoiAlign", &["x", "z", "i"], y).int("output_height", 3000).int("output_width", 3000),
            inputs: vec![zeros("x", &[1, 1, 1, 1]), zeros("z", &[1, 4]), integers("i", &[0])],
        },
    ]
}

impl Bomb {
    fn name(&self) -> String {
        self.node.op_type.to_lowercase()
    }

    fn save(&self, folder: &Path) {
        let element = |datatype| if datatype == "FP32" { FLOAT } else { INT64 };
        // The extent of a vector may have to be known.
        let axis = |name: &str, datatype: &str, axis: usize, extent: usize| match datatype {
            "INT64" => extent.to_string(),
            _ => format!("{name}{axis}"),
        };
        let input = |(name, datatype, shape, _): &Input| {
            let axes = shape.iter().enumerate().map(|(index, extent)| axis(name, datatype, index, *extent));
            let axes: Vec<String> = axes.collect();
            value(name, element(*datatype), &axes.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let is_integer = self.node.op_type == "Range";
        let graph = Graph {
            name: "bomb".into(),
            node: vec![self.node.clone()],
            input: self.inputs.iter().map(input).collect(),
            output: vec![value_of_any_rank("y", if is_integer { INT64 } else { FLOAT })],
            ..Graph::default()
        };
        fs::write(folder.join(format!("{}.onnx", self.name())), graph.encode_with(20)).unwrap();
    }

    fn request(&self) -> String {
        let input = |(name, datatype, shape, data): &Input| json!({ "name": name, "datatype": datatype, "shape": shape, "data": data });
        json!({ "inputs": self.inputs.iter().map(input).collect::<Vec<_>>() }).to_string()
    }
}

/// Each of these took 3 GB, and the server kept them.
#[tokio::test(flavor = "multi_thread")]
async fn memory_bombs_are_refused_and_cost_nothing() {
    let repository = TempDir::new().unwrap();
    let bombs = bombs();
    bombs.iter().for_each(|bomb| bomb.save(repository.path()));
    let server = Server::start_with(repository.path(), &["--max-run-memory", "16MiB"]);
    let before = server.peak_memory();
    for bomb in &bombs {
        let name = bomb.name();
        let answer = post(server.http, &format!("/v2/models/{name}/infer"), bomb.request()).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{name}: {answer:?}");
        for part in
            ["a run may hold 16MiB (max_run_memory", "--max-run-memory", &format!("model '{name}'"), "; in its "]
        {
            assert!(answer.error().contains(part), "{part}: {}", answer.error());
        }
        let label = format!("model=\"{name}\"");
        assert_eq!(metric(&server, "onnxd_version_run_memory_refused_total", &[&label]).await, 1.0);
        let held = metric(&server, "onnxd_version_run_memory_bytes", &[&label]).await;
        assert!(held <= (16 * MIB) as f64, "{name}: {held}");
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 64 * MIB, "{grown} bytes more");
}

/// A model's own setting overrides the server's, both ways.
#[tokio::test(flavor = "multi_thread")]
async fn model_setting_overrides_the_run_memory_limit() {
    let repository = TempDir::new().unwrap();
    for (model, settings) in
        [("small", "max_run_memory = \"1MiB\""), ("large", "max_run_memory = \"1GiB\""), ("other", "")]
    {
        let folder = repository.path().join(model);
        chain(1).save(&folder.join("1/model.onnx"));
        fs::write(folder.join("config.toml"), settings).unwrap();
    }
    let server = Server::start_with(repository.path(), &["--max-run-memory", "4MiB"]);
    for (model, mib, status) in [
        ("small", 2, StatusCode::TOO_MANY_REQUESTS),
        ("other", 2, StatusCode::OK),
        ("other", 6, StatusCode::TOO_MANY_REQUESTS),
        ("large", 6, StatusCode::OK),
    ] {
        let answer = send_mebibytes(&server, model, mib).await;
        assert_eq!(answer, status, "{model} {mib}");
    }
    let models = get(server.admin, "/admin/v1/models").await.json();
    let versions = models["models"].as_array().unwrap().iter().map(|model| &model["versions"][0]);
    for version in versions {
        assert!(version["run_memory_bytes"].is_u64() || version["run_memory_bytes"].is_string(), "{version}");
    }
}

/// One honest request to each of eight models left 16 times the memory behind.
#[tokio::test(flavor = "multi_thread")]
async fn memory_of_large_requests_is_given_back() {
    let repository = TempDir::new().unwrap();
    let models: Vec<String> = (0..8).map(|number| format!("model{number}")).collect();
    models.iter().for_each(|model| chain(4).save(&repository.path().join(format!("{model}.onnx"))));
    let server = Server::start(repository.path());
    for model in &models {
        assert_eq!(send_mebibytes(&server, model, 1).await, StatusCode::OK);
    }
    let before = server.memory();
    for model in &models {
        assert_eq!(send_mebibytes(&server, model, 32).await, StatusCode::OK);
    }
    assert!(server.peak_memory() > before + 64 * MIB, "the requests are large");
    eventually("memory is given back", async || server.memory() <= before * 6 / 5).await;
    eventually("nothing is kept for runs", async || {
        metric(&server, "onnxd_version_run_memory_bytes", &[]).await <= (models.len() * 3 * 64 * 1024) as f64
    })
    .await;
}

/// Softmax of softmax, FP32 [1,n], in so many steps: requests are neither joined nor split.
fn chain(steps: usize) -> Graph {
    let names: Vec<String> = (0..=steps).map(|step| format!("t{step}")).collect();
    let step = |pair: &[String]| node("Softmax", &[&pair[0]], &[&pair[1]]);
    Graph {
        name: "chain".into(),
        node: names.windows(2).map(step).collect(),
        input: vec![value("t0", FLOAT, &["1", "n"])],
        output: vec![value(&names[steps], FLOAT, &["1", "n"])],
        ..Graph::default()
    }
}

/// Sends zeros and takes the answer as binary.
async fn send_mebibytes(server: &Server, model: &str, mib: usize) -> StatusCode {
    let input = json!({ "name": "t0", "datatype": "FP32", "shape": [1, mib * MIB / 4], "parameters": { "binary_data_size": mib * MIB } });
    let request = json!({ "inputs": [input], "parameters": { "binary_data_output": true } });
    let (body, headers) = with_binary(&request, &vec![0; mib * MIB]);
    post_with(server.http, &format!("/v2/models/{model}/infer"), &headers, body).await.status
}
