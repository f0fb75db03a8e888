"""Counts the files and functions of onnxd's source that one inference runs through, for each protocol.

    cargo build --workspace
    python3 loadtest/count_request_path.py target/debug/onnxd target/debug/loadtest

The server runs under valgrind's callgrind, as a debug build, in which nothing is inlined. Each load has one client that sends
one request after another on one connection. A window of seconds in the middle of the load is counted: opening and closing of
the connection are outside of it. Functions that also run in a window without requests are left out. A closure, an `async` block and
each instance of a generic function count as their function.
"""

import argparse
import http.client
import json
import pathlib
import re
import subprocess
import tempfile
import threading
import time

WINDOW_SECONDS = 6
SOURCE, LIBRARY = re.compile(r".*/src/(.*\.rs)"), re.compile(r"/registry/src/|/rustc/|/library/")
ROOT = pathlib.Path(__file__).resolve().parent.parent


class Server:
    """onnxd with the sample model `simple`, under callgrind, on free ports."""

    def __init__(self, binary, folder):
        self.folder, self.windows, self.addresses = pathlib.Path(folder), 0, {}
        free = "127.0.0.1:0"
        ports = [option for port in ("http", "grpc", "metrics", "admin") for option in (f"--{port}", free)]
        serve = [binary, "serve", str(ROOT / "models/simple"), *ports, "--state-dir", f"{folder}/state", "--log-format", "json"]
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/counts", "--quiet"]
        self.process = subprocess.Popen(valgrind + serve, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("message") == "listening":
                self.addresses[event["protocol"]] = event["address"]
            if event.get("target") == "onnxd::server" and event.get("message", "").startswith("ready"):
                break
        else:
            raise SystemExit(f"the server did not start: exit code {self.process.wait()}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def control(self, *command):
        subprocess.run(["callgrind_control", *command, str(self.process.pid)], check=True, stdout=subprocess.DEVNULL)

    def functions(self):
        """The functions that run in the next window: pairs of file and name."""
        self.control("--zero")
        time.sleep(WINDOW_SECONDS)
        self.windows += 1
        self.control("--dump")
        dump = self.folder / f"counts.{self.windows}"
        for _ in range(100):
            if dump.exists() and dump.read_text().rstrip().splitlines()[-1].startswith("totals:"):
                return functions(dump.read_text())
            time.sleep(0.1)
        raise SystemExit(f"callgrind wrote no {dump}")


def functions(dump):
    """Functions of the source that have a cost in a dump of callgrind (its format: valgrind's manual, cl-format)."""
    names, found, file, name, skip = {}, set(), None, None, False
    for line in dump.splitlines():
        if called := re.match(r"(fl|fi|fe|fn|cfi|cfl|cfn|ob|cob)=(?:\((\d+)\))?\s*(.*)$", line):
            kind, number, text = called.groups()
            table = "fn" if kind in ("fn", "cfn") else "ob" if kind in ("ob", "cob") else "fl"
            text = names.setdefault((table, number), text) if text else names[table, number]
            if kind == "fl":
                file = text
            elif kind == "fn":
                name = text
        elif line.startswith("calls="):
            skip = True
        elif re.match(r"[+\-*\d]", line):
            if not skip and file and name and (source := SOURCE.fullmatch(file)) and not LIBRARY.search(file):
                found.add((source[1], plain(name)))
            skip = False
    return found


def plain(name):
    """A function's name without type parameters, closures and the compiler's hash."""
    name = re.sub(r"::h[0-9a-f]{16}$", "", name.partition("'")[0])
    name = re.sub(r"::\{\{?closure[^}]*\}?\}", "", name)
    while (shorter := re.sub(r"<[^<>]*>", "", re.sub(r"^<([^<>]*) as [^<>]*>", r"\1", name))) != name:
        name = shorter
    return "::".join(name.split("::")[-2:])


def send_http(address, seconds, in_chunks):
    """Sends one HTTP/1.1 inference after another, in JSON."""
    tensors = [{"name": name, "shape": [1, 16], "datatype": "INT32", "data": list(range(16))} for name in ("INPUT0", "INPUT1")]
    body, end = json.dumps({"inputs": tensors}).encode(), time.monotonic() + seconds
    headers = {"Content-Type": "application/json"}
    if in_chunks:
        body, headers["Transfer-Encoding"] = [body], "chunked"
    connection = http.client.HTTPConnection(address)
    while time.monotonic() < end:
        connection.request("POST", "/v2/models/simple/infer", body, headers, encode_chunked=in_chunks)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{address}: HTTP {answer.status}: {text}")


def send_grpc(loadtest, address, seconds):
    run = [loadtest, "run", f"grpc://{address}/simple", "--clients", "1", "--duration", f"{seconds}s", "--warm-up", "0s"]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnxd", help="the server, a debug build")
    parser.add_argument("loadtest", help="the load generator")
    parser.add_argument("--list", action="store_true", help="print each file with its functions")
    options = parser.parse_args()

    seconds = 2 * WINDOW_SECONDS + 3
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.onnxd, folder)
        background = server.functions()
        http_address, grpc_address = server.addresses["http"], server.addresses["grpc"]
        # The fast path leaves a body in chunks to hyper.
        loads = {
            "fast path": lambda: send_http(http_address, seconds, in_chunks=False),
            "hyper": lambda: send_http(http_address, seconds, in_chunks=True),
            "gRPC": lambda: send_grpc(options.loadtest, grpc_address, seconds),
        }
        ways = {}
        for name, load in loads.items():
            sender = threading.Thread(target=load)
            sender.start()
            time.sleep(WINDOW_SECONDS / 2)
            ways[name] = server.functions() - background
            sender.join()
        server.process.kill()
        server.process.wait()

    ways["any"] = set().union(*ways.values())
    rooms = ["server", "api", "router", "batcher", "engine", "tensor"]
    print("files / functions".ljust(18), *(room.rjust(10) for room in rooms + ["others", "all"]))
    for name, way in ways.items():
        by_room = {room: set() for room in rooms + ["others"]}
        for file, function in way:
            room = re.split(r"[/.]", file)[0]
            by_room[room if room in by_room else "others"].add((file, function))
        by_room["all"] = way
        counts = (f"{len({file for file, _ in found})} / {len(found)}" for found in by_room.values())
        print(name.ljust(18), *(count.rjust(10) for count in counts))
    if options.list:
        for file in sorted({file for file, _ in ways["any"]}):
            print(f"\n{file}")
            for function in sorted(function for of, function in ways["any"] if of == file):
                on = [name for name, way in ways.items() if name != "any" and (file, function) in way]
                print(f"    {function}  [{', '.join(on)}]")


if __name__ == "__main__":
    main()
