//! Runs as on a device against ordinary ones: on the CPU, whose memory takes the place of page-locked memory; with
//! `ONNXD_TEST_GPU` set, on the first GPU.

use bytes::Bytes;
use std::{
    env,
    num::NonZeroUsize,
    path::Path,
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

use super::{
    Engine, Instance, Provider, Target, buckets,
    cuda::{graph_capture::capture_alone, pinned_memory::Location},
    provider_setup::ProviderSetup,
};
use crate::{
    config::OtherProvider,
    error::Code,
    host::files::ModelPath,
    ort_library,
    tensor::{Datatype, ModelInputs, Shape, Tensor, push_bytes_element},
};

#[allow(dead_code, unreachable_pub, reason = "integration tests use the rest")]
#[path = "../../tests/it/support/onnx.rs"]
pub(crate) mod onnx;

use onnx::{FLOAT, Graph, node, value};

impl Engine {
    /// There can be one in a process.
    pub(crate) fn for_tests() -> Engine {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(|| Engine::start(&ort_library::locate().unwrap()).unwrap()).clone()
    }

    /// The same, where the CPU takes the place of every provider.
    pub(crate) fn standing_in(self) -> Engine {
        let locations = |provider: Provider| provider.gpu().map(|_| Location::CPU).into_iter().collect();
        self.with_providers(ProviderSetup { register: |_, _, _| Ok(()), locations })
    }

    /// Loads a model for the CPU as if that were a device, or for one.
    fn load_on_device(&self, model: &Path, captures_graphs: bool) -> Instance {
        if on_a_gpu() {
            assert_eq!(ort_library::prepare(self.library(), ort_library::ProviderLibrary::Cuda), []);
            let provider = Provider::Cuda { gpu: 0 };
            let target = Target { provider, graphs: captures_graphs, ..Target::cpu(NonZeroUsize::MIN) };
            return self.load(&ModelPath::alone(model), &target).unwrap();
        }
        let instance = self.load(&ModelPath::alone(model), &Target::cpu(NonZeroUsize::MIN)).unwrap();
        self.on_device(instance, vec![Location::CPU], captures_graphs).unwrap()
    }
}

fn on_a_gpu() -> bool {
    env::var_os("ONNXD_TEST_GPU").is_some()
}

/// A model, run in the ordinary way and as on a device.
struct Pair {
    ordinary: Instance,
    on_device: Instance,
}

impl Pair {
    fn of(graph: Graph, captures_graphs: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.onnx");
        graph.save(&path);
        let engine = Engine::for_tests();
        let ordinary = engine.load(&ModelPath::alone(&path), &Target::cpu(NonZeroUsize::MIN)).unwrap();
        Pair { ordinary, on_device: engine.load_on_device(&path, captures_graphs) }
    }

    /// Both give the same.
    fn agree(&mut self, requests: &[ModelInputs]) -> Vec<Tensor> {
        let requests: Vec<&ModelInputs> = requests.iter().collect();
        let expected = self.ordinary.run(&requests).outputs.unwrap();
        let outputs = self.on_device.run(&requests).outputs.unwrap();
        assert_eq!(outputs, expected);
        outputs
    }
}

fn tensor(datatype: Datatype, extents: &[usize], seed: usize) -> Tensor {
    let shape = Shape::new(extents.to_vec());
    let byte = |index: usize| (index * 7 + seed) as u8;
    let data = match shape.bytes(datatype).unwrap() {
        Some(length) if datatype == Datatype::Bool => (0..length).map(|index| byte(index) % 2).collect::<Vec<_>>(),
        Some(length) => (0..length).map(byte).collect(),
        None => {
            let mut data = Vec::new();
            for index in 0..shape.elements().unwrap() {
                push_bytes_element(&mut data, &vec![byte(index); (index + seed) % 4]).unwrap();
            }
            data
        }
    };
    Tensor::new(datatype, shape, data.into()).unwrap()
}

fn fp32(extents: &[usize], values: impl IntoIterator<Item = f32>) -> Tensor {
    let data: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    Tensor::new(Datatype::Fp32, Shape::new(extents.to_vec()), data.into()).unwrap()
}

/// Rows of two numbers, no two rows alike.
fn rows(count: usize, seed: usize) -> ModelInputs {
    vec![fp32(&[count, 2], (0..2 * count).map(|index| (index + 100 * seed) as f32))].into()
}

#[test]
fn device_run_carries_every_datatype() {
    for (name, element, _) in onnx::ELEMENT_TYPES {
        let datatype = Datatype::from_name(name).unwrap();
        let mut pair = Pair::of(onnx::identity(element, &["batch", "3"]), false);
        // From the second time on it is known what comes; sizes change both ways.
        for (round, counts) in [&[1][..], &[4], &[1, 2, 1], &[2], &[100], &[3, 0], &[0]].iter().enumerate() {
            let request = |(index, count): (usize, &usize)| -> ModelInputs {
                vec![tensor(datatype, &[*count, 3], round * 10 + index)].into()
            };
            pair.agree(&counts.iter().enumerate().map(request).collect::<Vec<_>>());
        }
        assert_eq!(pair.on_device.predicts_outputs(), datatype != Datatype::Bytes, "{name}");
    }
}

#[test]
fn inputs_and_outputs_keep_their_order() {
    let mut pair = Pair::of(onnx::pair(), false);
    for counts in [&[1][..], &[3, 1], &[2, 2, 2], &[1]] {
        let request = |count: &usize| -> ModelInputs {
            vec![rows(*count, 1).required.remove(0), rows(*count, 7).required.remove(0)].into()
        };
        pair.agree(&counts.iter().map(request).collect::<Vec<_>>());
    }
}

#[test]
fn answers_outlive_the_next_batch_and_the_session() {
    let mut pair = Pair::of(onnx::add(1.0), false);
    let mut answers = Vec::new();
    for round in 0..20 {
        let expected = pair.ordinary.run(&[&rows(1 + round % 5, round)]).outputs.unwrap();
        let mut shared = pair.on_device.sharing();
        let outputs = if round % 2 == 0 {
            pair.on_device.run(&[&rows(1 + round % 5, round)])
        } else {
            shared.run(&[&rows(1 + round % 5, round)])
        };
        answers.push((outputs.outputs.unwrap(), expected));
    }
    drop(pair);
    for (outputs, expected) in answers {
        assert_eq!(outputs, expected);
    }
}

#[test]
fn passed_through_output_is_copied() {
    // The output is the input, without a node between.
    let graph = Graph {
        node: vec![node("Neg", &["x"], &["y"])],
        output: vec![value("x", FLOAT, &["batch", "2"]), value("y", FLOAT, &["batch", "2"])],
        ..onnx::add(0.0)
    };
    let mut pair = Pair::of(Graph { initializer: Vec::new(), ..graph }, false);
    let first = pair.agree(&[rows(2, 1)]);
    let second = pair.agree(&[rows(2, 5)]);
    pair.agree(&[rows(2, 9)]);
    assert_eq!(first[0], rows(2, 1).required[0]);
    assert_eq!(second[0], rows(2, 5).required[0]);
}

#[test]
fn constant_output_is_returned_by_every_run() {
    let graph = onnx::add(3.0);
    let output = vec![value("y", FLOAT, &["batch", "2"]), value("number", FLOAT, &["1"])];
    let mut pair = Pair::of(Graph { output, ..graph }, false);
    for round in 0..4 {
        pair.agree(&[rows(1 + round, round)]);
    }
}

#[test]
fn optional_inputs_may_be_given() {
    let graph = onnx::add(5.0);
    let mut input = graph.input.clone();
    input.push(value("number", FLOAT, &["1"]));
    let mut pair = Pair::of(Graph { input, ..graph }, false);
    pair.agree(&[rows(2, 1)]);
    for number in [7.0, 8.0] {
        let optional = vec![(0, fp32(&[1], [number]))];
        pair.agree(&[ModelInputs { optional, ..rows(2, 1) }]);
    }
    pair.agree(&[rows(2, 1), rows(3, 2)]);
}

/// Gives as many as are not 0, which is declared to be as many as there are rows.
fn nonzero() -> Graph {
    Graph {
        name: "nonzero".into(),
        node: vec![
            node("NonZero", &["x"], &["places"]),
            node("Transpose", &["places"], &["turned"]),
            node("Cast", &["turned"], &["y"]).int("to", 1),
        ],
        initializer: Vec::new(),
        input: vec![value("x", FLOAT, &["batch"])],
        output: vec![value("y", FLOAT, &["batch", "1"])],
    }
}

#[test]
fn output_shapes_are_right_despite_wrong_declarations() {
    let mut pair = Pair::of(nonzero(), false);
    let input = |values: &[f32]| -> ModelInputs { vec![fp32(&[values.len()], values.iter().copied())].into() };
    pair.agree(&[input(&[1.0, 2.0])]);
    assert!(pair.on_device.predicts_outputs(), "it was as declared");
    for values in [&[1.0, 2.0, 3.0][..], &[0.0, 4.0, 0.0], &[5.0], &[0.0, 6.0]] {
        pair.agree(&[input(values)]);
    }
    assert!(!pair.on_device.predicts_outputs(), "it was not");
}

#[test]
fn device_run_errors_match_ordinary_errors() {
    if on_a_gpu() {
        // CUDA's kernels take any index.
        return;
    }
    let mut pair = Pair::of(onnx::lookup(), false);
    let inputs = |index: i64| -> ModelInputs {
        let spec = &pair.ordinary.signature().inputs[0];
        let rank = spec.shape.as_ref().unwrap().len();
        let data = Bytes::copy_from_slice(&index.to_le_bytes());
        vec![Tensor::new(spec.datatype, Shape::new(vec![1; rank]), data).unwrap()].into()
    };
    let (good, bad) = (inputs(0), inputs(1 << 40));
    for _ in 0..3 {
        pair.agree(std::slice::from_ref(&good));
        let expected = pair.ordinary.run(&[&bad]).outputs.unwrap_err();
        let error = pair.on_device.run(&[&bad]).outputs.unwrap_err();
        assert_eq!((error.code(), error.message()), (expected.code(), expected.message()));
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}

/// Runs lone requests, in turns, until one of them is kept if any ever is, and holds each against a second run.
fn lone(instance: &mut Instance, requests: &[ModelInputs]) -> bool {
    for round in 0..1000 {
        let request = &requests[round / 250 % requests.len()];
        let expected = instance.run_unbound(&[request], Instant::now()).outputs;
        assert_eq!(instance.run(&[request]).outputs, expected);
    }
    instance.has_cached_binding()
}

fn ordinary(graph: Graph) -> Instance {
    Pair::of(graph, false).ordinary
}

#[test]
fn cached_binding_serves_lone_requests() {
    let mut pair = ordinary(onnx::pair());
    let request = |count: usize, seed: usize| -> ModelInputs {
        vec![rows(count, seed).required.remove(0), rows(count, seed + 50).required.remove(0)].into()
    };
    assert!(lone(&mut pair, &[request(1, 1), request(1, 2), request(3, 3), request(1, 4)]));
    let (first, second) = (request(1, 7), request(2, 8));
    let together = pair.run(&[&first, &second]).outputs.unwrap();
    let alone = pair.run(&[&first]).outputs.unwrap();
    for (together, alone) in together.iter().zip(&alone) {
        assert_eq!(together.data()[..alone.data().len()], alone.data()[..], "a batch has a run of its own");
    }
    for (name, element, _) in onnx::ELEMENT_TYPES {
        let datatype = Datatype::from_name(name).unwrap();
        let mut identity = ordinary(onnx::identity(element, &["batch", "3"]));
        let requests = [1, 5].map(|seed| vec![tensor(datatype, &[1, 3], seed)].into());
        assert_eq!(lone(&mut identity, &requests), datatype != Datatype::Bytes, "{name}");
    }
    let constant = onnx::add(3.0);
    let output = vec![value("y", FLOAT, &["batch", "2"]), value("number", FLOAT, &["1"])];
    assert!(lone(&mut ordinary(Graph { output, ..constant }), &[rows(1, 1), rows(1, 2)]));
}

#[test]
fn cached_binding_is_off_for_copying_providers() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    onnx::add(1.0).save(&path);
    for provider in [OtherProvider::MiGraphX, OtherProvider::OpenVino].map(Provider::Other) {
        let target = Target { provider, ..Target::cpu(NonZeroUsize::MIN) };
        let mut instance = Engine::for_tests().standing_in().load(&ModelPath::alone(&path), &target).unwrap();
        assert!(!lone(&mut instance, &[rows(1, 1), rows(1, 2)]), "{provider}");
        assert!(!lone(&mut instance.sharing(), &[rows(1, 1)]), "{provider}");
    }
}

#[test]
fn cached_binding_skips_large_and_varying_runs() {
    let mut add = ordinary(onnx::add(1.0));
    assert!(!lone(&mut add, &[rows(5000, 1)]), "large");
    for round in 0..500 {
        let _ = add.run(&[&rows(1 + round % 50, round)]);
    }
    assert!(lone(&mut add, &[rows(0, 1), rows(1, 1)]));
    let passing = Graph {
        node: vec![node("Neg", &["x"], &["y"])],
        output: vec![value("x", FLOAT, &["batch", "2"]), value("y", FLOAT, &["batch", "2"])],
        initializer: Vec::new(),
        ..onnx::add(0.0)
    };
    assert!(!lone(&mut ordinary(passing), &[rows(1, 1), rows(1, 2)]), "an output is the input");
    let mut open = ordinary(onnx::identity(FLOAT, &["batch", "width"]));
    assert!(!lone(&mut open, &[rows(1, 1)]), "an output has an open axis");
}

#[test]
fn cached_binding_is_rebuilt_after_a_failed_run() {
    let mut nonzero = ordinary(nonzero());
    let input = |values: &[f32]| -> ModelInputs { vec![fp32(&[values.len()], values.iter().copied())].into() };
    assert!(lone(&mut nonzero, &[input(&[1.0, 2.0])]), "it was as declared");
    assert!(!lone(&mut nonzero, &[input(&[0.0, 2.0]), input(&[1.0, 2.0])]), "it was not");
    let mut lookup = ordinary(onnx::lookup());
    let shape = Shape::new(vec![1; lookup.signature().inputs[0].shape.as_ref().unwrap().len()]);
    let inputs = |index: i64| -> ModelInputs {
        let data = Bytes::copy_from_slice(&index.to_le_bytes());
        vec![Tensor::new(Datatype::Int64, shape.clone(), data).unwrap()].into()
    };
    assert!(lone(&mut lookup, &[inputs(0)]));
    let error = lookup.run(&[&inputs(1 << 40)]).outputs.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(lone(&mut lookup, &[inputs(1), inputs(0)]), "the request was to blame");
}

#[test]
fn graph_batches_are_padded_and_trimmed() {
    let mut pair = Pair::of(onnx::pair(), true);
    let request = |count: usize, seed: usize| -> ModelInputs {
        vec![rows(count, seed).required.remove(0), rows(count, seed + 50).required.remove(0)].into()
    };
    pair.agree(&[request(3, 1)]);
    for size in buckets(6) {
        let row = request(1, 3);
        pair.on_device.capture_graph(&vec![&row; size]).unwrap();
    }
    let mut shared = pair.on_device.sharing();
    for size in [4, 2] {
        shared.capture_graph(&[&request(size, 4)]).unwrap();
    }
    for round in 0..3 {
        for counts in [&[1][..], &[2, 1], &[1, 1, 1, 1], &[2, 3], &[6], &[7], &[0], &[1, 0, 1]] {
            let requests: Vec<_> =
                counts.iter().enumerate().map(|(index, count)| request(*count, round + index)).collect();
            let outputs = pair.agree(&requests);
            let borrowed: Vec<&ModelInputs> = requests.iter().collect();
            assert_eq!(shared.run(&borrowed).outputs.unwrap(), outputs);
            assert_eq!(pair.on_device.run_without_graphs(&borrowed).outputs.unwrap(), outputs);
        }
    }
    pair.on_device.drop_graphs();
    pair.agree(&[request(2, 1)]);
}

/// The last slice of an answer takes the memory with it that it lies in, whenever and wherever it is dropped.
#[test]
fn memory_return_waits_for_the_graph_capture() {
    let mut pair = Pair::of(onnx::add(1.0), false);
    // The first run shows the shape, the second writes to memory for it.
    pair.agree(&[rows(2, 1)]);
    let answer = pair.on_device.run(&[&rows(2, 1)]).outputs.unwrap();
    drop(pair);
    let (sender, gone) = mpsc::channel();
    let dropping = capture_alone(|| {
        let dropping = thread::spawn(move || {
            drop(answer);
            sender.send(()).unwrap();
        });
        assert!(gone.recv_timeout(Duration::from_millis(200)).is_err(), "it was given back");
        dropping
    });
    dropping.join().unwrap();
    gone.recv().unwrap();
}

#[test]
fn rows_of_another_size_are_not_padded() {
    let mut pair = Pair::of(onnx::identity(FLOAT, &["batch", "width"]), true);
    let row = rows(1, 1);
    pair.on_device.capture_graph(&[&row, &row, &row, &row]).unwrap();
    for extents in [[1, 2], [2, 1], [1, 4], [1, 16], [3, 2], [2, 0]] {
        let count = extents.iter().product::<usize>();
        pair.agree(&[vec![fp32(&extents, (0..count).map(|index| index as f32))].into()]);
    }
}

#[test]
fn graphs_are_not_captured_without_rows_of_one_size() {
    if on_a_gpu() {
        // CUDA's provider makes no session that records for a model with strings.
        return;
    }
    let row = rows(1, 1);
    let mut bytes = Pair::of(onnx::identity(onnx::STRING, &["batch"]), true);
    let request: ModelInputs = vec![tensor(Datatype::Bytes, &[2], 1)].into();
    assert_eq!(bytes.on_device.capture_graph(&[&request]), Err("BYTES have no fixed size".into()));
    bytes.agree(&[request]);
    let mut plain = Pair::of(onnx::add(1.0), false);
    assert!(plain.on_device.capture_graph(&[&row]).is_err());
    assert!(plain.ordinary.capture_graph(&[&row]).is_err());
}
