"""Shows what hostile clients cost good ones. Run by hand, with a release build and nothing else on the machine:

    python3 tests/soak/hostile.py target/release/onnxd models [ATTACK ...]

Needs no packages. 8 good clients ask the model `simple` over HTTP/1.1 connections of their own, in a closed loop. In every
other round 20 hostile connections do their worst beside them: halves of heads, bodies of a byte a second, answers that are
never read, huge lengths of which little comes, bombs, and floods of frames that ask for nothing. They come from a process of the lowest priority, and ask a model of
their own: what is to be seen is not that they use a CPU, nor that a queue is a queue. Rounds with and without them take
turns, so that a slow phase of the machine hits both. Told are the good clients' p50 and p99 of each, their ratio (the bar is 1.5 for the p99), how many of
their requests failed (the bar is none), how long a flood went on until its connection was closed (the bar is a second), and
the server's memory before, at its peak, and after.
"""

import http.client
import json
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib

ROUNDS, SECONDS, GOOD, PAUSE = 10, 4.0, 8, 0.002
BODY = json.dumps(
    {"inputs": [{"name": name, "datatype": "INT32", "shape": [1, 16], "data": list(range(16))} for name in ("INPUT0", "INPUT1")]}
).encode()
INFER, HOSTILE_INFER = "/v2/models/simple/infer", "/v2/models/other/infer"
# A hundred thousand rows, whose answer no socket takes at once.
ROWS = 100_000
LARGE_HEAD = json.dumps(
    {
        "inputs": [
            {"name": name, "datatype": "INT32", "shape": [ROWS, 16], "parameters": {"binary_data_size": ROWS * 64}}
            for name in ("INPUT0", "INPUT1")
        ],
        "parameters": {"binary_data_output": True},
    }
).encode()


def start(binary, repository):
    ports = "127.0.0.1:0"
    command = [binary, "serve", repository, "--http", ports, "--grpc", ports, "--metrics", "off", "--admin", "off", "--log-format", "json"]
    # Short, so that every attack is dealt with, and begun again, within a round.
    command += ["--header-timeout", "2s", "--body-timeout", "2s", "--write-timeout", "2s", "--request-memory", "256MiB"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    addresses = {}
    for line in server.stderr:
        line = json.loads(line)
        if line["message"] == "listening":
            host, port = line["address"].rsplit(":", 1)
            addresses[line["protocol"]] = (host, int(port))
        if line["message"] == "ready" or line["message"].startswith("not ready"):
            break
    threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
    return server, addresses["http"]


def memory(server, field):
    with open(f"/proc/{server.pid}/status") as status:
        return int(re.search(rf"{field}:\s+(\d+) kB", status.read()).group(1)) / 1024


def good(address, until, times, failed):
    connection = http.client.HTTPConnection(*address)
    while time.monotonic() < until:
        began = time.perf_counter()
        try:
            connection.request("POST", INFER, BODY)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failed.append(answer.status)
        except OSError as error:
            failed.append(error)
            connection.close()
        times.append(time.perf_counter() - began)
        # The clients share two cores with the server: they must not be what is measured.
        time.sleep(PAUSE)


def head(length, more=""):
    return f"POST {HOSTILE_INFER} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(LARGE_HEAD)}\r\n{more}Content-Length: {length}\r\n\r\n".encode()


def half_a_head(stream, stopped):
    stream.sendall(b"POST /v2/models/simple/infer HTTP/1.1\r\nHost: x\r\nX-Ha")
    stopped.wait(3)


def a_byte_a_second(stream, stopped):
    stream.sendall(head(1_000_000))
    while not stopped.wait(1):
        stream.sendall(b" ")


def never_reading(stream, stopped):
    body = LARGE_HEAD + bytes(2 * ROWS * 64)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.sendall(head(len(body)) + body)
    stopped.wait(5)


def a_huge_length(stream, stopped):
    stream.sendall(head(200 << 20) + bytes(8 << 20))
    stopped.wait(3)


def make_bomb():
    packer = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    return b"".join([packer.compress(zeros) for _ in range(1024)] + [packer.flush()])


BOMB = make_bomb()


def bomb(stream, stopped):
    stream.sendall(head(len(BOMB), "Content-Encoding: deflate\r\n") + BOMB)
    stream.settimeout(5)
    stream.recv(1000)
    # One after the other would be a load, not a trick.
    stopped.wait(1)


# A hundred frames each of HTTP/2: PING, empty SETTINGS, PRIORITY, an unknown type, and WINDOW_UPDATE of the connection.
FLOODS = [
    bytes([0, 0, len(payload), kind, 0, 0, 0, 0, stream]) + payload
    for kind, stream, payload in ((6, 0, bytes(8)), (4, 0, b""), (2, 1, bytes(5)), (0xEE, 0, b""), (8, 0, bytes([0, 0, 0, 1])))
]
LONGEST_FLOOD = multiprocessing.Value("d", 0.0)


def flood(stream, stopped):
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    began, frames = time.monotonic(), random.choice(FLOODS) * 100
    try:
        while not stopped.is_set():
            stream.sendall(frames)
    except OSError:
        pass
    LONGEST_FLOOD.value = max(LONGEST_FLOOD.value, time.monotonic() - began)
    stopped.wait(1)


ATTACKS = [half_a_head, a_byte_a_second, never_reading, a_huge_length, bomb, flood]
CHOSEN = [attack for attack in ATTACKS if not sys.argv[3:] or attack.__name__ in sys.argv[3:]]


def hostile(address, attack, stopped):
    while not stopped.is_set():
        try:
            with socket.create_connection(address) as stream:
                attack(stream, stopped)
        except OSError:
            # The server has had enough.
            stopped.wait(0.1)


def attack(address):
    """Until the process is ended."""
    os.nice(19)
    never = threading.Event()
    for number in range(20):
        threading.Thread(target=hostile, args=(address, CHOSEN[number % len(CHOSEN)], never)).start()


def run_round(address, attacked, times, failed):
    attackers = multiprocessing.Process(target=attack, args=(address,))
    if attacked:
        attackers.start()
        time.sleep(0.5)
    until = time.monotonic() + SECONDS
    clients = [threading.Thread(target=good, args=(address, until, times, failed)) for _ in range(GOOD)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if attacked:
        attackers.kill()
        attackers.join()


def quantile(times, share):
    return sorted(times)[int(len(times) * share)] * 1000


def main():
    binary, models = sys.argv[1:3]
    # Else a client waits up to 5 ms for another one's turn in Python, and that is what the p99 would show.
    sys.setswitchinterval(1e-4)
    with tempfile.TemporaryDirectory() as repository:
        for name in ("simple", "other"):
            shutil.copytree(pathlib.Path(models, "simple"), pathlib.Path(repository, name))
        measure(*start(binary, repository))


def measure(server, address):
    try:
        run_round(address, False, [], [])
        before = memory(server, "VmRSS")
        alone, attacked, failed, ratios = [], [], [], []
        for _ in range(ROUNDS):
            pair = []
            for hostile_too, all_times in ((False, alone), (True, attacked)):
                times = []
                run_round(address, hostile_too, times, failed)
                all_times += times
                pair.append(quantile(times, 0.99))
            ratios.append(pair[1] / pair[0])
        time.sleep(5)
        for name, times in (("alone", alone), ("beside hostile clients", attacked)):
            print(f"{name}: {len(times)} requests, p50 {quantile(times, 0.5):.2f} ms, p99 {quantile(times, 0.99):.2f} ms")
        print(f"ratio of the p99: {quantile(attacked, 0.99) / quantile(alone, 0.99):.2f}; by round {sorted(round(ratio, 2) for ratio in ratios)}")
        print(f"longest flood until its connection was closed: {LONGEST_FLOOD.value:.2f} s")
        print(f"good requests that failed: {len(failed)} {failed[:3]}")
        print(f"memory: {before:.0f} MiB before, {memory(server, 'VmHWM'):.0f} at its peak, {memory(server, 'VmRSS'):.0f} after")
    finally:
        server.terminate()
        server.wait()


main()
