"""Measures onnxd against what else one could serve an ONNX model with, on the same machine and the same model.

    python3 loadtest/peers/run.py --onnxd target/release/onnxd --loadtest target/release/loadtest --work /tmp/peers

Each peer is installed from PyPI into a virtual environment in the folder of --work, started beside onnxd, held to the
same answers, and measured in turns with it by `loadtest compare`. A Markdown table goes to stdout, everything to --json.
Nothing is left running. Peers that fail are told, and the others measured.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import report
import servers
from frameworks import HERE, MODEL, PEERS, Peer, Place
from servers import Failure, Launch, Server

TOLERANCE = 1e-4
CASES = 16


def main() -> int:
    """Measures what the options say."""
    options = arguments()
    # Ends like Ctrl-C does: servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options.work.mkdir(parents=True, exist_ok=True)
    model = make_model(options)
    measured = [attempt(peer, model, options) for peer in PEERS if peer.name in options.peers]
    whole = {
        "machine": machine(),
        "onnxd": output_of([options.onnxd, "--version"]).strip(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "warm_up_seconds": options.warm_up,
        "grpc_connections": options.connections,
        "peers": measured,
    }
    options.json.write_text(json.dumps(whole, indent=1))
    print(report.markdown(whole))
    return 1 if any("failure" in peer for peer in measured) else 0


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [peer.name for peer in PEERS]
    parser.add_argument("peers", nargs="*", default=names, metavar="PEER", help=f"any of {', '.join(names)} [all]")
    parser.add_argument("--onnxd", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--loadtest", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for environments, models and logs")
    parser.add_argument("--json", type=pathlib.Path, help="file for everything measured [WORK/report.json]")
    parser.add_argument("--clients", default="1,16,64", help="clients of each level [%(default)s]")
    parser.add_argument("--connections", type=int, default=4, help="over gRPC; over HTTP one per client [%(default)s]")
    parser.add_argument("--protocols", default="grpc,http,http+json", help="of those that a peer speaks [%(default)s]")
    parser.add_argument("--rounds", type=int, default=20, help="of each level, at least 2 [%(default)s]")
    parser.add_argument("--seconds", type=float, default=5, help="of each round and side [%(default)s]")
    parser.add_argument("--warm-up", type=float, default=1, help="seconds before each of them [%(default)s]")
    parser.add_argument("--python", default=sys.executable, help="makes the environments [this one]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PEER.NAME=VALUE", help="a setting other than frameworks.py's"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.peers) - set(names))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(names)}")
    # Servers run in folders of their own.
    for name in ["onnxd", "loadtest", "work"]:
        setattr(options, name, getattr(options, name).absolute())
    options.json = (options.json or options.work / "report.json").absolute()
    options.settings = {peer.name: dict(peer.settings) for peer in PEERS}
    for text in options.set:
        path, _, value = text.partition("=")
        peer, _, name = path.partition(".")
        if name not in options.settings.get(peer, {}):
            parser.error(f"--set {text}: there is no such setting")
        options.settings[peer][name] = value
    return options


def attempt(peer: Peer, model: pathlib.Path, options: argparse.Namespace) -> dict[str, Any]:
    """What came of a peer, be it a failure."""
    found: dict[str, Any] = {"name": peer.name, "settings": options.settings[peer.name]}
    try:
        venv = make_venv(peer.name, options)
        found["version"] = version_of(peer.package, venv)
        measure_peer(Bench(peer, venv, model, options), found)
    except Failure as failure:
        found["failure"] = str(failure)
        say(f"{peer.name}: {failure}")
    return found


def say(what: str) -> None:
    """Tells progress."""
    print(what, file=sys.stderr, flush=True)


def make_venv(name: str, options: argparse.Namespace) -> pathlib.Path:
    """A virtual environment with what `requirements/NAME.txt` pins, made if it is not there yet."""
    venv: pathlib.Path = options.work / "venvs" / name
    requirements = HERE / "requirements" / f"{name}.txt"
    stamp = venv / "installed.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return venv
    say(f"{name}: installing")
    output_of([options.python, "-m", "venv", "--clear", venv])
    output_of([venv / "bin" / "pip", "install", "--quiet", "--requirement", requirements])
    stamp.write_text(requirements.read_text())
    return venv


def make_model(options: argparse.Namespace) -> pathlib.Path:
    """A repository with the model, and nothing else."""
    made = options.work / "models" / "all"
    venv = make_venv("model", options)
    output_of([venv / "bin" / "python", HERE.parent / "make_models.py", made])
    repository = options.work / "models" / "served"
    path: pathlib.Path = repository / MODEL / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((made / MODEL / "1" / "model.onnx").read_bytes())
    return path


def output_of(command: list[Any]) -> str:
    """What a command prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def version_of(package: str, venv: pathlib.Path) -> str:
    """The version that is installed."""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return output_of([venv / "bin" / "python", "-c", code, package]).strip()


def machine() -> dict[str, Any]:
    """Where this runs."""
    models = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {"cpu": (models or [platform.machine()])[0], "cpus": os.cpu_count(), "system": platform.platform()}


@dataclass(frozen=True)
class Bench:
    """A peer and what it is measured with."""

    peer: Peer
    venv: pathlib.Path
    model: pathlib.Path
    options: argparse.Namespace


def measure_peer(bench: Bench, found: dict[str, Any]) -> None:
    """Runs both servers, compares their answers, and then what they take."""
    peer, options = bench.peer, bench.options
    http, grpc, metrics, admin, peer_http, peer_grpc, peer_metrics = servers.free_ports(7)
    folder = options.work / "runs" / peer.name
    folder.mkdir(parents=True, exist_ok=True)
    addresses = {"--http": http, "--grpc": grpc, "--metrics": metrics, "--admin": admin}
    listen = [part for option, port in addresses.items() for part in (option, f"127.0.0.1:{port}")]
    onnxd = Launch([str(options.onnxd), "serve", str(bench.model.parents[2]), *listen], folder)
    place = Place(folder, bench.venv, bench.model, peer_http, peer_grpc, peer_metrics, found["settings"])
    ready = f"http://127.0.0.1:{http}/v2/health/ready"
    peer_ready = f"http://127.0.0.1:{peer_http}{peer.ready}"
    say(f"{peer.name}: starting")
    with (
        servers.running("onnxd", onnxd, ready, folder / "onnxd.log") as ours,
        servers.running(peer.name, peer.launch(place), peer_ready, folder / f"{peer.name}.log") as theirs,
    ):
        sides = {"grpc": (grpc, peer_grpc), "http": (http, peer_http), "http+json": (http, peer_http)}
        protocols = [protocol for protocol in peer.protocols if protocol in options.protocols.split(",")]
        found["server"] = servers.named(f"http://127.0.0.1:{peer_http}/v2")
        found["difference"] = compare_answers(http, peer_http, folder)
        for protocol in protocols:
            check_under_load(target(protocol, sides[protocol][1]), folder, options)
        found["idle_cpu"], found["idle_cpu_onnxd"] = servers.idle_cpu(theirs), servers.idle_cpu(ours)
        found["not_counted"] = not_counted(theirs, [sides[protocol][1] for protocol in protocols])
        found["measured"] = []
        for protocol in protocols:
            say(f"{peer.name}: measuring over {protocol}")
            found["measured"].append(compare(protocol, sides[protocol], options))


def target(protocol: str, port: int) -> str:
    """The model, as loadtest calls it."""
    return f"{protocol}://127.0.0.1:{port}/{MODEL}"


def compare_answers(http: int, peer_http: int, folder: pathlib.Path) -> float:
    """Asks both the same, keeps the answers of onnxd as cases, and returns how far the peer's are from them."""
    numbers = random.Random(1)
    worst = 0.0
    for case in range(CASES):
        data = [numbers.gauss(0, 1) for _ in range(32)]
        request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 32], "data": data}]}
        expected, got = (output(servers.ask(infer(port), request)) for port in (http, peer_http))
        if expected["shape"] != got["shape"]:
            raise Failure(f"shapes differ: onnxd's {expected['shape']}, the peer's {got['shape']}")
        worst = max(worst, *(abs(a - b) for a, b in zip(expected["data"], got["data"], strict=True)))
        outputs = [{key: expected[key] for key in ("name", "datatype", "shape", "data")}]
        (folder / f"case-{case}.json").write_text(json.dumps({**request, "outputs": outputs}))
    if not worst <= TOLERANCE:
        raise Failure(f"answers differ by {worst}")
    return worst


def infer(port: int) -> str:
    """Where the model is asked."""
    return f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer"


def output(answer: dict[str, Any]) -> dict[str, Any]:
    """The one output of an answer, its data flat."""
    [one] = answer["outputs"]
    flat = one["data"]
    while flat and isinstance(flat[0], list):
        flat = [element for part in flat for element in part]
    return {**one, "data": flat}


def check_under_load(server: str, folder: pathlib.Path, options: argparse.Namespace) -> None:
    """Holds a peer to the cases while requests are batched: its answers go to those who asked."""
    command = [options.loadtest, "run", server, "--clients", "16", "--duration", "1s", "--warm-up", "0s", "--json"]
    for case in range(CASES):
        command += ["--input", folder / f"case-{case}.json"]
    [level] = json.loads(output_of(command))["levels"]
    if level["errors"] or not level["requests"]:
        raise Failure(f"{server}: {level['requests']} answers were right; {level['errors']}")


def not_counted(server: Server, ports: list[int]) -> list[str]:
    """Processes whose CPU time loadtest misses, over any of the ports."""
    return sorted({command for port in ports for command in servers.not_counted(server, port)})


def compare(protocol: str, ports: tuple[int, int], options: argparse.Namespace) -> dict[str, Any]:
    """What `loadtest compare` says of onnxd (A) and the peer (B)."""
    command = [options.loadtest, "compare", *(target(protocol, port) for port in ports), "--json"]
    command += ["--clients", options.clients, "--rounds", options.rounds]
    command += ["--duration", f"{round(options.seconds * 1000)}ms", "--warm-up", f"{round(options.warm_up * 1000)}ms"]
    if protocol == "grpc":
        command += ["--connections", options.connections]
    levels = []
    for level in json.loads(output_of(command))["levels"]:
        sides = [side for pair in level["rounds"] for side in pair]
        failed = sum(error["count"] for side in sides for error in side["errors"].values())
        for side in sides:
            side.pop("distribution"), side.pop("moments")
        levels.append({"clients": sides[0]["clients"], "failed": failed, **level})
    return {"protocol": protocol, "levels": levels}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)
