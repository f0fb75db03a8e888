"""Measures what a server makes of more requests than it can answer. Run by hand, with a release build and nothing else on the
machine (tests/soak/requirements.txt has the packages):

    python3 loadtest/make_models.py DIR && python3 tests/soak/overload.py target/release/onnxd target/release/loadtest DIR

The model `conv` takes some milliseconds a row. It has one thread, so that a CPU is left for the load generator. It is asked over
gRPC and HTTP, with the default batching and with none. The peak is what 16 clients get that send one request after the other.
Then requests come independently of the server, with a deadline, at 1.2, 2 and 5 times the peak. After that they come at half the
peak for one second, which shows how fast the server recovers.

The output has for each load the medians of some rounds: the goodput as a part of the peak just before, the part of the rows that
ran whose answer came in time, and the p99 of the time until a failure was known. The bars are 0.9 for the first two, 10 ms for
the p99, 0.99 for the requests that are answered in time while the server recovers, and 1.2 for the resident memory at the end
over that after the first load.
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from common import Server

LOADS, DEADLINES, ROUNDS = [1.2, 2, 5], ["250ms", "50ms"], 5
CONFIG = "instances = 1\nintra_op_threads = 1\n"


def load(generator, url, *options):
    command = [generator, "run", url, "--json", "--no-check", *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if not ran.stdout:
        raise SystemExit(f"{' '.join(command)}: {ran.stderr}")
    return json.loads(ran.stdout)["levels"][0]


def measure(server, generator, url, deadline, times):
    """The figures of one round: peak, goodput, useful part of the rows, p99 of failures (ms), part in time afterwards."""
    peak = load(generator, url, "--clients", "16", "--duration", "2s", "--warm-up", "500ms")["requests_per_second"]
    rate, rows = ["--rate", str(peak * times), "--deadline", deadline], server.metric("onnxd_rows_total")
    level = load(generator, url, *rate, "--duration", "3s", "--warm-up", "0s")
    useful = level["goodput_per_second"] * level["seconds"] / (server.metric("onnxd_rows_total") - rows)
    failed = (level["failure_latency_ms"] or {}).get("p99", 0.0)
    half = ["--rate", str(peak / 2), "--deadline", deadline]
    after = load(generator, url, *half, "--duration", "1s", "--warm-up", "0s")
    asked = after["requests"] + sum(error["count"] for error in after["errors"].values())
    return peak, level["goodput_per_second"] / peak, useful, failed, after["goodput_per_second"] * after["seconds"] / asked


def main():
    binary, generator, models = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else ROUNDS
    repository = pathlib.Path(tempfile.mkdtemp())
    for model, config in (("conv", CONFIG), ("conv_alone", CONFIG + 'batching = "off"\n')):
        shutil.copytree(pathlib.Path(models, "conv"), repository / model)
        (repository / model / "config.toml").write_text(config)
    memory, missed = None, []
    with Server(binary, repository) as server:
        for protocol in ("grpc", "http"):
            for model in ("conv", "conv_alone"):
                url = f"{protocol}://{server.addresses[protocol]}/{model}"
                for deadline in DEADLINES:
                    for times in LOADS:
                        figures = [measure(server, generator, url, deadline, times) for _ in range(rounds)]
                        memory = memory or server.memory()
                        peak, goodput, useful, failed, answered = map(statistics.median, zip(*figures))
                        case = f"{protocol:5} {model:11} {deadline:6} load {times}"
                        line = f"{case}: peak {peak:4.0f}/s, goodput {goodput:.2f}, useful {useful:.2f}, failures p99 {failed:.1f} ms"
                        print(f"{line}, then {answered:.3f} in time", flush=True)
                        if goodput < 0.9 or useful < 0.9 or failed > 10 or answered < 0.99:
                            missed.append(case)
        grown = server.memory() / memory
    print(f"memory: {grown:.2f} times that after the first load")
    if missed or grown > 1.2:
        raise SystemExit(f"missed: {', '.join(missed) or 'memory'}")


main()
