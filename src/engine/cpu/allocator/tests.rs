//! Real sessions over the allocator.

use bytes::Bytes;
use std::num::NonZeroUsize;
use tempfile::TempDir;

use crate::{
    engine::{
        Engine, Instance, Target,
        tests::onnx::{FLOAT, Graph, INT64, UINT8, mlp, node, value, value_of_any_rank},
    },
    error::{Code, Error},
    host::files::ModelPath,
    tensor::{Datatype, ModelInputs, Shape, Tensor},
};

const INT32: i32 = 6;

fn load(graph: Graph, max_run_memory: usize) -> Instance {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    graph.save(&path);
    let target = Target { max_run_memory: Some(max_run_memory), ..Target::cpu(NonZeroUsize::MIN) };
    Engine::for_tests().load(&ModelPath::alone(&path), &target).unwrap()
}

fn tensor(datatype: Datatype, extents: &[usize], data: Vec<u8>) -> Tensor {
    Tensor::new(datatype, Shape::new(extents.to_vec()), data.into()).unwrap()
}

fn integers(values: &[i64]) -> Tensor {
    tensor(Datatype::Int64, &[values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// `y = x` as often as `shape` says, FP32.
fn expand() -> Graph {
    Graph {
        name: "expand".into(),
        node: vec![node("Expand", &["x", "shape"], &["y"])],
        input: vec![value("x", FLOAT, &["1"]), value("shape", INT64, &["rank"])],
        output: vec![value("y", FLOAT, &["n"])],
        ..Graph::default()
    }
}

fn expanded(instance: &mut Instance, extent: i64) -> Result<Vec<Tensor>, Error> {
    let one = tensor(Datatype::Fp32, &[1], 1f32.to_le_bytes().into());
    let inputs: ModelInputs = vec![one, integers(&[extent])].into();
    instance.run(&[&inputs]).outputs
}

#[test]
fn run_that_needs_more_than_its_limit_is_refused() {
    let mut instance = load(expand(), 1 << 20);
    let error = expanded(&mut instance, 800_000_000).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    for part in ["needs 3.0 GiB", "hold 1MiB", "max_run_memory", "its Expand node"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(instance.held_memory().runs() < 1 << 20);
    let outputs = expanded(&mut instance, 1000).unwrap();
    assert_eq!(outputs[0].data().len(), 4000, "the instance goes on");
    assert_eq!(expanded(&mut instance, 800_000_000).unwrap_err().code(), Code::ResourceExhausted, "and on");
}

#[test]
fn runs_within_the_limit_are_never_rejected() {
    let mut instance = load(expand(), 1 << 20);
    let kept: Vec<_> = (0..10).map(|_| expanded(&mut instance, 200_000).unwrap()).collect();
    assert!(instance.held_memory().runs() > 10 * 800_000, "answers that somebody holds count");
    drop(kept);
}

#[test]
fn session_and_answers_release_all_their_memory() {
    let mut instance = load(mlp(&[64, 128, 8]), 1 << 30);
    let held = instance.held_memory().clone();
    let weights = held.counted_weights();
    assert!(weights >= (64 * 128 + 128 * 8) * 4, "{weights} bytes of weights");
    let inputs: ModelInputs = vec![tensor(Datatype::Fp32, &[100, 64], vec![0; 100 * 64 * 4])].into();
    let mut sharing = instance.sharing();
    let outputs = [instance.run(&[&inputs]).outputs.unwrap(), sharing.run(&[&inputs]).outputs.unwrap()];
    assert_eq!(held.counted_weights(), weights, "runs are no weights");
    drop((instance, sharing));
    assert_eq!(held.counted_weights(), 0);
    let runs = held.runs();
    assert!(runs >= 6400, "the answers are still there: {runs} bytes");
    drop(outputs);
    assert_eq!(held.runs(), 0);
}

/// ConvInteger does not write its output where there are no channels to sum over: a client got what lay there before.
#[test]
fn outputs_that_a_kernel_does_not_write_are_zero() {
    let graph = Graph {
        name: "convolution".into(),
        node: vec![node("ConvInteger", &["x", "w"], &["y"])],
        input: vec![value("x", UINT8, &["n", "c", "h", "v"]), value("w", UINT8, &["m", "c", "p", "q"])],
        output: vec![value_of_any_rank("y", INT32)],
        ..Graph::default()
    };
    let mut instance = load(graph, 1 << 30);
    let mut run = |channels: usize| {
        let input = |extents: [usize; 4]| {
            let length = extents.iter().product();
            tensor(Datatype::Uint8, &extents, vec![201; length])
        };
        let inputs: ModelInputs = vec![input([1, channels, 20, 20]), input([8, channels, 1, 1])].into();
        instance.run(&[&inputs]).outputs.unwrap().remove(0).data().clone()
    };
    for _ in 0..3 {
        assert!(run(3).iter().any(|byte| *byte != 0));
        let without: Bytes = run(0);
        assert_eq!(without.len(), 8 * 20 * 20 * 4);
        assert!(without.iter().all(|byte| *byte == 0), "another run's data: {:?}", &without[..16]);
    }
}
