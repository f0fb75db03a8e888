"""Measures what one client that sends 20 MB of JSON costs other clients. Run by hand, with a release build and nothing else on
the machine:

    python3 tests/soak/large_json.py target/release/onnxd models

Needs no packages. 4 good clients ask the model `simple` over HTTP/1.1. In every other round one more client sends bodies of
20 MB of JSON, one after the other. They have more elements than their shape, so that they are decoded and never run: what is
measured is the decoding. Rounds with and without that client take turns, so that a slow phase of the machine hits both. The
output has p50 and p99 of the good clients with and without it, and the ratio of both. The bar is 2 for the p99.
"""

import http.client
import json
import multiprocessing
import subprocess
import sys
import threading
import time

ROUNDS, SECONDS, GOOD, PAUSE = 6, 4.0, 4, 0.002
INFER = "/v2/models/simple/infer"


def body(elements):
    inputs = [
        {"name": name, "datatype": "INT32", "shape": [1, 16], "data": [1234567] * elements}
        for name in ("INPUT0", "INPUT1")
    ]
    return json.dumps({"inputs": inputs}).encode()


def start(binary, repository):
    ports = "127.0.0.1:0"
    command = [binary, "serve", repository, "--http", ports, "--grpc", "off", "--metrics", "off", "--admin", "off", "--log-format", "json"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = None
    for line in server.stderr:
        line = json.loads(line)
        if line["message"] == "listening":
            host, port = line["address"].rsplit(":", 1)
            address = (host, int(port))
        if line["message"] == "ready" or line["message"].startswith("not ready"):
            break
    threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
    return server, address


def ask(connection, request, status):
    began = time.perf_counter()
    connection.request("POST", INFER, request)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == status, answer.status
    return time.perf_counter() - began


def send_large(address, stopped, count):
    connection, large = http.client.HTTPConnection(*address), body(1_100_000)
    while not stopped.is_set():
        ask(connection, large, 400)
        with count.get_lock():
            count.value += 1


def ask_small(address, until, times):
    connection, small = http.client.HTTPConnection(*address), body(16)
    while time.monotonic() < until:
        times.append(ask(connection, small, 200))
        time.sleep(PAUSE)


def run_round(address, times):
    until = time.monotonic() + SECONDS
    clients = [threading.Thread(target=ask_small, args=(address, until, times)) for _ in range(GOOD)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def quantile(times, share):
    return sorted(times)[int(len(times) * share)] * 1000


def main():
    server, address = start(*sys.argv[1:3])
    try:
        alone, beside, count = [], [], multiprocessing.Value("i", 0)
        for _ in range(ROUNDS):
            run_round(address, alone)
            stopped = multiprocessing.Event()
            large = multiprocessing.Process(target=send_large, args=(address, stopped, count))
            large.start()
            # The client's own preparation takes a CPU.
            while count.value == 0:
                time.sleep(0.05)
            run_round(address, beside)
            stopped.set()
            large.join()
            count.value = 0
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            without, with_large = quantile(alone, share), quantile(beside, share)
            print(f"{name}: {without:.2f} ms alone, {with_large:.2f} ms beside, ratio {with_large / without:.2f}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
