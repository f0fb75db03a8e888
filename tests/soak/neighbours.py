"""Shows what a model that wedges, bloats, kills or never loads costs the clients of other models. Run by hand, with a release
build and nothing else on the machine:

    pip install onnx numpy
    python3 tests/soak/neighbours.py target/release/onnxd target/release/loadtest [ATTACK ...]

The load generator asks the models `good` and `other` at a steady rate with 8 connections, over HTTP and gRPC. In every other
round one attacker does its worst beside it, at low priority, since its CPU time is not what is measured. In the rounds between
a client like it sends harmless requests at the same pace:

- wedge: a Loop whose trip count the client gives, with a deadline of 100 ms;
- bomb: a ConstantOfShape of 3 GB;
- killer: an integer Mod of the smallest number by -1, which ends the process that runs it;
- endless_load: a version whose first run never ends is put into the repository.

Printed for each: the p99 of both kinds of rounds and their ratio (the bar is 1.5), the good requests that failed (none may),
whether the server's process is still the same, and its memory before, at its peak, and ten seconds after (the bar is 1.2
times).
"""

import json
import multiprocessing
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

import common

ROUNDS, SECONDS, RATE, CLIENTS = 7, 4, 400, 8


def scalar(name, datatype, shape=()):
    return helper.make_tensor_value_info(name, datatype, shape)


def save(path, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "model", inputs, outputs, list(weights))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def loop(trips, carried):
    """A Loop of that many trips that doubles what it carries."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["still"]), helper.make_node("Add", ["value", "value"], ["sum"])],
        "body",
        [scalar("trip", TensorProto.INT64), scalar("go_on", TensorProto.BOOL), scalar("value", TensorProto.FLOAT, [1])],
        [scalar("still", TensorProto.BOOL), scalar("sum", TensorProto.FLOAT, [1])],
    )
    return helper.make_node("Loop", [trips, "", carried], ["y"], body=body)


def wedge(path):
    vector = [scalar("x", TensorProto.FLOAT, [1])]
    save(path, [loop("trips", "x")], [scalar("trips", TensorProto.INT64), *vector], [scalar("y", TensorProto.FLOAT, [1])])


def endless(path):
    trips = numpy_helper.from_array(numpy.array(2**62, "i8"), "trips")
    x, y = scalar("x", TensorProto.FLOAT, [1]), scalar("y", TensorProto.FLOAT, [1])
    save(path, [loop("trips", "x")], [x], [y], [trips])


def bomb(path):
    node = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    save(path, [node], [scalar("shape", TensorProto.INT64, [1])], [scalar("y", TensorProto.FLOAT, ["n"])])


def killer(path):
    pair = [scalar(name, TensorProto.INT64, ["batch"]) for name in ("a", "b")]
    save(path, [helper.make_node("Mod", ["a", "b"], ["y"])], pair, [scalar("y", TensorProto.INT64, ["batch"])])


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


REQUESTS = {
    "wedge": {
        "inputs": [tensor("trips", "INT64", [], [2**63 - 1]), tensor("x", "FP32", [1], [1])],
        "parameters": {"timeout": 100_000},
    },
    "bomb": {"inputs": [tensor("shape", "INT64", [1], [800_000_000])]},
    "killer": {"inputs": [tensor("a", "INT64", [1], [-(2**63)]), tensor("b", "INT64", [1], [-1])]},
}


HARMLESS = {"inputs": [tensor("x", "FP32", [1, 4], [0, 0, 0, 0])]}


def ask(address, model):
    """The status of an attacker's request, or the error."""
    body = json.dumps(REQUESTS.get(model, HARMLESS)).encode()
    request = urllib.request.Request(f"http://{address}/v2/models/{model}/infer", body)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(error).__name__


def attack(address, model, counts):
    """Asks again and again, until this process is ended."""
    os.nice(10)
    while True:
        told = ask(address, model)
        counts[told] = counts.get(told, 0) + 1
        time.sleep(0.02)


def steady_load(server, loadtest, protocol, model):
    scheme = "grpc" if protocol == "grpc" else "http"
    command = [loadtest, "run", f"{scheme}://{server.addresses[protocol]}/{model}", "--rate", str(RATE)]
    command += ["--connections", str(CLIENTS // 2), "--duration", f"{SECONDS}s", "--warm-up", "1s", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def run_round(server, loadtest):
    """The p99 (ms) of each protocol, and the requests that failed."""
    loads = [steady_load(server, loadtest, *pair) for pair in (("http", "good"), ("grpc", "other"))]
    levels = [json.loads(load.communicate()[0])["levels"][0] for load in loads]
    failed = [(kind, found["first"]) for level in levels for kind, found in level["errors"].items()]
    return [level["latency_ms"]["p99"] for level in levels], failed


def round_beside(server, loadtest, model, counts):
    """A round beside a client that asks a model, if one is given."""
    if model is None:
        return run_round(server, loadtest)
    client = multiprocessing.Process(target=attack, args=(server.addresses["http"], model, counts))
    client.start()
    try:
        return run_round(server, loadtest)
    finally:
        client.kill()
        client.join()


def measure(name, binary, loadtest):
    with tempfile.TemporaryDirectory() as folder:
        repository = pathlib.Path(folder)
        for model in ("good", "other"):
            common.adding(repository, model, 1)
        if name in REQUESTS:
            globals()[name](repository / name / "1" / "model.onnx")
        with common.Server(binary, repository) as server, multiprocessing.Manager() as manager:
            measure_beside(name, server, loadtest, repository, manager.dict())


def measure_beside(name, server, loadtest, repository, counts):
    run_round(server, loadtest)
    before, pairs, failed = server.memory(), [], []
    for number in range(ROUNDS):
        alone, wrong = round_beside(server, loadtest, "other" if name in REQUESTS else None, {})
        failed += wrong
        if name not in REQUESTS:
            endless(repository / name / str(number + 1) / "model.onnx")
        beside, wrong = round_beside(server, loadtest, name if name in REQUESTS else None, counts)
        failed += wrong
        if name not in REQUESTS:
            shutil.rmtree(repository / name)
        pairs.append((alone, beside))
    peak = server.peak_memory()
    time.sleep(10)
    after = server.memory()
    alive = server.process.poll() is None
    for index, protocol in enumerate(("HTTP", "gRPC")):
        alone = statistics.median(pair[0][index] for pair in pairs)
        beside = statistics.median(pair[1][index] for pair in pairs)
        ratios = sorted(round(pair[1][index] / pair[0][index], 2) for pair in pairs)
        print(f"{name}: {protocol} p99 {alone:.2f} ms alone, {beside:.2f} beside: {beside / alone:.2f} times; by round {ratios}")
    print(f"{name}: good requests that failed: {len(failed)} {failed[:3]}; the process lives: {alive}")
    print(f"{name}: memory {before:.0f} MiB before, {peak:.0f} at its peak, {after:.0f} after ({after / before:.2f} times)")
    print(f"{name}: the attacker was answered {dict(counts)}", flush=True)


def main():
    binary, loadtest, *attacks = sys.argv[1:]
    for name in attacks or [*REQUESTS, "endless_load"]:
        measure(name, binary, loadtest)


if __name__ == "__main__":
    main()
