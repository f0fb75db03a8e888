"""What the soaks share: a server on ports of its own, its admin API, its process, and models."""

import ctypes
import http.client
import json
import os
import pathlib
import platform
import re
import struct
import subprocess
import tempfile
import threading
import time

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


def step_aside():
    """Lets the server and the load go before this thread, whose work would be another machine's: at nice 10, and with long
    slices, from which whoever wakes up takes the CPU at once (Linux 6.12 and later)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    sched_setattr, keep_policy, nanoseconds = {"x86_64": 314, "aarch64": 274}.get(platform.machine()), 0x08, 100_000_000
    if sched_setattr:
        attributes = struct.pack("IIQiIQQQ", 48, 0, keep_policy, 10, 0, nanoseconds, 0, 0)
        ctypes.CDLL(None).syscall(sched_setattr, 0, attributes, 0)


class Server:
    """A running `onnxd`, on free ports, with a state folder of its own that outlives it."""

    def __init__(self, binary, repository, *options, state=None):
        self.state = state or tempfile.mkdtemp()
        free = "127.0.0.1:0"
        command = [binary, "serve", str(repository), "--http", free, "--grpc", free, "--metrics", free, "--admin", free]
        command += ["--state-dir", self.state, "--poll-interval", "200ms", "--log-format", "json", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.addresses, self.connections, self.log = {}, threading.local(), []
        for line in self.process.stderr:
            self.log.append(line)
            line = json.loads(line)
            if line["message"] == "listening":
                self.addresses[line["protocol"]] = line["address"]
            if line["target"] == "onnxd::server" and line["message"].startswith(("ready", "not ready")):
                break
        else:
            raise SystemExit(f"the server did not start: exit code {self.process.wait()}")
        # A pipe that nobody reads would hold the server up.
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, port, method, path, body=None):
        """Status and JSON of an answer, by a connection that the thread keeps."""
        kept = vars(self.connections)
        if port not in kept:
            kept[port] = http.client.HTTPConnection(self.addresses[port], timeout=60)
        try:
            body = None if body is None else json.dumps(body)
            kept[port].request(method, path, body, {"Content-Type": "application/json"})
            answer = kept[port].getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException):
            kept.pop(port).close()
            raise

    def admin(self, method, path, body=None):
        """The answer of the admin API; anything but success ends the soak."""
        status, answer = self.ask("admin", method, f"/admin/v1{path}", body)
        if status != 200:
            raise SystemExit(f"{method} {path}: HTTP {status}: {answer}")
        return answer

    def version(self, model, version):
        """What the admin API says of a version."""
        versions = self.admin("GET", f"/models/{model}")["versions"]
        return next(found for found in versions if found["version"] == version)

    def reload(self, model, version):
        """Loads a version anew and waits until that serves."""
        before = self.version(model, version)["generation"]
        self.admin("POST", f"/models/{model}/versions/{version}/reload", {"actor": "soak"})
        self.wait(model, version)
        now = self.version(model, version)
        if now["generation"] == before or now.get("problem"):
            raise SystemExit(f"{model} version {version} was not loaded anew: {now}")

    def wait(self, model, version):
        """Waits until a version is ready."""
        self.admin("GET", f"/models/{model}/wait?version={version}&timeout=60s")

    def metric(self, name, *labels):
        """The sum of the series of that name that have these labels."""
        connection = http.client.HTTPConnection(self.addresses["metrics"])
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        series = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in series if all(label in line for label in labels))

    def memory(self):
        """Resident memory, in MiB."""
        return self.memory_field("VmRSS")

    def peak_memory(self):
        """The most resident memory that there ever was, in MiB."""
        return self.memory_field("VmHWM")

    def memory_field(self, field):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(rf"{field}:\s+(\d+) kB", status.read()).group(1)) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


def save(path, nodes, weights, inputs, outputs):
    def described(tensors):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, width in tensors]

    graph = helper.make_graph(nodes, "model", described(inputs), described(outputs), weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def adding(repository, model, version):
    """A version that adds its number to what it is given: answers tell which version gave them."""
    number = numpy_helper.from_array(numpy.full(4, version, "f4"), "number")
    node = helper.make_node("Add", ["x", "number"], ["y"])
    save(pathlib.Path(repository, model, str(version), "model.onnx"), [node], [number], [("x", 4)], [("y", 4)])


def heavy(repository, model, version, mebibytes):
    """A version whose one weight has that size."""
    width = mebibytes * (1 << 20) // 4 // 1024
    weight = numpy_helper.from_array(numpy.random.default_rng(1).standard_normal((1024, width), "f4"), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    save(pathlib.Path(repository, model, str(version), "model.onnx"), [node], [weight], [("x", 1024)], [("y", width)])


class Checkers:
    """Clients that ask a model made by `adding`, at an easy pace, and hold every answer to the version that it names."""

    def __init__(self, server, model, ready, clients=4):
        self.asked, self.wrong, self.stopped = 0, [], threading.Event()
        arguments = (server.addresses["http"], f"/v2/models/{model}/infer", ready)
        self.tasks = [threading.Thread(target=self.check, args=arguments) for _ in range(clients)]
        for task in self.tasks:
            task.start()

    def check(self, address, path, ready):
        step_aside()
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]})
        connection = http.client.HTTPConnection(address, timeout=60)
        while not self.stopped.wait(0.02):
            self.asked += 1
            try:
                connection.request("POST", path, body)
                answer = connection.getresponse()
                told = json.loads(answer.read())
                version = int(told["model_version"])
                good = version in ready and told["outputs"][0]["data"] == [version] * 4
                if not good or answer.getheader("onnxd-model-version") != str(version):
                    self.wrong.append(told)
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                connection.close()

    def end(self):
        self.stopped.set()
        for task in self.tasks:
            task.join()
        return self.asked, self.wrong
