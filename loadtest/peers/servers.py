"""Starts servers, waits for them, and stops them with everything that they have started. Linux only."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

START_LIMIT_S = 120
STOP_LIMIT_S = 10


class Failure(Exception):
    """What is told to people; nothing is wrong with this program."""


@dataclass(frozen=True)
class Launch:
    """How a server is started."""

    arguments: list[str]
    folder: pathlib.Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    process: subprocess.Popen[bytes]
    log: pathlib.Path


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that the kernel does not give to outgoing connections soon."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(name: str, launch: Launch, ready: str, log: pathlib.Path) -> Iterator[Server]:
    """Runs a server, in a session of its own, from when `ready`, a URL, answers until the block is left."""
    launch.folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **launch.environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.arguments,
            cwd=launch.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, process, log)
    try:
        wait_until_ready(server, ready)
        yield server
    finally:
        stop(server)


def wait_until_ready(server: Server, url: str) -> None:
    """Returns when a URL is answered with 200."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise Failure(f"{server.name} ended with {server.process.returncode}:\n{tail(server.log)}")
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(url, timeout=5):
                return
        time.sleep(0.2)
    raise Failure(f"{server.name} was not ready after {START_LIMIT_S} s:\n{tail(server.log)}")


def tail(log: pathlib.Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def stop(server: Server) -> None:
    """Ends a server's session: asked first, killed if need be, whatever process groups it has made."""
    for number, limit in [(signal.SIGTERM, STOP_LIMIT_S), (signal.SIGKILL, 2)]:
        # The leader first: what it starts is its own to end.
        first = [server.process.pid] if number == signal.SIGTERM else session(server)
        for pid in first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            server.process.poll()
            if not session(server):
                return
            time.sleep(0.1)


@dataclass(frozen=True)
class Stat:
    """A process, as `/proc` has it."""

    parent: int
    session: int
    state: str
    ticks: int


def processes() -> dict[int, Stat]:
    """All processes."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name in parentheses may hold anything; fields are counted behind it (proc_pid_stat(5)).
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            found[int(entry.name)] = Stat(int(fields[1]), int(fields[3]), fields[0], int(fields[11]) + int(fields[12]))
    return found


def session(server: Server) -> dict[int, Stat]:
    """The processes of a server that live."""
    pid = server.process.pid
    return {one: stat for one, stat in processes().items() if stat.session == pid and stat.state != "Z"}


def cpu_seconds(server: Server) -> float:
    """CPU time that a server's processes have taken so far."""
    return sum(stat.ticks for stat in session(server).values()) / os.sysconf("SC_CLK_TCK")


def idle_cpu(server: Server, seconds: float = 2) -> float:
    """Share of a CPU that a server takes while nobody asks it."""
    before, began = cpu_seconds(server), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(server) - before) / (time.monotonic() - began)


def not_counted(server: Server, port: int) -> list[str]:
    """Processes of a server whose CPU time loadtest misses: it takes those that listen, and what they have started."""
    known = processes()
    listeners = listening_on(port)

    def counted(pid: int) -> bool:
        while pid in known:
            if pid in listeners:
                return True
            pid = known[pid].parent
        return False

    missed = [pid for pid in session(server) if not counted(pid)]
    return [pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in missed]


def listening_on(port: int) -> set[int]:
    """The processes that hold the listening socket of a port."""
    sockets = set()
    for table in ["/proc/net/tcp", "/proc/net/tcp6"]:
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
                sockets.add(f"socket:[{fields[9]}]")
    found = set()
    for pid in processes():
        with contextlib.suppress(OSError):
            links = {os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
            if links & sockets:
                found.add(pid)
    return found


def named(url: str) -> str | None:
    """What a server of the V2 protocol calls itself; `None` where there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with urllib.request.urlopen(url, timeout=5) as answer:
            told = json.load(answer)
            return f"{told['name']} {told['version']}"
    return None


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request in JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        raise Failure(f"{url}: {error}: {error.read().decode(errors='replace')[:500]}") from error
