"""Shows what swaps and changes of weights cost requests. Run by hand, with release builds and nothing else on the machine:

    pip install numpy onnx
    python3 tests/soak/swaps.py target/release/onnxd target/release/loadtest

32 connections over gRPC and 8 over HTTP ask the model `add` in an open loop (latency counts from when a request was due), at
half of the rates that the server keeps up with, with what goes on beside them. Windows without any change and windows with 40
swaps and 40 changes of weights take turns, five of each; told are the p99 of each, their ratios (the bar for the median is
1.2) and the requests that failed (the bar is none). Beside them two clients hold every answer to the version that it names.
What asks for the changes runs at a low priority, as it would not be on the server's machine.
Then the same with a model of 90 MB that is loaded and unloaded beside, again and again.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from common import Checkers, Server, adding, heavy, step_aside

WINDOWS, SECONDS, CHANGES = 5, 10, 40

# A rate counts as kept up with while the p99 in milliseconds is below this.
LATE = 50
CONNECTIONS = {"grpc": 32, "http": 8}


def loadtest(program, server, protocol, *options):
    target = f"{protocol}://{server.addresses[protocol]}/add"
    # Versions answer differently: the checkers look at what comes.
    command = [program, "run", target, "--connections", str(CONNECTIONS[protocol]), "--no-check", "--json", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def result(process):
    return json.loads(process.communicate()[0])["levels"][0]


def run_all(program, server, settings, span):
    runs = {name: loadtest(program, server, name, *settings[name], *span) for name in CONNECTIONS}
    return {name: result(run) for name, run in runs.items()}


def peak(program, server):
    """The rates that the server keeps up with in an open loop: tenths of what as many clients reach that wait for their
    answers, since those that don't wait have smaller batches, which cost more."""
    span = ["--duration", "4s", "--warm-up", "1s"]
    clients = {name: ["--clients", str(count)] for name, count in CONNECTIONS.items()}
    closed = {name: level["requests_per_second"] for name, level in run_all(program, server, clients, span).items()}
    for tenths in range(10, 0, -1):
        rates = {name: rate * tenths / 10 for name, rate in closed.items()}
        levels = run_all(program, server, {name: ["--rate", str(rate)] for name, rate in rates.items()}, span)
        if all(level["latency_ms"]["p99"] <= LATE for level in levels.values()):
            return rates
    raise SystemExit("no rate was kept up with")


def window(program, server, rates, change):
    """p99 in milliseconds by protocol, and what failed, while `change` is called at even intervals."""
    span = ["--duration", f"{SECONDS}s", "--warm-up", "1s"]
    runs = {name: loadtest(program, server, name, "--rate", str(rate), *span) for name, rate in rates.items()}
    if change:
        with ThreadPoolExecutor(initializer=step_aside) as thread:
            thread.submit(change_evenly, change, time.monotonic() + 1.5).result()
    levels = {name: result(run) for name, run in runs.items()}
    failed = {name: level["errors"] for name, level in levels.items() if level["errors"]}
    return {name: level["latency_ms"]["p99"] for name, level in levels.items()}, failed


def change_evenly(change, began):
    for number in range(CHANGES):
        time.sleep(max(0.0, began + number * (SECONDS - 1) / CHANGES - time.monotonic()))
        change(number)


def swap_and_shift(server):
    def change(number):
        server.reload("add", 1 + number % 2)
        weight = number % 10 + 1
        server.admin("POST", "/models/add/weights", {"weights": {"1": weight, "2": 11 - weight}, "actor": "soak"})

    return change


def measure(program, server, beside):
    stopped = threading.Event()
    other = threading.Thread(target=beside, args=(server, stopped))
    other.start()
    rates = {name: rate / 2 for name, rate in peak(program, server).items()}
    print("  " + ", ".join(f"{rate:.0f} requests per second over {name}" for name, rate in rates.items()))
    checkers = Checkers(server, "add", {1, 2}, clients=2)
    ratios, failures = {name: [] for name in rates}, []
    for _ in range(WINDOWS):
        steady, failed_steady = window(program, server, rates, None)
        swapping, failed = window(program, server, rates, swap_and_shift(server))
        failures += [found for found in (failed_steady, failed) if found]
        for name in rates:
            ratios[name].append(swapping[name] / steady[name])
        told = ", ".join(f"{name} {steady[name]:.2f} -> {swapping[name]:.2f} ms" for name in rates)
        print(f"  p99: {told}", flush=True)
    stopped.set()
    other.join()
    asked, wrong = checkers.end()
    for name, values in ratios.items():
        print(f"  {name}: p99 in windows with changes {statistics.median(values):.2f} times (median of {sorted(round(value, 2) for value in values)})")
    print(f"  requests that failed: {failures or 'none'}; {asked} answers checked, wrong: {wrong[:3] or 'none'}", flush=True)
    return all(statistics.median(values) <= 1.2 for values in ratios.values()) and not failures and not wrong


def nothing(_server, _stopped):
    pass


def load_and_unload(server, stopped):
    step_aside()
    rounds = 0
    while not stopped.is_set():
        server.admin("POST", "/models/heavy/versions/1/unload", {"actor": "soak", "force": True})
        server.admin("POST", "/models/heavy/versions/1/load", {"actor": "soak"})
        server.wait("heavy", 1)
        rounds += 1
        stopped.wait(0.5)
    print(f"  the model of 90 MB was loaded {rounds} times")


def main():
    binary, program = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as repository:
        for version in (1, 2):
            adding(repository, "add", version)
        heavy(repository, "heavy", 1, 86)
        with Server(binary, repository) as server:
            server.admin("POST", "/models/add/weights", {"weights": {"1": 1, "2": 1}, "actor": "soak"})
            print("swaps and changes of weights:")
            good = measure(program, server, nothing)
            print("beside the loads of a model of 90 MB:")
            good &= measure(program, server, load_and_unload)
            swaps = server.metric("onnxd_version_swaps_total", 'model="add"')
            print(f"swaps counted by the server: {swaps:.0f}")
    sys.exit(0 if good else 1)


main()
