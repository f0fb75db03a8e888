#!/usr/bin/env python3
"""Kills a server with kill -9 at random moments of changes, and holds each restart to what was acknowledged.

    cargo build --release && python3 tests/soak/kill.py target/release/onnxd models --changes 200

Every round makes changes of `purchase` (weights, aliases, promotions, and all ways back) one after the other, and kills the server at
a random moment of one of them. The next start must hold every change that was acknowledged, and at most the one that was on
its way beside; its history must have them in order. It needs nothing but Python.
"""

import argparse
import http.client
import json
import random
import subprocess
import tempfile
import threading
import time

MODEL = "purchase"


class Server:
    def __init__(self, binary, repository, state):
        command = [binary, "serve", repository, "--state-dir", state, "--log-format", "json", "--poll-interval", "100ms"]
        command += ["--http", "off", "--grpc", "off", "--metrics", "off", "--admin", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log = []
        for line in self.process.stderr:
            line = json.loads(line)
            self.log.append(line)
            if line["message"] == "listening":
                self.address = line["address"]
            if line["target"] == "onnxd::server" and line["message"].startswith(("ready", "not ready")):
                break
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, f"/admin/v1/models/{MODEL}{path}", None if body is None else json.dumps(body))
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        return answer.status, told

    def kill(self):
        self.process.kill()
        self.process.wait()


def some_change(chance):
    kind = chance.choice(["weights", "weights", "shift", "alias", "promote", "rollback", "abort", "to", "reset"])
    version = chance.choice([2, 3])
    if kind == "weights":
        return "POST", "/weights", {"weights": {"2": chance.randint(1, 100), "3": chance.randint(1, 100)}}
    if kind == "shift":
        return "POST", "/shift", {"from": 2, "to": 3, "points": chance.randint(1, 5)}
    if kind == "alias":
        return "PUT", f"/aliases/{chance.choice(['canary', 'stable', 'beta'])}", {"version": version}
    if kind == "promote":
        return "POST", "/promote", {"version": version}
    if kind == "abort":
        return "POST", "/abort", {}
    if kind == "reset":
        return "POST", "/traffic/reset", {}
    return "POST", "/rollback", {"to_revision": chance.randint(0, 20)} if kind == "to" else {}


def make_changes(server, chance, acknowledged, counts):
    """Until the server is gone."""
    try:
        while True:
            method, path, body = some_change(chance)
            status, told = server.call(method, path, {**body, "reason": f"change {len(acknowledged) + 1}"})
            if status == 200:
                acknowledged.append((told["record"], told["model"]["traffic"]))
            elif status in (404, 409):
                # What can't be done as things are, such as a rollback of nothing.
                counts["refused"] += 1
            else:
                raise SystemExit(f"a change failed: {status} {told}")
    except (OSError, http.client.HTTPException, ValueError):
        return


def check(server, acknowledged, counts):
    """The last change that is there has to be the last that was acknowledged, or one more."""
    _, model = server.call("GET", "")
    _, history = server.call("GET", "/history")
    records = history["records"]
    if not acknowledged:
        acknowledged.extend((record, model["traffic"]) for record in records)
        return
    record, traffic = acknowledged[-1]
    beyond = model["revision"] - record["revision"]
    assert beyond in (0, 1), f"revision {record['revision']} was acknowledged, and {model['revision']} is there"
    counts["in_flight_kept"] += beyond
    kept = [entry for entry, _ in acknowledged]
    expected = kept + (records[-1:] if beyond else [])
    assert records == expected[-len(records) :], "the history has not what was acknowledged"
    assert len(records) >= min(len(expected), 100)
    if beyond:
        acknowledged.append((records[-1], model["traffic"]))
    else:
        assert model["traffic"] == traffic, f"{model['traffic']}, acknowledged was {traffic}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnxd")
    parser.add_argument("repository")
    parser.add_argument("--changes", type=int, default=200, help="acknowledged changes at least")
    parser.add_argument("--kills", type=int, default=20, help="kills at least")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    acknowledged, counts, kills = [], {"refused": 0, "in_flight_kept": 0}, 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as state:
        while len(acknowledged) < options.changes or kills < options.kills:
            server = Server(options.onnxd, options.repository, state)
            try:
                check(server, acknowledged, counts)
                changes = threading.Thread(target=make_changes, args=(server, chance, acknowledged, counts))
                changes.start()
                time.sleep(chance.uniform(0, 0.1))
            finally:
                server.kill()
            kills += 1
            changes.join()
        server = Server(options.onnxd, options.repository, state)
        check(server, acknowledged, counts)
        server.kill()
    print(
        f"seed {options.seed}: {len(acknowledged)} changes acknowledged, {counts['refused']} refused, {kills} kills in "
        f"{time.monotonic() - began:.0f} s: none lost; {counts['in_flight_kept']} that were on their way were kept"
    )


if __name__ == "__main__":
    main()
