"""Sends concurrent requests of different values to models whose rows influence each other, and to models whose rows don't, and
holds every answer against the same request alone in ONNX Runtime:

    python3 tests/soak/rows.py --binary target/release/onnxd [--requests 10000] [--seed 1]

Needs what `tests/soak/requirements.txt` names. The models are those of `tests/models/rows`. The mixing ones are served by default
and with `batching = "probed"`; the independent ones show that the same load is batched. It prints counts, and fails where an answer
differs beyond tolerance or a mixing model runs two requests in one batch."""

import argparse
import collections
import concurrent.futures
import http.client
import pathlib
import re
import sys
import tempfile
import threading

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models" / "rows"))

import adversarial
import common
import comparison
import mixing
import models
import tricky
from node_tests import Http, Refused

# Requests wait so long for others that all of a round meet.
CONFIG = 'max_queue_delay = "3ms"\nmax_queue_time = "none"\n'
CLIENTS = 24
ABSOLUTE, RELATIVE = 1e-5, 1e-3
# Values of most rows, and of the few that show a coupling beside them.
ORDINARY, ODD = ("unit", "normal"), ("hundreds", "huge", "nan", "tiny")


class Asked:
    """A request of one row and its outputs alone, or none where ONNX Runtime fails."""

    def __init__(self, session, inputs, is_random):
        self.inputs, self.is_random, self.outputs = inputs, is_random, None
        try:
            outputs = map(numpy.asarray, session.run(None, inputs))
            self.outputs = dict(zip([output.name for output in session.get_outputs()], outputs))
        except Exception:
            pass


def requests_of(path, model, count, random):
    """Requests of one row: most of ordinary values, some of odd ones, and those of a witness."""
    session = comparison.session(str(path))
    inputs, drawn = session.get_inputs(), []
    if model.witness:
        rows, batch = next(models.witness_draws(session, model.witness))
        drawn += [comparison.split(inputs, batch, row) for row in range(min(rows, count // 2))]
    while len(drawn) < count:
        kinds = ODD if len(drawn) % 5 == 3 else ORDINARY
        kind = kinds[int(random.integers(len(kinds)))]
        # NaN is drawn for one row of several.
        batch = comparison.draw(inputs, 3, kind, random, model.extents)
        drawn.append(comparison.split(inputs, batch, 1))
    random.shuffle(drawn)
    return [Asked(session, request, model.family == "random") for request in drawn]


def is_close(got, expected):
    """True for outputs of one form whose elements differ by rounding at most."""
    if got.shape != expected.shape:
        return False
    if expected.dtype == object:
        return list(got.ravel()) == [str(value).encode() for value in expected.ravel()]
    if not numpy.issubdtype(expected.dtype, numpy.floating):
        return numpy.array_equal(got, expected)
    return bool(numpy.allclose(got, expected, RELATIVE, ABSOLUTE, equal_nan=True))


class Clients:
    """Threads that ask at once, each by a connection of its own."""

    def __init__(self, server):
        self.server, self.connections = server, threading.local()
        self.threads = concurrent.futures.ThreadPoolExecutor(CLIENTS)

    def outcome(self, name, asked):
        """`equal`, `refused as alone`, `random`, or what is wrong."""
        if not hasattr(self.connections, "http"):
            self.connections.http = Http(self.server)
        try:
            got = self.connections.http.infer(name, asked.inputs)
        except Refused as refusal:
            return "refused as alone" if asked.outputs is None else f"WRONG: refused: {refusal}"
        if asked.outputs is None:
            return "WRONG: ONNX Runtime refuses it alone"
        if asked.is_random:
            return "random"
        differing = [output for output, expected in asked.outputs.items() if not is_close(got[output], expected)]
        return f"WRONG: {differing} differ" if differing else "equal"

    def ask(self, name, requests):
        return list(self.threads.map(lambda asked: self.outcome(name, asked), requests))


def by_model(server, metric):
    """The sum of a metric's series for each model."""
    connection, sums = http.client.HTTPConnection(server.addresses["metrics"]), collections.Counter()
    connection.request("GET", "/metrics")
    for line in connection.getresponse().read().decode().splitlines():
        found = re.match(rf'{metric}{{.*model="([^"]+)".* (\S+)$', line)
        if found:
            sums[found.group(1)] += float(found.group(2))
    connection.close()
    return sums


def run(binary, title, collections_of_models, config, count, random):
    """Serves models and asks each at once. Returns the number of requests, wrong answers, and rows that shared a batch."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = {}
        for collection in collections_of_models:
            for number, (name, model) in enumerate(collection.models.items()):
                path = pathlib.Path(folder, name, "1", "model.onnx")
                path.parent.mkdir(parents=True)
                path.write_bytes(model.proto(name, number % 4 == 3).SerializeToString())
                (path.parent.parent / "config.toml").write_text(config)
                prepared[name] = path, model
        outcomes, wrong = collections.Counter(), 0
        with common.Server(binary, folder) as server:
            clients = Clients(server)
            for name, (path, model) in prepared.items():
                requests = requests_of(path, model, count, random)
                for outcome in clients.ask(name, requests):
                    if outcome.startswith("WRONG"):
                        print(f"{title}: {name}: {outcome}", flush=True)
                        wrong += 1
                    outcomes[outcome.split(":")[0]] += 1
            rows, batches = (by_model(server, metric) for metric in ("onnxd_rows_total", "onnxd_batch_rows_count"))
            shared = {name: f"{rows[name]:.0f} rows in {batches[name]:.0f} batches" for name in prepared if batches[name] < rows[name]}
            clients.threads.shutdown()
    counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    print(f"{title}: {len(prepared)} models, {sum(outcomes.values())} requests: {counts}; {len(shared)} models shared batches", flush=True)
    return sum(outcomes.values()), wrong, shared


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the server")
    parser.add_argument("--requests", type=int, default=10_000, help="in all, to the mixing models")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random = numpy.random.default_rng(given.seed)
    mixed = (mixing.MIXING, adversarial.ADVERSARIAL)
    number = sum(len(collection.models) for collection in mixed)
    count = -(-given.requests // (2 * number))
    sent, wrong, shared = 0, 0, {}
    for title, config in (("mixing, by default", CONFIG), ("mixing, probed", 'batching = "probed"\n' + CONFIG)):
        found = run(given.binary, title, mixed, config, count, random)
        sent, wrong, shared = sent + found[0], wrong + found[1], {**shared, **found[2]}
    _, wrong_independent, batched = run(given.binary, "independent", (tricky.TRICKY,), CONFIG, count, random)
    for name, figures in shared.items():
        print(f"a mixing model shared batches: {name}: {figures}")
    print(f"{sent} requests to mixing models, {wrong} wrong answers; {wrong_independent} wrong answers of independent ones")
    sys.exit(1 if wrong or wrong_independent or shared or not batched else 0)


if __name__ == "__main__":
    main()
