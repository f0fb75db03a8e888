//! Versions on devices, whose place the CPU takes.

use std::{collections::BTreeMap, sync::Arc, thread};
use tempfile::TempDir;

use crate::{
    batcher::Compute,
    config::ModelConfig,
    engine::{
        Engine, Provider,
        tests::onnx::{self, FLOAT, Graph, value},
    },
    loader::{Loaded, Loader, devices::Devices},
    metrics::Exposition,
    repository::{Repository, Scan},
    router::{Meta, ModelEntry, Router, Routing, Table, Version, VersionEntry},
    tensor::{Datatype, Inputs, NamedTensor, Request, Shape, Tensor},
    traffic::Selector,
};

/// A machine with so many GPUs, on which no run gets a CPU.
fn machine(gpus: u32) -> Loader {
    let engine = Engine::for_tests().standing_in();
    let compute = Compute::start(0).unwrap();
    let mut loader = Loader::new(engine.clone(), compute, Arc::new(Exposition::new(&[])), 2);
    loader.devices = Devices::with_untried_gpus(engine, gpus).into();
    loader
}

fn load(loader: &Loader, graph: Graph, config: ModelConfig) -> Loaded {
    let folder = TempDir::new().unwrap();
    graph.save(&folder.path().join("m/1/model.onnx"));
    let scan = Repository::open(folder.path(), None, &[]).unwrap().scan(&Scan::default()).unwrap();
    loader.check("m", 1, &config, &scan.models["m"].versions[&1]).unwrap()
}

fn on(device: &str) -> ModelConfig {
    ModelConfig { device: Some(device.parse().unwrap()), ..ModelConfig::default() }
}

fn input(name: &str, rows: usize, first: usize) -> NamedTensor {
    let data: Vec<u8> = (first..first + 2 * rows).flat_map(|number| (number as f32).to_le_bytes()).collect();
    let tensor = Tensor::new(Datatype::Fp32, Shape::new(vec![rows, 2]), data.into()).unwrap();
    NamedTensor { name: name.into(), tensor }
}

/// A router with one version.
fn router(version: &Arc<Version>) -> Router {
    let router = Router::new(Exposition::new(&[]).server().clone());
    let versions = BTreeMap::from([(version.version, VersionEntry::Ready(version.clone()))]);
    let entry = ModelEntry::new(versions, Routing::default(), None);
    router.publish(Table { models: [(version.model.to_string(), entry)].into(), ..Table::default() });
    router
}

/// Checks the answer of a version of `y = x + 1`.
fn ask(version: &Arc<Version>, rows: usize, first: usize) {
    let request = Request {
        model: "m".into(),
        selector: Selector::Any,
        routing_key: None,
        inputs: Inputs::Named(vec![input("x", rows, first)]),
        outputs: Vec::new(),
        priority: 0,
        deadline: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let pending = router(version).submit(request, &Meta::default()).unwrap();
    let answer = runtime.block_on(pending.answer()).unwrap();
    assert_eq!(answer.output.tensors[0].tensor, input("y", rows, first + 1).tensor);
}

#[test]
fn version_runs_on_every_gpu_and_takes_no_cpu() {
    let loader = machine(2);
    let loaded = load(&loader, onnx::add(1.0), on("cuda"));
    let version = Arc::new(loaded.version);
    let derived = &version.derived;
    assert_eq!(derived.devices, [Provider::Cuda { gpu: 0 }, Provider::Cuda { gpu: 1 }]);
    assert_eq!((derived.instances, derived.intra_op_threads), (4, 1));
    assert_eq!(derived.in_place, Err("it runs on cuda:0".into()));
    assert_eq!(derived.graphs, None);
    thread::scope(|scope| {
        for thread in 0..8 {
            let version = &version;
            scope.spawn(move || (0..50).for_each(|round| ask(version, 1 + round % 7, thread * 1000 + round)));
        }
    });
    // More rows than a batch may have.
    ask(&version, 300, 5);
}

#[test]
fn named_gpu_gets_the_configured_instances() {
    let config = ModelConfig { instances: Some(3), ..on("tensorrt:1") };
    let loaded = load(&machine(2), onnx::add(1.0), config);
    let version = Arc::new(loaded.version);
    assert_eq!(version.derived.devices, [Provider::TensorRt { gpu: 1 }]);
    assert_eq!(version.derived.instances, 3);
    ask(&version, 3, 0);
}

#[test]
fn cuda_graph_runs_answer_like_ordinary_runs() {
    let config = ModelConfig { cuda_graphs: Some(true), max_batch_size: 12, ..on("cuda") };
    let loaded = load(&machine(2), onnx::add(1.0), config);
    assert_eq!(loaded.version.derived.graphs, Some(Ok(())), "{:?}", loaded.warnings());
    assert_eq!(loaded.warnings(), [""; 0]);
    let version = Arc::new(loaded.version);
    assert_eq!(version.derived.graphs_text().as_deref(), Some("on"));
    thread::scope(|scope| {
        for thread in 0..8 {
            let version = &version;
            scope.spawn(move || (0..50).for_each(|round| ask(version, round % 15, thread * 1000 + round)));
        }
    });
}

#[test]
fn uncapturable_model_runs_and_reports_the_cause() {
    let open = Graph {
        input: vec![value("x", FLOAT, &["batch", "width"])],
        output: vec![value("y", FLOAT, &["batch", "width"])],
        ..onnx::add(1.0)
    };
    for (device, graph, why) in [
        ("cuda", open, "'x' has no fixed size"),
        ("cuda", onnx::across_rows(), "rows of a batch would influence each other"),
        ("tensorrt", onnx::add(1.0), "it runs on tensorrt:0, and only runs by CUDA are recorded"),
        ("cpu", onnx::add(1.0), "it runs on cpu, and only runs by CUDA are recorded"),
    ] {
        let config = ModelConfig { cuda_graphs: Some(true), ..on(device) };
        let loaded = load(&machine(1), graph, config);
        let reported = loaded.version.derived.graphs.clone().unwrap().unwrap_err();
        assert!(reported.starts_with(why), "{reported}");
        let warnings = loaded.warnings();
        assert!(warnings.iter().any(|warning| warning.contains("cuda_graphs = true") && warning.ends_with(&reported)));
        if device != "cpu" && why.starts_with("it runs") {
            ask(&Arc::new(loaded.version), 2, 0);
        }
    }
}
