"""Runs ONNX's backend node tests through a server, over HTTP and gRPC. Answers must be ONNX Runtime's, bit for bit:

    python3 tests/soak/node_tests.py --binary target/release/onnxd [--sample 100] [--seed 1] [--only SUBSTRING] [--json FILE]

Needs what `tests/soak/requirements.txt` names. The tests are those of the package onnx that ONNX Runtime runs in Python,
with the same library version and session options as the server. The script reports refusals by reason, tests that ONNX Runtime does
not run, and differences. It fails where an answer differs, is missing, or the server ends."""

import argparse
import collections
import concurrent.futures
import http.client
import itertools
import json
import pathlib
import pickle
import random
import re
import sys
import tempfile
import warnings

import grpc
import numpy
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from tritonclient.grpc import service_pb2, service_pb2_grpc

import common
from operators import NAMES, body_of, datatype, elements

MODELS_PER_SERVER = 200
ANSWER_TIMEOUT_SECONDS = 30
REFERENCE_TIMEOUT_SECONDS = 60
# The server aligns its inputs to this many bytes.
ALIGNMENT = 64

# The datatypes that the protocol carries, by ONNX's number.
CARRIED = {
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.STRING, TensorProto.INT8,
    TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}


class Case:
    """A node test: its model, and inputs and expected outputs for each of its data sets."""

    def __init__(self, name, model, data_sets):
        self.name, self.model, self.data_sets = name, model, data_sets
        self.folder = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        self.unservable, self.expected = None, []


class Report:
    """Outcomes by test: equal, refused, not run by ONNX Runtime, and failures."""

    def __init__(self):
        self.equal, self.skipped, self.refused, self.failures = [], collections.defaultdict(list), collections.defaultdict(list), []

    def fail(self, name, reason):
        self.failures.append((name, reason))
        print(f"FAILED: {name}: {reason}", file=sys.stderr, flush=True)

    def text(self):
        lines = [f"not run by ONNX Runtime ({len(names)}): {reason}: {', '.join(names[:4])}" for reason, names in largest_first(self.skipped)]
        lines += [f"refused ({len(names)}): {reason}: {', '.join(names[:4])}" for reason, names in largest_first(self.refused)]
        lines += [f"FAILED: {name}: {reason}" for name, reason in self.failures]
        counts = [len(self.equal), sum(map(len, self.refused.values())), sum(map(len, self.skipped.values())), len(self.failures)]
        return "\n".join([*lines, "{} equal over HTTP and gRPC, {} refused, {} not run by ONNX Runtime, {} failed".format(*counts)])

    def json(self):
        return {"equal": self.equal, "refused": self.refused, "not_run": self.skipped, "failed": self.failures}


def largest_first(groups):
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def node_tests():
    """The node tests of the package onnx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        for test in load_model_tests(kind="node"):
            yield Case(test.name, test.model, [inputs for inputs, _ in test.data_sets or []])


def aligned(array):
    """A copy of an array at an address that is a multiple of 64: ONNX Runtime's sums depend on the address."""
    if array.dtype == object:
        return array
    room = numpy.empty(array.nbytes + ALIGNMENT, numpy.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def unservable_form(model):
    """The reason why the protocol can't carry a model's inputs or outputs, or nothing."""
    for info in [*model.graph.input, *model.graph.output]:
        form = info.type.WhichOneof("value")
        if form != "tensor_type":
            return f"a {form.removesuffix('_type')} as input or output"
        if info.type.tensor_type.elem_type not in CARRIED:
            return f"datatype {TensorProto.DataType.Name(info.type.tensor_type.elem_type)}"
    return None


def arrays(model, values):
    """A data set as arrays by input name; strings are objects."""
    given = {}
    for info, value in zip(model.graph.input, values):
        array = numpy.asarray(numpy_helper.to_array(value) if isinstance(value, TensorProto) else value)
        given[info.name] = array.astype(object) if array.dtype.kind in "USO" else array
    return given


def reference(data):
    """ONNX Runtime's outputs by name for each data set, in two sessions: random operators show themselves. Runs in a process of its own."""
    model, data_sets = pickle.loads(data)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    data_sets = [{name: aligned(array) for name, array in inputs.items()} for inputs in data_sets]
    runs = []
    for _ in range(2):
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        runs.append([dict(zip(names, session.run(names, inputs))) for inputs in data_sets])
    return runs


class Reference:
    """ONNX Runtime in a child process, which a test may end."""

    def __init__(self):
        self.pool = None

    def outputs(self, model, data_sets):
        self.pool = self.pool or concurrent.futures.ProcessPoolExecutor(1)
        try:
            data = pickle.dumps((model.SerializeToString(), data_sets))
            return self.pool.submit(reference, data).result(REFERENCE_TIMEOUT_SECONDS)
        except concurrent.futures.process.BrokenProcessPool:
            self.pool = None
            raise RuntimeError("it ends the process") from None


def same_bits(got, expected):
    """True where datatype, shape and all bits are the same."""
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if expected.dtype == object:
        encoded = [value if isinstance(value, bytes) else str(value).encode() for value in expected.ravel()]
        return list(got.ravel()) == encoded
    return got.tobytes() == expected.tobytes()


def decoded(kind, shape, data):
    """The array of an output as it travels."""
    if kind == "BYTES":
        values, place = [], 0
        while place < len(data):
            length = int.from_bytes(data[place : place + 4], "little")
            values.append(data[place + 4 : place + 4 + length])
            place += 4 + length
        array = numpy.empty(len(values), object)
        array[:] = values
    else:
        dtypes = {name: dtype for dtype, name in NAMES.items() if dtype != "object"}
        if kind == "BF16":
            import ml_dtypes

            dtypes["BF16"] = ml_dtypes.bfloat16
        array = numpy.frombuffer(data, numpy.dtype(dtypes.get(kind, kind.lower())))
    return array.reshape(shape)


class Refused(Exception):
    """The server answered with an error."""


class Http:
    """Requests with binary tensors over HTTP."""

    name = "HTTP"

    def __init__(self, server):
        self.connection = http.client.HTTPConnection(server.addresses["http"], timeout=ANSWER_TIMEOUT_SECONDS)

    def infer(self, model, inputs):
        body, length = body_of(inputs)
        self.connection.request("POST", f"/v2/models/{model}/infer", body, {"Inference-Header-Content-Length": str(length)})
        response = self.connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise Refused(f"{response.status}: {json.loads(data).get('error', '')}")
        length = int(response.getheader("Inference-Header-Content-Length", len(data)))
        place, outputs = length, {}
        for output in json.loads(data[:length])["outputs"]:
            end = place + output["parameters"]["binary_data_size"]
            outputs[output["name"]] = decoded(output["datatype"], output["shape"], data[place:end])
            place = end
        return outputs


class Grpc:
    """Requests with raw contents over gRPC."""

    name = "gRPC"

    def __init__(self, server):
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(server.addresses["grpc"]))

    def infer(self, model, inputs):
        request = service_pb2.ModelInferRequest(model_name=model)
        for name, array in inputs.items():
            request.inputs.add(name=name, datatype=datatype(array), shape=array.shape)
            request.raw_input_contents.append(elements(array))
        try:
            answer = self.stub.ModelInfer(request, timeout=ANSWER_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE and "onnect" in error.details():
                raise ConnectionError(error.details()) from None
            raise Refused(f"{error.code().name}: {error.details()}") from None
        return {output.name: decoded(output.datatype, list(output.shape), data) for output, data in zip(answer.outputs, answer.raw_output_contents)}


def prepared(cases, report):
    """The cases that ONNX Runtime runs and that the protocol can carry, with the outputs expected."""
    runtime = Reference()
    for case in cases:
        form = unservable_form(case.model)
        if not case.data_sets:
            report.skipped["no data"].append(case.name)
            continue
        try:
            if form:
                onnxruntime.InferenceSession(case.model.SerializeToString(), providers=["CPUExecutionProvider"])
                case.unservable = form
                yield case
                continue
            case.data_sets = [arrays(case.model, values) for values in case.data_sets]
            first, second = runtime.outputs(case.model, case.data_sets)
        except Exception as error:
            report.skipped[reason_of(str(error))].append(case.name)
            continue
        if not all(same_bits(one[name], other[name]) for one, other in zip(first, second) for name in one if one[name].dtype != object):
            report.skipped["its outputs are random"].append(case.name)
            continue
        case.expected = first
        yield case


def reason_of(message):
    """An error without what names the one test."""
    newer = re.search(r"Opset \d+ is under development|[Uu]nsupported model IR version", message)
    if newer:
        return f"made for a newer ONNX Runtime: {newer.group(0)}"
    message = re.sub(r"/onnxruntime_src/\S+ .*?\) (?:const )?(?:\[with .*?\] )?", "", message)
    message = re.sub(r"Load model from .*? failed:|\S+/model\.onnx: ", "", message).split("\n")[0]
    message = re.sub(r"[Nn]ode ?[(:].*?[):]|'[^']*'|\"[^\"]*\"|`[^`]*`|\d+", "_", message)
    return message[:110]


def compare(server, case, report):
    """Asks for every data set in both ways. A model that the protocol can't carry must have a problem that says so."""
    problem = server.version(case.folder, 1).get("problem")
    if problem or case.unservable:
        text = problem if isinstance(problem, str) else json.dumps(problem)
        report.refused[f"{case.unservable or 'failed to load'}: {reason_of(text)}" if problem else f"{case.unservable}: it is served"].append(case.name)
        return
    for way in (Http(server), Grpc(server)):
        for inputs, expected in zip(case.data_sets, case.expected):
            try:
                got = way.infer(case.folder, inputs)
            except Refused as refusal:
                report.refused[reason_of(str(refusal).split(": ", 1)[1].replace(case.folder, "_"))].append(case.name)
                return
            if list(got) != list(expected):
                report.fail(case.name, f"{way.name}: outputs {list(got)}, expected {list(expected)}")
                return
            for name, array in expected.items():
                if not same_bits(got[name], numpy.asarray(array)):
                    report.fail(case.name, f"{way.name}: {name} differs: {got[name].dtype}{list(got[name].shape)} {got[name].ravel()[:4]}, expected {array.dtype}{list(array.shape)} {array.ravel()[:4]}")
                    return
    report.equal.append(case.name)


def serve(binary, cases, report, options):
    """Has a server load the cases and compares its answers. A server that ends is started again without the case that ended it."""
    with tempfile.TemporaryDirectory() as repository:
        for case in cases:
            path = pathlib.Path(repository, case.folder, "1", "model.onnx")
            path.parent.mkdir(parents=True)
            onnx.save(case.model, path)
        try:
            server = common.Server(binary, repository, *options)
        except SystemExit as ended:
            if len(cases) == 1:
                report.fail(cases[0].name, f"the server ended while it was loaded: {ended}")
                return
            half = len(cases) // 2
            serve(binary, cases[:half], report, options)
            serve(binary, cases[half:], report, options)
            return
        with server:
            for index, case in enumerate(cases):
                try:
                    compare(server, case, report)
                except (OSError, http.client.HTTPException) as error:
                    report.fail(case.name, f"no answer: {error!r}")
                    if server.process.poll() is not None:
                        serve(binary, cases[index + 1 :], report, options)
                        return


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the server")
    parser.add_argument("--sample", type=int, default=0, help="so many tests that ONNX Runtime runs, chosen by the seed; all without it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="tests whose name holds this")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the outcome of each test")
    parser.add_argument("--option", action="append", default=[], help="an option for the server, such as --option=--io-threads=1")
    given = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    cases = [case for case in node_tests() if given.only in case.name]
    report = Report()
    if given.sample:
        random.Random(given.seed).shuffle(cases)
    waiting = list(itertools.islice(prepared(cases, report), given.sample or None))
    for start in range(0, len(waiting), MODELS_PER_SERVER):
        serve(given.binary, waiting[start : start + MODELS_PER_SERVER], report, given.option)
        print(f"{min(start + MODELS_PER_SERVER, len(waiting))} of {len(waiting)} tests", file=sys.stderr, flush=True)
    if given.json:
        given.json.write_text(json.dumps(report.json(), indent=1) + "\n")
    print(report.text())
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
