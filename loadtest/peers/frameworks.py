"""The peers: what each is asked over, its settings, and how it is started. README.md says why they are set so."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from servers import Launch

HERE = pathlib.Path(__file__).parent
MODEL = "mlp"


@dataclass(frozen=True)
class Place:
    """What a peer is started with."""

    folder: pathlib.Path
    """Its own, to write to."""
    venv: pathlib.Path
    model: pathlib.Path
    """The file."""
    http: int
    grpc: int
    spare: int
    """Port for metrics."""
    settings: dict[str, str]


@dataclass(frozen=True)
class Peer:
    """A server that is measured against."""

    name: str
    package: str
    """As PyPI calls it: its version is reported."""
    protocols: tuple[str, ...]
    settings: dict[str, str]
    ready: str
    """Path that answers with 200 when it is."""
    launch: Callable[[Place], Launch]


def environment(place: Place) -> dict[str, str]:
    """Settings for the scripts that are servers, and one thread for whatever else would start more."""
    settings = {f"PEER_{name.upper()}": value for name, value in place.settings.items()}
    return {**settings, "PEER_MODEL": str(place.model), "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


def triton(place: Place) -> Launch:
    """Triton's own binary and Python backend, as they are in PyTriton's package, without PyTriton between."""
    repository = place.folder / "repository"
    version = repository / MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "triton_model.py", version / "model.py")
    shutil.copy(place.model, version / "model.onnx")
    delay = place.settings["delay_us"]
    (repository / MODEL / "config.pbtxt").write_text(
        f"""
name: "{MODEL}"
backend: "python"
max_batch_size: {place.settings["batch"]}
input [{{ name: "x", data_type: TYPE_FP32, dims: [32] }}]
output [{{ name: "y", data_type: TYPE_FP32, dims: [2] }}]
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
instance_group [{{ kind: KIND_CPU, count: {place.settings["instances"]} }}]
parameters {{ key: "threads", value: {{ string_value: "{place.settings["threads"]}" }} }}
"""
    )
    packages, version_of_python, libraries = python_of(place.venv)
    home = packages / "pytriton" / "tritonserver"
    # The stub is what runs Python; the package has one for each version of it, and Triton looks beside the backend.
    stub = home / "backends" / "python" / "triton_python_backend_stub"
    shutil.copy(home / "python_backend_stubs" / version_of_python / stub.name, stub)
    stub.chmod(0o755)
    arguments = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={home / 'backends'}",
        *["--http-address=127.0.0.1", f"--http-port={place.http}"],
        *["--grpc-address=127.0.0.1", f"--grpc-port={place.grpc}"],
        *["--metrics-address=127.0.0.1", f"--metrics-port={place.spare}"],
        "--allow-gpu-metrics=false",
    ]
    paths = {"PEER_PACKAGES": str(packages), "LD_LIBRARY_PATH": libraries}
    return Launch(arguments, place.folder, {**environment(place), **paths})


def python_of(venv: pathlib.Path) -> tuple[pathlib.Path, str, str]:
    """Folder of a venv's packages, the version of its Python, and the folder of its library."""
    code = "import sysconfig as s; print(s.get_path('purelib'), s.get_python_version(), s.get_config_var('LIBDIR'))"
    told = subprocess.run([venv / "bin" / "python", "-c", code], check=True, capture_output=True, text=True).stdout
    packages, version, libraries = told.split()
    return pathlib.Path(packages), version, libraries


def mlserver(place: Place) -> Launch:
    """MLServer with a custom runtime."""
    models = place.folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": place.http,
        "grpc_port": place.grpc,
        "metrics_port": place.spare,
        "parallel_workers": int(place.settings["workers"]),
    }
    model = {
        "name": MODEL,
        "implementation": "mlserver_model.OnnxModel",
        "parameters": {"uri": str(place.model), "version": "1"},
        "max_batch_size": int(place.settings["batch"]),
        "max_batch_time": float(place.settings["delay"]),
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 32]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    (models / "settings.json").write_text(json.dumps(settings))
    (models / "model-settings.json").write_text(json.dumps(model))
    return Launch([str(place.venv / "bin" / "mlserver"), "start", str(models)], place.folder, environment(place))


def litserve(place: Place) -> Launch:
    """LitServe with the V2 protocol's JSON as its API."""
    arguments = [str(place.venv / "bin" / "python"), str(HERE / "litserve_server.py"), "--port", str(place.http)]
    return Launch(arguments, place.folder, environment(place))


def bentoml(place: Place) -> Launch:
    """BentoML with the V2 protocol's JSON as its API."""
    variables = {"BENTOML_HOME": str(place.folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    path = f"{place.venv / 'bin'}:{os.environ['PATH']}"
    arguments = [str(place.venv / "bin" / "bentoml"), "serve", "bentoml_service:Mlp"]
    arguments += ["--working-dir", str(HERE), "--host", "127.0.0.1", "--port", str(place.http)]
    return Launch(arguments, place.folder, {**environment(place), **variables, "PATH": path})


PEERS = [
    Peer(
        "triton",
        "nvidia-pytriton",
        ("grpc", "http", "http+json"),
        {"instances": "1", "threads": "1", "batch": "64", "delay_us": "0"},
        "/v2/health/ready",
        triton,
    ),
    Peer(
        "mlserver",
        "mlserver",
        ("grpc", "http+json"),
        {"workers": "0", "threads": "1", "batch": "64", "delay": "0.0002"},
        f"/v2/models/{MODEL}/ready",
        mlserver,
    ),
    Peer(
        "litserve",
        "litserve",
        ("http+json",),
        {"workers": "2", "api_servers": "2", "threads": "1", "batch": "64", "delay": "0.001", "fast_queue": "0"},
        "/health",
        litserve,
    ),
    Peer(
        "bentoml",
        "bentoml",
        ("http+json",),
        {"workers": "2", "threads": "1", "batch": "64", "max_latency_ms": "1000"},
        "/readyz",
        bentoml,
    ),
]
