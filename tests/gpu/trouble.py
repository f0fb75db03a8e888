"""Shows on a machine with a GPU what a server does when something is wrong there. `run` calls it.

  tools       what `doctor` and `check` say, and the GPU's figures among the metrics
  messages    devices and options that can't be had fail their model alone, and say why
  full        a GPU whose memory others have taken: what was named waits for it, `auto` takes the CPU, and what waits is loaded later
  swaps       reloads under load fail no request
  inputs      that no kernel bears, and answers that no memory holds, fail alone
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
from onnx import TensorProto, helper

import models
from checks import end, hold, part

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "soak"))
from common import Server  # noqa: E402 (the path is set above)

SAMPLES = pathlib.Path(__file__).parent.parent.parent / "models"


def configured(folder, name, make, config):
    make(pathlib.Path(folder, name, "1", "model.onnx"))
    pathlib.Path(folder, name, "config.toml").write_text(config + "\n")


def small(path):
    models.mlp(path, (32, 64, 64, 2))


def saved(path, nodes, inputs, outputs):
    def described(tensors):
        return [helper.make_tensor_value_info(name, datatype, shape) for name, datatype, shape in tensors]

    graph = helper.make_graph(nodes, "model", described(inputs), described(outputs))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def picking(path):
    """y = x[i], where nothing holds i against the extents of x."""
    node = helper.make_node("GatherND", ["x", "i"], ["y"])
    inputs = [("x", TensorProto.FLOAT, ["n", 4]), ("i", TensorProto.INT64, ["m", 1])]
    saved(path, [node], inputs, [("y", TensorProto.FLOAT, ["m", 4])])


def growing(path):
    """An output as large as the input says."""
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    inputs = [("x", TensorProto.FLOAT, [1]), ("shape", TensorProto.INT64, ["rank"])]
    saved(path, [node], inputs, [("y", TensorProto.FLOAT, None)])


def infer(server, model, **inputs):
    datatypes = {"f": "FP32", "i": "INT64"}
    tensors = [
        {"name": name, "datatype": datatypes[array.dtype.kind], "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in inputs.items()
    ]
    return server.ask("http", "POST", f"/v2/models/{model}/infer", {"inputs": tensors})


def tools(binary):
    def asked(*arguments):
        return subprocess.run([binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    ports = [option for protocol in ("http", "grpc", "metrics", "admin") for option in (f"--{protocol}", "127.0.0.1:0")]
    doctor = asked("doctor", "--device", "cuda", *ports)
    hold("doctor", doctor.returncode == 0, f"exit code {doctor.returncode}\n{doctor.stdout}")
    missing = json.loads(asked("runtime", "--json").stdout)["providers"]["cuda"]["missing"]
    hold("libraries", not missing, f"missing: {missing}")
    checked = asked("check", str(SAMPLES))
    hold("check of the sample models", checked.returncode == 0, f"exit code {checked.returncode}\n{checked.stdout}")
    with Server(binary, SAMPLES) as server:
        devices = [version.get("devices") for model in ("simple", "magika") for version in server.admin("GET", f"/models/{model}")["versions"]]
        print(f"       the sample models run on {devices}")
        names = ("info", "utilization_ratio", "memory_total_bytes", "memory_used_bytes", "power_watts", "power_limit_watts", "energy_joules_total")
        figures = {name: server.metric(f"onnxd_gpu_{name}") for name in names}
        zero = [name for name, value in figures.items() if value <= 0 and name != "utilization_ratio"]
        hold("metrics of GPUs", not zero, figures)


def messages(binary, folder):
    for name, config in (
        ("good", 'device = "cuda"'),
        ("ninth", 'device = "cuda:9"'),
        ("wrong", 'device = "cuda"\n[provider_options]\ngpu_mem_limit = "much"'),
        ("tight", 'device = "cuda"\n[provider_options]\ngpu_mem_limit = 4096'),
        ("tensorrt", 'device = "tensorrt"'),
    ):
        configured(folder, name, small, config)
    with Server(binary, folder) as server:
        for name, says in (("ninth", "there is no GPU 9"), ("wrong", "gpu_mem_limit"), ("tight", "memory"), ("tensorrt", "libnvinfer.so.10")):
            version = server.version(name, 1)
            hold(f"message of {name}", version["state"] == "FAILED" and says in version["problem"], version.get("problem"))
        hold("beside them", server.version("good", 1)["state"] == "READY", server.version("good", 1))


def hog(library, left):
    """Takes the memory of GPU 0 but for so many bytes, and holds it until it is killed."""
    code = f"""
import ctypes, sys, time
cuda = ctypes.CDLL({library!r})
free, total, place = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
print(cuda.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(free.value - {left})), flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    if process.stdout.readline().strip() != "0":
        raise SystemExit("the memory of the GPU could not be taken")
    return process


def full(binary, folder):
    # 1 GiB of weights, where half of that is left.
    def wide(path):
        models.mlp(path, (16384, 16384, 16))

    configured(folder, "named", wide, 'device = "cuda"')
    configured(folder, "auto", wide, "")
    told = json.loads(subprocess.run([binary, "runtime", "--json"], stdout=subprocess.PIPE, check=False).stdout)
    taker = hog(str(pathlib.Path(told["library"]).parent / "libcudart.so.13"), 1 << 30)
    try:
        with Server(binary, folder) as server:
            named, auto = server.version("named", 1), server.version("auto", 1)
            hold("a full GPU, named", named["state"] == "FAILED", named.get("problem"))
            hold("a full GPU, auto", auto.get("devices") == ["cpu"], auto)
            taker.kill()
            taker.wait()
            began = time.monotonic()
            while server.version("named", 1)["state"] != "READY" and time.monotonic() < began + 60:
                time.sleep(0.2)
            named = server.version("named", 1)
            hold("memory comes back", named.get("devices") == ["cuda:0"], f"after {time.monotonic() - began:.1f} s: {named}")
    finally:
        taker.kill()


def swaps(binary, program, folder):
    for name, config in (("recorded", 'device = "cuda"'), ("plain", 'device = "cuda"\ncuda_graphs = false')):
        configured(folder, name, models.conv_net, config)
    with Server(binary, folder) as server:
        for name in ("recorded", "plain"):
            target = f"grpc://{server.addresses['grpc']}/{name}"
            command = [program, "run", target, "--clients", "64", "--connections", "8", "--json", "--duration", "10s", "--warm-up", "1s"]
            # Recorded and other runs may pick other kernels, whose sums end otherwise in the last bits.
            load = subprocess.Popen([*command, "--no-check"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            done = 0
            while load.poll() is None:
                server.reload(name, 1)
                done += 1
            level = json.loads(load.stdout.read())["levels"][0]
            told = f"{done} reloads, {level['requests_per_second']:.0f} requests/s, p99 {level['latency_ms']['p99']:.1f} ms, errors {level['errors']}"
            hold(f"swaps of {name}", done > 3 and not level["errors"], told)


def inputs(binary, folder):
    configured(folder, "picking", picking, 'device = "cuda"')
    configured(folder, "growing", growing, 'device = "cuda"')
    configured(folder, "other", small, 'device = "cuda"')
    with Server(binary, folder) as server:
        for name in ("picking", "growing", "other"):
            print(f"       {name}: {server.version(name, 1)}")
        row = numpy.ones((1, 32), "f4")
        expected = infer(server, "other", x=row)

        def goes_on(what):
            found = infer(server, "other", x=row)
            hold(f"another model after {what}", found[0] == 200 and found[1]["outputs"] == expected[1]["outputs"], found)

        one = numpy.ones(1, "f4")
        for shape in ([1 << 20, 1 << 20], [1 << 40, 1 << 22], [-1, 3]):
            status, told = infer(server, "growing", x=one, shape=numpy.array(shape, "i8"))
            hold(f"an output of {shape}", status in (400, 500, 503), f"HTTP {status}: {told}")
        status, told = infer(server, "growing", x=one, shape=numpy.array([2, 2], "i8"))
        hold("a small output after it", status == 200, told)
        goes_on("an output too large")
        rows = numpy.arange(16, dtype="f4").reshape(4, 4)
        status, told = infer(server, "picking", x=rows, i=numpy.array([[2]], "i8"))
        hold("an index within", status == 200 and told["outputs"][0]["data"] == [8, 9, 10, 11], told)
        for index in (5, 1 << 20, 1 << 40):
            print(f"       index {index}: {infer(server, 'picking', x=rows, i=numpy.array([[index]], 'i8'))}")
            print(f"       ready: {server.ask('http', 'GET', '/v2/health/ready')}, live: {server.ask('http', 'GET', '/v2/health/live')}")
            print(f"       states: {[server.version(name, 1)['state'] for name in ('picking', 'growing', 'other')]}")
            goes_on(f"the index {index}")
        for line in server.log[-12:]:
            print("       " + line.strip())


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("onnxd")
    arguments.add_argument("loadtest")
    arguments = arguments.parse_args()
    part(tools, arguments.onnxd)
    for shown, needed in ((messages, ()), (full, ()), (swaps, (arguments.loadtest,)), (inputs, ())):
        with tempfile.TemporaryDirectory() as folder:
            part(shown, arguments.onnxd, *needed, folder)
    end()


main()
