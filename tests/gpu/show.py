"""Shows that models serve on a GPU as on the CPU, as fast as ONNX Runtime by itself, and leave nothing behind. `run` calls it.

What is told, with its bar:
  answers     the GPU's against the CPU's, for several sizes of batches, also with recorded runs (CUDA graphs); and that they ran there
  throughput  rows per second of a conv net against ONNX Runtime's own over IoBinding at its best batch, of two threads: at least
              0.85, and 0.95 with three instances
  sizes       of batches, which change from one to the next under little load: several clients get 1.5 times the rows of one
  latency     of one client, against ONNX Runtime's own run of one row (told, without a bar)
  copies      of a model whose copies take about as long as its runs: rows per second with overlapping runs, against one at a time;
              and, where nsys is installed, how much of the time of copies to the GPU lies within that of kernels (over 0.3)
  reloads     1,000, and 100 of a model whose runs are recorded: memory of the GPU and of the process after the last against that
              after a twentieth, at most 1.05 and 1.1 times
"""

import argparse
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

import numpy

import models
import raw
from checks import end, hold, part

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "soak"))
from common import Server  # noqa: E402 (the path is set above)

IMAGE = (3, models.SIDE, models.SIDE)
WIDE = (16384,)

# A model by name: its file's maker, the shape of a row, its configuration.
REPOSITORY = {
    "conv-cpu": (models.conv_net, IMAGE, 'device = "cpu"'),
    "conv": (models.conv_net, IMAGE, 'device = "cuda"'),
    "conv-tf32": (models.conv_net, IMAGE, 'device = "cuda"\nprovider_options = { use_tf32 = true }'),
    "conv-three": (models.conv_net, IMAGE, 'device = "cuda"\ninstances = 3'),
    # As a server would be that takes batches as they come.
    "conv-joined": (models.conv_net, IMAGE, 'device = "cuda"\ncuda_graphs = false\nbatching = "on"'),
    "wide": (lambda path: models.mlp(path, (*WIDE, 4096, 16)), WIDE, 'device = "cuda"'),
    "wide-one": (lambda path: models.mlp(path, (*WIDE, 4096, 16)), WIDE, 'device = "cuda"\ninstances = 1'),
}

def build(folder):
    for name, (make, _, config) in REPOSITORY.items():
        make(pathlib.Path(folder, name, "1", "model.onnx"))
        pathlib.Path(folder, name, "config.toml").write_text(config + "\n")


def answer(server, model, batch):
    tensor = {"name": "x", "datatype": "FP32", "shape": list(batch.shape), "data": batch.ravel().tolist()}
    status, told = server.ask("http", "POST", f"/v2/models/{model}/infer", {"inputs": [tensor]})
    if status != 200:
        raise SystemExit(f"{model}: HTTP {status}: {told}")
    output = told["outputs"][0]
    return numpy.array(output["data"], "f4").reshape(output["shape"])


def answers(server):
    random = numpy.random.default_rng(3)
    for rows in (1, 3, 8):
        batch = random.standard_normal((rows, *IMAGE)).astype("f4")
        expected = answer(server, "conv-cpu", batch)
        scale = numpy.abs(expected).max()
        # With TF32 a product has 10 bits of mantissa.
        for model, most in (("conv", 1e-4), ("conv-joined", 1e-4), ("conv-tf32", 1e-2)):
            worst = numpy.abs(answer(server, model, batch) - expected).max() / scale
            hold(f"answers of {model}, {rows} rows", worst <= most, f"differ by {worst:.1e} of the largest value, at most {most}")


def load(program, server, model, clients):
    """What a load of requests of one row sees."""
    target = f"grpc://{server.addresses['grpc']}/{model}"
    command = [program, "run", target, "--clients", str(clients), "--connections", "8", "--no-check", "--json"]
    command += ["--duration", f"{arguments.seconds}s", "--warm-up", "2s"]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    level = json.loads(told)["levels"][0]
    if level["errors"]:
        raise SystemExit(f"{model}: {level['errors']}")
    return level


def served(program, server, model, clients):
    """Rows per second."""
    return load(program, server, model, clients)["requests_per_second"]


def by_itself(binary, folder, options):
    """ONNX Runtime's own session of the conv net, over the libraries that the server uses."""
    told = json.loads(subprocess.run([binary, "runtime", "--json"], stdout=subprocess.PIPE, check=False).stdout)
    return raw.session(str(pathlib.Path(folder, "conv", "1", "model.onnx")), options, str(pathlib.Path(told["library"]).parent))


def throughput(server, binary, program, folder):
    # With the options that a server has where nothing is said; ONNX Runtime's own are told too.
    session = by_itself(binary, folder, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
    bound, rows = raw.best(session, IMAGE)
    own = raw.best(by_itself(binary, folder, {}), IMAGE)
    print("       ONNX Runtime by itself with its own defaults: {:.0f} rows/s (batches of {})".format(*own))
    # Twice what the batches hold that are under way: others gather meanwhile.
    for model, instances, least in (("conv", 2, 0.85), ("conv-three", 3, 0.95)):
        rates = [served(program, server, model, 2 * instances * rows) for _ in range(3)]
        rate = sorted(rates)[1]
        told = f"{rate:.0f} rows/s against {bound:.0f} of ONNX Runtime by itself (batches of {rows}): {rate / bound:.2f}"
        hold(f"throughput of {instances} instances", rate >= least * bound, told)
    print(f"       without recorded runs: {served(program, server, 'conv-joined', 4 * rows):.0f} rows/s")
    median, rested = (raw.latency(session, IMAGE, pause) * 1e6 for pause in (0, 0.0005))
    one, joined = (load(program, server, model, 1)["latency_ms"]["p50"] * 1e3 for model in ("conv", "conv-joined"))
    print(f"       one client: p50 {one:.0f} us, without recorded runs {joined:.0f} us")
    print(f"       ONNX Runtime by itself: {median:.0f} us, {rested:.0f} us where the GPU has rested for half a millisecond")


def sizes(server, program):
    """Batches under a load that does not fill them have a size of their own each."""
    one = served(program, server, "conv", 1)
    for clients in (4, 16, 48):
        rate, joined = (served(program, server, model, clients) for model in ("conv", "conv-joined"))
        told = f"{rate:.0f} rows/s, without recorded runs {joined:.0f}; one client {one:.0f}"
        hold(f"sizes of batches, {clients} clients", rate >= 1.5 * one, told)


def copies(server, binary, program, folder):
    one, several = (served(program, server, model, 256) for model in ("wide-one", "wide"))
    hold("copies", several >= one, f"{several:.0f} rows/s with overlapping runs against {one:.0f} of one at a time")
    if not shutil.which("nsys"):
        print("       nsys is not installed: no profile")
        return
    with tempfile.TemporaryDirectory() as work:
        report = str(pathlib.Path(work, "report"))
        profiled = ["nsys", "profile", "--trace=cuda", "--sample=none", "--export=sqlite", "--duration=30", f"--output={report}"]
        wrapper = pathlib.Path(work, "onnxd")
        wrapper.write_text("#!/bin/sh\nexec " + " ".join(profiled) + f" {pathlib.Path(binary).resolve()} \"$@\"\n")
        wrapper.chmod(0o755)
        with Server(str(wrapper), folder) as under_nsys:
            served(program, under_nsys, "wide", 256)
            under_nsys.process.wait()
        share = overlapping(report + ".sqlite")
    hold("copies in a profile", share > 0.3, f"{share:.0%} of the time of copies to the GPU lies within that of kernels")


def overlapping(file):
    with sqlite3.connect(file) as profile:
        # 1: from the host to the device.
        copied = profile.execute("SELECT start, end FROM CUPTI_ACTIVITY_KIND_MEMCPY WHERE copyKind = 1 ORDER BY start").fetchall()
        ran = profile.execute("SELECT start, end FROM CUPTI_ACTIVITY_KIND_KERNEL ORDER BY start").fetchall()
    total = sum(end - start for start, end in copied)
    within, first = 0, 0
    for start, end in copied:
        while first < len(ran) and ran[first][1] <= start:
            first += 1
        index = first
        while index < len(ran) and ran[index][0] < end:
            within += min(end, ran[index][1]) - max(start, ran[index][0])
            index += 1
    return within / total if total else 0.0


def reloads(server, model, count):
    def look(done):
        # Small amounts of memory are given back, and idle threads end, after 10 s.
        time.sleep(12)
        seen = server.memory(), server.metric("onnxd_gpu_memory_used_bytes") / (1 << 20), server.descriptors(), server.threads()
        print(f"       after {done} reloads of {model}: {seen[0]:.0f} MiB, on GPUs {seen[1]:.0f} MiB, {seen[2]} descriptors, {seen[3]} threads", flush=True)
        return seen

    for done in range(1, count + 1):
        server.reload(model, 1)
        if done == max(count // 20, 5):
            first = look(done)
    last = look(count)
    hold(f"reloads of {model}, memory", last[0] <= 1.1 * first[0], f"{last[0] / first[0]:.3f} times")
    hold(f"reloads of {model}, memory of GPUs", last[1] <= 1.05 * first[1], f"{last[1] / first[1]:.3f} times")
    hold(f"reloads of {model}, descriptors and threads", last[2] <= first[2] and last[3] <= first[3], f"{first[2:]} then {last[2:]}")


def main():
    binary, program = arguments.onnxd, arguments.loadtest
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        with Server(binary, folder) as server:
            for model, (_, _, config) in REPOSITORY.items():
                version = server.version(model, 1)
                wanted = "cpu" if '"cpu"' in config else "cuda"
                devices = version.get("devices", [])
                hold(f"device of {model}", bool(devices) and all(name.startswith(wanted) for name in devices), devices)
            told = server.ask("http", "GET", "/v2/models/conv")[1]["properties"]
            hold("conv replays recorded runs unasked", told.get("cuda_graphs") == "on", told)
            for name, shown, needed in (
                ("answers", answers, ()),
                ("throughput", throughput, (binary, program, folder)),
                ("sizes", sizes, (program,)),
                ("copies", copies, (binary, program, folder)),
                ("reloads", reloads, ("conv-joined", arguments.reloads)),
                # Each records runs of all sizes, for which two seconds go by.
                ("reloads", reloads, ("conv", arguments.reloads // 10)),
            ):
                if name in arguments.parts:
                    part(shown, server, *needed)
    end()


def parsed():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("onnxd")
    arguments.add_argument("loadtest")
    arguments.add_argument("--reloads", type=int, default=1000, help="of a model; a tenth of one whose runs are recorded")
    arguments.add_argument("--seconds", type=int, default=5, help="that each load is measured")
    arguments.add_argument("--parts", nargs="*", default=["answers", "throughput", "sizes", "copies", "reloads"])
    return arguments.parse_args()


arguments = parsed()
main()
