//! The real build of ONNX Runtime for GPUs, on a machine that may have none: `ONNXD_TEST_GPU_WHEEL` names its wheel, which
//! `tests/gpu/wheel` fetches (256 MB). Without it there is nothing to test, which is no failure; a name of no file is one.

mod cuda;

use serde_json::{Value, json};
use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    runtime::{document, libraries_of_the_system, missing, runtime},
    support::{
        client::{get, metric, post},
        libraries,
        onnx::{self, FLOAT, Graph},
        server::{Server, eventually, field, onnxd},
    },
};

/// The libraries of the wheel, in a folder of their own.
struct Unpacked {
    _folder: TempDir,
    library: PathBuf,
}

/// Unpacks the wheel that is named. Without one the test is skipped by name, which is no failure even where tools are required.
fn unpacked(test: &str) -> Option<Unpacked> {
    let Some(wheel) = env::var_os("ONNXD_TEST_GPU_WHEEL").filter(|wheel| !wheel.is_empty()) else {
        // Not by eprintln, which is shown only where a test fails.
        let _ =
            writeln!(io::stderr(), "SKIPPED {test}: ONNXD_TEST_GPU_WHEEL names no wheel (tests/gpu/wheel fetches it)");
        return None;
    };
    let file = File::open(&wheel).unwrap_or_else(|error| panic!("ONNXD_TEST_GPU_WHEEL is {wheel:?}: {error}"));
    let folder = TempDir::new().unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap_or_else(|error| panic!("{wheel:?} is no wheel: {error}"));
    let mut library = None;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let entry_name = entry.name().unwrap().into_owned();
        let name = Path::new(&entry_name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("libonnxruntime") {
            continue;
        }
        let path = folder.path().join(&name);
        io::copy(&mut entry, &mut File::create(&path).unwrap()).unwrap();
        if name.starts_with("libonnxruntime.so") {
            library = Some(path);
        }
    }
    let library = library.unwrap_or_else(|| panic!("{wheel:?} holds no libonnxruntime.so"));
    Some(Unpacked { _folder: folder, library })
}

/// The same, for what can be held on a machine with a GPU only, or on one without.
fn unpacked_where(gpu: bool, test: &str) -> Option<Unpacked> {
    if gpu == has_gpu() {
        return unpacked(test);
    }
    let _ = writeln!(io::stderr(), "SKIPPED {test}: this machine has {}", if gpu { "no GPU" } else { "a GPU" });
    None
}

/// True if this machine has a GPU that the driver knows.
fn has_gpu() -> bool {
    fs::read_dir("/proc/driver/nvidia/gpus").is_ok_and(|mut gpus| gpus.next().is_some())
}

async fn version(server: &Server, model: &str) -> Value {
    get(server.admin, &format!("/admin/v1/models/{model}")).await.json()["versions"][0].clone()
}

async fn answers(server: &Server, model: &str) -> bool {
    let body = json!({ "inputs": [{ "name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, -1, 0.5] }] });
    let answer = post(server.http, &format!("/v2/models/{model}/infer"), body.to_string()).await;
    answer.status == 200 && answer.json()["outputs"][0]["data"] == json!([2.0, 3.0, 0.0, 1.5])
}

/// Each library that it needs is named or there.
#[test]
fn real_provider_names_its_missing_libraries() {
    let Some(unpacked) = unpacked("real_provider_names_its_missing_libraries") else { return };
    let (cache, library) = (TempDir::new().unwrap(), &unpacked.library);
    let reported = document(&ended(runtime(cache.path(), &["--json"]).env("ORT_DYLIB_PATH", library)));
    assert_eq!(reported["library"], library.to_str().unwrap());
    let system = libraries_of_the_system();
    let expected = |all: &[&str]| all.iter().filter(|name| !system.contains(**name)).map(ToString::to_string).collect();
    let cuda: Vec<String> = expected(&[
        "libcublasLt.so.13",
        "libcublas.so.13",
        "libcurand.so.10",
        "libcudart.so.13",
        "libcuda.so.1",
        "libcudnn.so.9",
        "libcudnn_graph.so.9",
        "libcufft.so.12",
        "libnvrtc.so.13",
    ]);
    assert_eq!(missing(&reported, "cuda"), cuda);
    let tensorrt: Vec<String> =
        expected(&["libcublas.so.13", "libnvinfer.so.10", "libnvonnxparser.so.10", "libcudart.so.13", "libcudnn.so.9"]);
    assert_eq!(missing(&reported, "tensorrt"), tensorrt);
}

/// On a machine without a GPU: models run on the CPU, what is missing for those that ask for more is named, each piece of it.
#[tokio::test(flavor = "multi_thread")]
async fn gpu_build_without_a_gpu_serves_on_the_cpu() {
    let Some(unpacked) = unpacked_where(false, "gpu_build_without_a_gpu_serves_on_the_cpu") else { return };
    let repository = TempDir::new().unwrap();
    for (model, config) in [
        ("one", ""),
        ("two", "device = \"auto\""),
        ("chosen", "device = \"cpu\""),
        ("cuda", "device = \"cuda\""),
        ("third", "device = \"cuda:2\""),
        ("tensorrt", "device = \"tensorrt\""),
    ] {
        onnx::add(1.0).save(&repository.path().join(model).join("1/model.onnx"));
        fs::write(repository.path().join(model).join("config.toml"), config).unwrap();
    }
    // Nothing that was fetched for the user of this machine.
    let cache = TempDir::new().unwrap();
    let mut command = onnxd();
    command.env("ORT_DYLIB_PATH", &unpacked.library).env("ONNXD_CACHE_DIR", cache.path());
    let server = Server::start_command(command, repository.path(), &[]);
    for model in ["one", "two", "chosen"] {
        assert!(answers(&server, model).await, "{model}");
        assert_eq!(version(&server, model).await["devices"], json!(["cpu"]), "{model}");
    }
    assert_eq!(metric(&server, "onnxd_device_instances", &["device=\"cpu\""]).await, 3.0);

    // The driver is the system's; all else may be had by a command.
    for model in ["cuda", "third", "tensorrt"] {
        let failed = version(&server, model).await;
        let why = failed["problem"].as_str().unwrap();
        assert_eq!(failed["state"], "FAILED", "{failed}");
        assert!(why.contains("libcuda.so.1 (the NVIDIA driver"), "{model}: {why}");
        let libraries: &[&str] = match model {
            "tensorrt" => &["libnvinfer.so.10", "libcudnn.so.9", "libcublas.so.13"],
            _ => &["libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudnn.so.9"],
        };
        for library in libraries {
            assert!(why.contains(library), "{model}: {library} is not in: {why}");
        }
    }

    // Once, not for each model.
    let reported =
        |line: &Value| line["level"] == "WARN" && field(line, "message").starts_with("models run on the CPU");
    let line = server.wait_for_log(reported);
    for says in ["libcuda.so.1", "`onnxd doctor`", "--device cpu"] {
        assert!(field(&line, "reason").contains(says), "{line}");
    }
    assert_eq!(server.count_log(reported), 1);
    assert!(answers(&server, "one").await, "it goes on");
}

/// With two GPUs that are none (`cuda.c`), and the real provider: which GPU, options, memory.
#[tokio::test(flavor = "multi_thread")]
async fn models_run_on_gpus_that_work() {
    let Some(unpacked) = unpacked_where(false, "models_run_on_gpus_that_work") else { return };
    let (repository, cuda) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    cuda::make(cuda.path(), &unpacked.library.with_file_name("libonnxruntime_providers_cuda.so"));
    let wrong = "device = \"cuda\"\n[provider_options]\ngpu_mem_limit = \"much\"";
    for (model, config) in [
        ("one", ""),
        ("two", "instances = 2"),
        ("second", "device = \"cuda:1\""),
        ("options", OPTIONS),
        ("chosen", "device = \"cpu\""),
        ("graphs", "cuda_graphs = true\nmax_batch_size = 12"),
        ("passed", ""),
        ("eighth", "device = \"cuda:7\""),
        ("wrong", wrong),
    ] {
        onnx::identity(FLOAT, &["batch", "2"]).save(&repository.path().join(model).join("1/model.onnx"));
        fs::write(repository.path().join(model).join("config.toml"), config).unwrap();
    }
    // Its first output is its input.
    let output = ["x", "y"].map(|name| onnx::value(name, FLOAT, &["batch", "2"])).into();
    let passed = Graph { output, ..onnx::identity(FLOAT, &["batch", "2"]) };
    passed.save(&repository.path().join("passed/1/model.onnx"));
    // Weights that are larger than what can be allocated, on the first GPU or on both.
    for (model, config, rows) in [("half", "", 512), ("large", "", 1024), ("larger", "device = \"cuda\"", 1024)] {
        onnx::mlp(&[rows, 1024]).save(&repository.path().join(model).join("1/model.onnx"));
        fs::write(repository.path().join(model).join("config.toml"), config).unwrap();
    }
    let mut command = onnxd();
    command.env("ORT_DYLIB_PATH", &unpacked.library).env("LD_LIBRARY_PATH", cuda.path());
    command.env("FAKE_GPUS", "2").env("FAKE_LARGEST", "3000000").env("FAKE_LARGEST_0", "1500000");
    let server = Server::start_command(command, repository.path(), &[]);
    for (model, devices) in [
        ("one", json!(["cuda:0", "cuda:1"])),
        ("two", json!(["cuda:0", "cuda:1"])),
        ("second", json!(["cuda:1"])),
        ("options", json!(["cuda:0"])),
        ("chosen", json!(["cpu"])),
        ("graphs", json!(["cuda:0", "cuda:1"])),
        ("passed", json!(["cuda:0", "cuda:1"])),
    ] {
        let version = version(&server, model).await;
        assert_eq!((&version["state"], &version["devices"]), (&json!("READY"), &devices), "{model}: {version}");
        // Many at once, of as many rows as a batch may have and more.
        let asked = (0..64).map(|number| async move {
            let rows = number % 13 + 1;
            let data: Vec<f64> = (0..2 * rows).map(|index| f64::from(100 * number + index)).collect();
            let input = json!({ "name": "x", "shape": [rows, 2], "datatype": "FP32", "data": data });
            let body = json!({ "inputs": [input] }).to_string();
            let answer = post(server.http, &format!("/v2/models/{model}/infer"), body).await;
            assert_eq!(answer.json()["outputs"][0]["data"], json!(data), "{model}");
        });
        futures_util::future::join_all(asked).await;
    }
    let recorded = get(server.http, "/v2/models/graphs").await.json()["properties"]["cuda_graphs"].clone();
    assert_eq!(recorded, "on");
    let half = version(&server, "half").await;
    assert_eq!((&half["state"], &half["devices"]), (&json!("READY"), &json!(["cuda:1"])), "{half}");
    let warned = |line: &Value| line["level"] == "WARN" && line["model"] == "half";
    let line = server.wait_for_log(warned);
    assert!(field(&line, "warning").starts_with("it does not run on every GPU: cuda:0 can't run it: "), "{line}");
    let large = version(&server, "large").await;
    assert_eq!(large["devices"], json!(["cpu"]), "{large}");
    let reported =
        get(server.http, "/v2/models/large").await.json()["properties"]["device"].as_str().unwrap().to_owned();
    assert!(reported.starts_with("cpu: cuda:0 can't run it: ") && reported.contains("not enough memory"), "{reported}");
    let warned = |line: &Value| line["level"] == "WARN" && line["model"] == "large";
    let line = server.wait_for_log(warned);
    assert!(
        line["message"] == "version runs on the CPU" && field(&line, "reason").starts_with("cuda:0 can't run"),
        "{line}"
    );
    assert_eq!(metric(&server, "onnxd_device_fallback_versions", &[]).await, 1.0);
    assert_eq!(metric(&server, "onnxd_device_instances", &["device=\"cpu\""]).await, 2.0);
    assert!(metric(&server, "onnxd_device_instances", &["device=\"cuda:1\""]).await >= 4.0);
    for (model, says) in [
        ("eighth", "there is no GPU 7: there are cuda:0, cuda:1"),
        ("wrong", "Failed to parse provider option \"gpu_mem_limit\""),
        ("larger", "cuda:0 can't run it: "),
    ] {
        let failed = version(&server, model).await;
        assert_eq!(failed["state"], "FAILED", "{failed}");
        assert!(failed["problem"].as_str().unwrap().contains(says), "{failed}");
    }
}

/// Loads on GPUs take threads and memory of the driver's, which go with what was loaded; and they don't wait for an NVML that
/// never answers. `ONNXD_TEST_ROUNDS=1000` is a soak.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_leave_nothing_behind() {
    let Some(unpacked) = unpacked_where(false, "reloads_leave_nothing_behind") else { return };
    let (repository, driver) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    cuda::make(driver.path(), &unpacked.library.with_file_name("libonnxruntime_providers_cuda.so"));
    libraries::driver(driver.path());
    for (model, config) in [("plain", ""), ("graphs", "cuda_graphs = true\nmax_batch_size = 4")] {
        onnx::identity(FLOAT, &["batch", "2"]).save(&repository.path().join(model).join("1/model.onnx"));
        fs::write(repository.path().join(model).join("config.toml"), config).unwrap();
    }
    let mut command = onnxd();
    command.env("ORT_DYLIB_PATH", &unpacked.library).env("LD_LIBRARY_PATH", driver.path()).env("FAKE_GPUS", "2");
    command.env("FAKE_NVML_HANGS", driver.path());
    let server = Server::start_command(command, repository.path(), &[]);
    let rounds = env::var("ONNXD_TEST_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let mut before = None;
    for round in 0..rounds {
        for model in ["plain", "graphs"] {
            let path = format!("/admin/v1/models/{model}");
            assert_eq!(post(server.admin, &format!("{path}/versions/1/reload"), "").await.status, 200);
            let ready = get(server.admin, &format!("{path}/wait?version=1")).await.json();
            assert_eq!(ready["versions"][0]["devices"], json!(["cuda:0", "cuda:1"]), "{ready}");
            assert!(ready["versions"][0]["problem"].is_null(), "{ready}");
        }
        let now = async || {
            let threads = metric(&server, "process_threads", &[]).await;
            (threads, metric(&server, "process_open_fds", &[]).await)
        };
        // Replaced generations go in their own time, and ends of threads take theirs.
        match before {
            None if round == 2 => before = Some(now().await),
            None => {}
            Some((threads, files)) => {
                eventually("threads and files are as many as before", async || {
                    let now = now().await;
                    now.0 <= threads && now.1 <= files
                })
                .await;
            }
        }
    }
}

/// GPU memory that other processes have taken when the server starts may be given back later.
#[tokio::test(flavor = "multi_thread")]
async fn gpu_full_at_the_start_is_used_later() {
    let Some(unpacked) = unpacked_where(false, "gpu_full_at_the_start_is_used_later") else { return };
    let (repository, driver) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    cuda::make(driver.path(), &unpacked.library.with_file_name("libonnxruntime_providers_cuda.so"));
    for (model, config) in [("auto", ""), ("first", "device = \"cuda:0\"")] {
        onnx::identity(FLOAT, &["batch", "2"]).save(&repository.path().join(model).join("1/model.onnx"));
        fs::write(repository.path().join(model).join("config.toml"), config).unwrap();
    }
    let full = driver.path().join("full");
    fs::write(&full, "").unwrap();
    let mut command = onnxd();
    command.env("ORT_DYLIB_PATH", &unpacked.library).env("LD_LIBRARY_PATH", driver.path());
    command.env("FAKE_GPUS", "2").env("FAKE_FULL", &full);
    let server = Server::start_command(command, repository.path(), &[]);
    assert_eq!(version(&server, "auto").await["devices"], json!(["cuda:1"]));
    let failed = version(&server, "first").await;
    assert_eq!(failed["state"], "FAILED", "{failed}");
    assert!(failed["problem"].as_str().unwrap().contains("Failed to allocate memory"), "{failed}");
    fs::remove_file(&full).unwrap();
    eventually("it is tried again", async || version(&server, "first").await["devices"] == json!(["cuda:0"])).await;
    post(server.admin, "/admin/v1/models/auto/versions/1/reload", "").await;
    let ready = get(server.admin, "/admin/v1/models/auto/wait?version=1").await.json();
    assert_eq!(ready["versions"][0]["devices"], json!(["cuda:0", "cuda:1"]), "{ready}");
}

/// A container that was given a driver and no GPU.
#[test]
fn driver_without_a_gpu_is_reported_with_advice() {
    let test = "driver_without_a_gpu_is_reported_with_advice";
    let Some(unpacked) = unpacked_where(false, test) else { return };
    let (cuda, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    cuda::make(cuda.path(), &unpacked.library.with_file_name("libonnxruntime_providers_cuda.so"));
    let mut command = onnxd();
    command.env("ORT_DYLIB_PATH", &unpacked.library).env("LD_LIBRARY_PATH", cuda.path()).env("FAKE_GPUS", "0");
    command.env("ONNXD_CACHE_DIR", cache.path()).args(["doctor", "--device", "cuda"]);
    let output = ended(&mut command);
    let reported = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{reported}");
    for says in ["cuda can't be had: the NVIDIA driver sees no GPU", "`nvidia-smi`", "CUDA_VISIBLE_DEVICES"] {
        assert!(reported.contains(says), "{says} is not in {reported}");
    }
}

/// Every option of CUDA's that may be given, as the provider takes it.
const OPTIONS: &str = r#"
    device = "cuda:0"
    [provider_options]
    arena_extend_strategy = "kNextPowerOfTwo"
    cudnn_conv1d_pad_to_nc1d = true
    cudnn_conv_algo_search = "DEFAULT"
    cudnn_conv_use_max_workspace = true
    do_copy_in_default_stream = true
    enable_skip_layer_norm_strict_mode = false
    external_data_loader_reading_threads = 2
    fuse_conv_bias = true
    gpu_mem_limit = 1_000_000_000
    prefer_nhwc = true
    sdpa_kernel = 0
    tunable_op_enable = false
    tunable_op_max_tuning_duration_ms = 10
    tunable_op_tuning_enable = false
    use_ep_level_unified_stream = true
    use_tf32 = true
"#;

/// Where a GPU is: models that ask for nothing run on it.
#[tokio::test(flavor = "multi_thread")]
async fn models_run_on_a_real_gpu() {
    let Some(unpacked) = unpacked_where(true, "models_run_on_a_real_gpu") else { return };
    let repository = TempDir::new().unwrap();
    for (model, config) in [("one", ""), ("chosen", "device = \"cpu\""), ("none", "device = \"cuda:99\"")] {
        onnx::add(1.0).save(&repository.path().join(model).join("1/model.onnx"));
        fs::write(repository.path().join(model).join("config.toml"), config).unwrap();
    }
    let mut command = onnxd();
    command.env("ORT_DYLIB_PATH", &unpacked.library);
    let server = Server::start_command(command, repository.path(), &[]);
    assert!(answers(&server, "one").await && answers(&server, "chosen").await);
    assert_eq!(version(&server, "one").await["devices"][0], "cuda:0");
    let none = version(&server, "none").await;
    assert!(none["problem"].as_str().unwrap().starts_with("there is no GPU 99: there are cuda:0"), "{none}");
}
