//! Answers of models in workers are those of models in the server's process, bit for bit.

use bytes::Bytes;
use onnxd::api::proto::ModelInferRequest;
use tempfile::TempDir;

use super::{isolation, save};
use crate::support::{
    client::{float_bytes, infer, inference, input, raw_request},
    onnx::{self, ELEMENT_TYPES, FLOAT, Graph, node, value},
    server::Server,
};

const PROCESS: &str = "isolation = \"process\"\n";

/// A server with every graph twice: as `NAME-here` and as `NAME-there`, in a worker.
fn start(graphs: Vec<(&str, Graph)>) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    for (name, graph) in graphs {
        save(graph.clone(), repository.path(), &format!("{name}-here"), "");
        save(graph, repository.path(), &format!("{name}-there"), PROCESS);
    }
    let server = Server::start(repository.path());
    (repository, server)
}

/// Both answers to a request, which are one.
async fn agree(server: &Server, name: &str, request: impl Fn(String) -> ModelInferRequest) -> Vec<Bytes> {
    let client = inference(server).await;
    let here = infer(&client, request(format!("{name}-here"))).await.unwrap();
    let there = infer(&client, request(format!("{name}-there"))).await.unwrap();
    assert_eq!(here.outputs, there.outputs, "{name}");
    assert_eq!(here.raw_output_contents, there.raw_output_contents, "{name}");
    there.raw_output_contents
}

/// Bytes that are a tensor of so many elements.
fn elements(size: usize, count: usize, seed: usize) -> Vec<u8> {
    match size {
        0 => (0..count)
            .flat_map(|index| {
                let element = vec![(index * 7 + seed) as u8; (index + seed) % 5];
                [(element.len() as u32).to_le_bytes().to_vec(), element].concat()
            })
            .collect(),
        size => (0..count * size).map(|index| (index * 7 + seed) as u8).collect(),
    }
}

#[tokio::test]
async fn worker_answers_match_in_process_for_every_datatype() {
    let graphs = ELEMENT_TYPES.iter().map(|(name, element, _)| (*name, onnx::identity(*element, &["batch", "3"])));
    let (_repository, server) = start(graphs.collect());
    assert!(isolation(&server, "FP32-there").await.is_some());
    for (name, _, size) in ELEMENT_TYPES {
        // From the second run on the shape is known before; sizes change both ways, and there may be nothing.
        for (round, rows) in [1usize, 4, 2, 60, 0, 1, 33].into_iter().enumerate() {
            let mut data = elements(size, rows * 3, round);
            if name == "BOOL" {
                data.iter_mut().for_each(|byte| *byte %= 2);
            }
            let request = |model: String| raw_request(&model, "x", name, &[rows as i64, 3], data.clone());
            agree(&server, name, request).await;
        }
    }
}

#[tokio::test]
async fn large_requests_and_answers_that_grow_find_room() {
    // More than the room that a worker has at first, and than a batch.
    let graph = onnx::mlp(&[8, 3000]);
    let (_repository, server) = start(vec![("mlp", graph)]);
    for rows in [1, 50, 200, 3] {
        let data = float_bytes(&(0..rows * 8).map(|number| number as f32 / 100.0).collect::<Vec<_>>());
        let request = |model: String| raw_request(&model, "x", "FP32", &[rows, 8], data.clone());
        let outputs = agree(&server, "mlp", request).await;
        assert_eq!(outputs[0].len(), rows as usize * 3000 * 4);
    }
}

#[tokio::test]
async fn optional_inputs_and_scalars_go_to_workers_too() {
    // `y = x * scale`, where `scale` has a value of its own; and `double = s + s` of a scalar.
    let scaled = Graph {
        name: "scaled".into(),
        node: vec![node("Mul", &["x", "scale"], &["y"])],
        initializer: vec![onnx::floats("scale", &[1], &[2.0])],
        input: vec![value("x", FLOAT, &["batch", "2"]), value("scale", FLOAT, &["1"])],
        output: vec![value("y", FLOAT, &["batch", "2"])],
    };
    let scalar = Graph {
        name: "scalar".into(),
        node: vec![node("Add", &["s", "s"], &["double"])],
        initializer: vec![],
        input: vec![value("s", FLOAT, &[])],
        output: vec![value("double", FLOAT, &[])],
    };
    let (_repository, server) = start(vec![("scaled", scaled), ("scalar", scalar)]);
    let plain = |model: String| raw_request(&model, "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
    let given = |model: String| ModelInferRequest {
        inputs: vec![input("scale", "FP32", &[1]), input("x", "FP32", &[1, 2])],
        raw_input_contents: vec![Bytes::from(float_bytes(&[5.0])), Bytes::from(float_bytes(&[1.0, 2.0]))],
        ..plain(model)
    };
    for _ in 0..3 {
        assert_eq!(*agree(&server, "scaled", plain).await[0], *float_bytes(&[2.0, 4.0]));
        assert_eq!(*agree(&server, "scaled", given).await[0], *float_bytes(&[5.0, 10.0]));
        let scalar = |model: String| raw_request(&model, "s", "FP32", &[], float_bytes(&[3.0]));
        assert_eq!(*agree(&server, "scalar", scalar).await[0], *float_bytes(&[6.0]));
    }
}

#[tokio::test]
async fn concurrent_clients_of_a_worker_get_their_own_answers() {
    let (_repository, server) = start(vec![("add", onnx::add(1.0))]);
    let client = inference(&server).await;
    let ask = async |number: usize| {
        let values = [number as f32, -(number as f32)];
        let request = raw_request("add-there", "x", "FP32", &[1, 2], float_bytes(&values));
        let answer = infer(&client, request).await.unwrap();
        assert_eq!(*answer.raw_output_contents[0], *float_bytes(&[values[0] + 1.0, values[1] + 1.0]));
    };
    futures_util::future::join_all((0..200).map(ask)).await;
}
