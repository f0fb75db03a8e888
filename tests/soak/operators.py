"""Sends hostile requests to models of single operators, for every operator of ONNX Runtime's CPU build. The server must live:

    python3 tests/soak/operators.py --binary target/release/onnxd [--operators Mod,STFT] [--requests 40] [--seed 1]
    python3 tests/soak/operators.py --bare [--operators ...]     ONNX Runtime itself: what the server has to live with
    python3 tests/soak/operators.py --binary ... --deadly        requests that are known to end ONNX Runtime

Needs what `tests/soak/requirements.txt` names. It reports what ended the server, requests without an answer, answers with
status 500, versions that failed, and how many answers had which status. It fails where the server ended or did not answer. The
requests follow from the seed: a finding is reproduced with its operator alone. An operator of another domain than ONNX's own is
written with it: `com.microsoft:Attention`."""

import argparse
import collections
import http.client
import json
import pathlib
import sys
import tempfile

import numpy
import onnx

import common
import operator_cases as cases
import operator_deadly
import operator_runs

MODELS_PER_SERVER = 60
ANSWER_TIMEOUT_SECONDS = 30
# A loop as long as the client says is to end there.
REQUEST_TIMEOUT_MICROSECONDS = 2_000_000

NAMES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bfloat16": "BF16", "bool": "BOOL", "object": "BYTES"}


class Case:
    """A model of an operator and the requests that it is sent."""

    def __init__(self, operator, model, requests):
        self.operator, self.model, self.requests = operator, model, requests
        self.name = None


def datatype(array):
    return NAMES.get(array.dtype.name, array.dtype.name.upper())


def elements(array):
    """The bytes of a tensor, as they travel."""
    if array.dtype != numpy.dtype("O"):
        return numpy.ascontiguousarray(array).tobytes()
    encoded = (value if isinstance(value, bytes) else str(value).encode() for value in array.ravel())
    return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)


def body_of(inputs):
    """A request with binary tensors, and the length of its JSON."""
    tensors, data = [], []
    for name, array in inputs.items():
        data.append(elements(array))
        parameters = {"binary_data_size": len(data[-1])}
        tensors.append({"name": name, "datatype": datatype(array), "shape": list(array.shape), "parameters": parameters})
    parameters = {"binary_data_output": True, "timeout": REQUEST_TIMEOUT_MICROSECONDS}
    head = json.dumps({"inputs": tensors, "parameters": parameters}).encode()
    return head + b"".join(data), len(head)


class Findings:
    """What was seen of all servers."""

    def __init__(self):
        self.ended, self.unanswered, self.internal, self.failed = [], [], {}, {}
        self.statuses = collections.Counter()

    def note_end(self, operator, what):
        """The server ended."""
        self.ended.append((operator, what))
        print(f"ended: {operator}: {what}", file=sys.stderr, flush=True)

    def answered(self, case, inputs, status, text):
        self.statuses[status] += 1
        if status == 500:
            self.internal.setdefault((case.operator, text[:120]), described(inputs))

    def report(self):
        for operator, what in self.ended:
            print(f"ENDED THE SERVER: {operator}: {what}")
        for operator, what in self.unanswered:
            print(f"NO ANSWER: {operator}: {what}")
        for (operator, text), inputs in self.internal.items():
            print(f"500: {operator}: {text}: {inputs}")
        for operator, why in sorted(self.failed.items()):
            print(f"not served: {operator}: {why}")
        counts = ", ".join(f"{count} with {status}" for status, count in sorted(self.statuses.items()))
        print(f"{sum(self.statuses.values())} answers: {counts}; {len(self.failed)} models failed; the server ended {len(self.ended)} times")
        return not self.ended and not self.unanswered


def described(inputs):
    def short(array):
        values = ",".join(str(value)[:20] for value in array.ravel()[:4])
        return f"{datatype(array)}{list(array.shape)}=({values}{',...' if array.size > 4 else ''})"

    return "; ".join(f"{name} {short(array)}" for name, array in inputs.items())


def serve(binary, group, findings, options):
    """Has a server load a group of cases, and sends it their requests; as often as it takes to send all of them."""
    waiting = list(group)
    while waiting:
        with tempfile.TemporaryDirectory() as repository:
            for case in waiting:
                path = pathlib.Path(repository, case.name, "1", "model.onnx")
                path.parent.mkdir(parents=True)
                onnx.save(case.model, path)
            try:
                server = common.Server(binary, repository, *options)
            except SystemExit as ended:
                if len(waiting) == 1:
                    findings.note_end(waiting[0].operator, f"while it was loaded: {ended}")
                    return
                # The one that did it is found by halves.
                half = len(waiting) // 2
                serve(binary, waiting[:half], findings, options)
                serve(binary, waiting[half:], findings, options)
                return
            with server:
                waiting = ask_all(server, waiting, findings)


def ask_all(server, waiting, findings):
    """Sends the requests of the cases. Gives those that wait for another server, as this one ended."""
    for index, case in enumerate(waiting):
        while case.requests:
            inputs = case.requests.pop(0)
            try:
                status, text = ask(server, case.name, inputs)
            except (OSError, http.client.HTTPException) as error:
                if not lives(server):
                    code = server.process.wait()
                    findings.note_end(case.operator, f"exit code {code}: {described(inputs)}")
                    return [left for left in waiting[index:] if left.requests]
                findings.unanswered.append((case.operator, f"{error!r}: {described(inputs)}"))
                continue
            if status == 503:
                # Not loaded, or quarantined.
                findings.failed[f"{case.operator} ({case.name})"] = text[:200]
                if "failed to load" in text:
                    case.requests.clear()
            findings.answered(case, inputs, status, text)
    return []


def lives(server):
    """Whether the process serves: one that has crashed may take a moment to end."""
    try:
        return server.ask("http", "GET", "/v2/health/live")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def ask(server, model, inputs):
    body, length = body_of(inputs)
    connection = vars(server.connections).get("inference")
    if connection is None:
        connection = http.client.HTTPConnection(server.addresses["http"], timeout=ANSWER_TIMEOUT_SECONDS)
        server.connections.inference = connection
    try:
        headers = {"Inference-Header-Content-Length": str(length)}
        connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        raise
    return answer.status, "" if answer.status == 200 else json.loads(text).get("error", "")


def random_cases(keys, requests, seed):
    """Cases of these operators: a seed's model with some requests each."""
    kernels, schemas = cases.operators(), cases.schemas()
    of_onnx = cases.seeds_of_onnx([name for _, name in keys])
    for key in keys:
        seeds = cases.seeds_by_shape(key) or of_onnx.get(key)
        if not seeds:
            searched = (operator_runs.searched(key, number, kernels[key], schemas[key], seed) for number in range(20))
            seeds = [found for found in searched if found is not None]
        models = {}
        for number in range(requests if seeds else 0):
            model, inputs = operator_runs.case(key, number, seeds, kernels[key], schemas[key], seed)
            of_model = number // operator_runs.REQUESTS_PER_MODEL
            models.setdefault(of_model, (model, []))[1].append(inputs)
        for model, inputs in models.values():
            yield Case(":".join(part for part in key if part), model, inputs)


def chosen(text):
    known = cases.operators()
    if not text:
        return list(known)
    keys = [tuple(name.split(":")) if ":" in name else ("", name) for name in text.split(",")]
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise SystemExit(f"no operators of ONNX Runtime's CPU build: {unknown}")
    return keys


def bare(keys, requests, seed):
    of_onnx = cases.seeds_of_onnx([name for _, name in keys])
    for key in keys:
        found, ended = (), []
        if key not in of_onnx and not cases.seeds_by_shape(key):
            ended, _, found = operator_runs.drive(key, seed, requests, search=True)
            if not found:
                print(f"{key}: no inputs suit it; ended by {ended}")
                continue
        deaths, answers, _ = operator_runs.drive(key, seed, requests, found=found)
        print(f"{key}: ended by {ended + deaths}; {dict(answers)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the server")
    parser.add_argument("--bare", action="store_true", help="ask ONNX Runtime in processes of its own")
    parser.add_argument("--deadly", action="store_true", help="send what is known to end ONNX Runtime")
    parser.add_argument("--operators", default="", help="some operators, with commas between; all without it")
    parser.add_argument("--requests", type=int, default=48, help="requests for each operator")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--option", action="append", default=[], help="an option for the server, such as --option=--io-threads=1")
    given = parser.parse_args()
    if given.bare:
        bare(chosen(given.operators), given.requests, given.seed)
        return
    if given.deadly:
        wanted = [name for name in given.operators.split(",") if name]
        known = operator_deadly.cases()
        found = [Case(name, model, requests) for name, model, requests in known if not wanted or name in wanted]
    else:
        found = list(random_cases(chosen(given.operators), given.requests, given.seed))
    for number, case in enumerate(found):
        case.name = f"case-{number}"
    findings = Findings()
    for start in range(0, len(found), MODELS_PER_SERVER):
        serve(given.binary, found[start : start + MODELS_PER_SERVER], findings, given.option)
        print(f"{min(start + MODELS_PER_SERVER, len(found))} of {len(found)} models", file=sys.stderr, flush=True)
    sys.exit(0 if findings.report() else 1)


if __name__ == "__main__":
    main()
