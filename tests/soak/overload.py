"""Measures what a server makes of more requests than it can answer. Run by hand, with a release build and nothing else on the
machine (tests/soak/requirements.txt has the packages):

    python3 loadtest/make_models.py DIR && python3 tests/soak/overload.py target/release/onnxd target/release/loadtest DIR

The model `conv` takes some milliseconds a row. It is asked over gRPC and HTTP, with the default batching and with none. The peak
is what 16 clients get that send one request after the other. Then requests come independently of the server, with a deadline, at
1.2, 2 and 5 times the peak. After that they come at half the peak for one second, which shows how fast the server recovers.

The output has for each load the goodput as a part of the peak, and the p99 of the time until a failure was known. The bars are
0.9 for the goodput, 10 ms for the p99, 0.99 for the requests that are answered in time while the server recovers, and 1.2 for
the resident memory at the end over that after the first load.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from common import Server

LOADS, DEADLINES = [1.2, 2, 5], ["250ms", "50ms"]
SECONDS, WARM_UP = "5s", "2s"


def load(generator, url, *options):
    command = [generator, "run", url, "--json", "--no-check", *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if not ran.stdout:
        raise SystemExit(f"{' '.join(command)}: {ran.stderr}")
    return json.loads(ran.stdout)["levels"][0]


def overload(generator, url, deadline):
    """Peak, and goodput with the p99 of failures for each load, and the part that is answered in time afterwards."""
    peak = load(generator, url, "--clients", "16", "--duration", SECONDS, "--warm-up", WARM_UP)["requests_per_second"]
    results = []
    for times in LOADS:
        rate = ["--rate", str(peak * times), "--deadline", deadline]
        level = load(generator, url, *rate, "--duration", SECONDS, "--warm-up", WARM_UP)
        failed = (level["failure_latency_ms"] or {}).get("p99", 0.0)
        after = load(generator, url, "--rate", str(peak / 2), "--deadline", deadline, "--duration", "1s", "--warm-up", "0s")
        asked = after["requests"] + sum(error["count"] for error in after["errors"].values())
        answered = after["goodput_per_second"] * after["seconds"] / asked
        results.append((times, level["goodput_per_second"] / peak, failed, level["sent_late_p99_ms"], answered))
    return peak, results


def main():
    binary, generator, models = sys.argv[1:4]
    repository = pathlib.Path(tempfile.mkdtemp())
    for model, config in (("conv", ""), ("conv_alone", 'batching = "off"\n')):
        shutil.copytree(pathlib.Path(models, "conv"), repository / model)
        (repository / model / "config.toml").write_text(config)
    with Server(binary, repository) as server:
        memory, missed = None, []
        for protocol in ("grpc", "http"):
            for model in ("conv", "conv_alone"):
                for deadline in DEADLINES:
                    case = f"{protocol:5} {model:11} {deadline:6}"
                    peak, results = overload(generator, f"{protocol}://{server.addresses[protocol]}/{model}", deadline)
                    memory = memory or server.memory()
                    for times, goodput, failed, sent_late, answered in results:
                        line = f"{case} peak {peak:4.0f}/s, load {times}: goodput {goodput:.2f} of it"
                        line += f", failures p99 {failed:.1f} ms (sent {sent_late:.1f} ms late)"
                        print(f"{line}; at half the load then {answered:.3f} in time", flush=True)
                        if goodput < 0.9 or failed > 10 or answered < 0.99:
                            missed.append(f"{case} load {times}")
        grown = server.memory() / memory
    print(f"memory: {grown:.2f} times that after the first load")
    if missed or grown > 1.2:
        raise SystemExit(f"missed: {', '.join(missed) or 'memory'}")


main()
