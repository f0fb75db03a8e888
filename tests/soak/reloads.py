"""Shows that reloads leave nothing behind. Run by hand, with a release build:

    pip install numpy onnx
    python3 tests/soak/reloads.py target/release/onnxd [1000]

A model of 10 MB is reloaded again and again under a light load. Told are the resident memory, the descriptors and the threads
after the 50th reload and after the last (bars: 1.1 times the memory, no more descriptors or threads).
"""

import sys
import tempfile
import time

from common import Checkers, Server, adding, heavy


def look(server, done):
    # What requests held, and what is freed behind them, has gone by then: a little memory is given back after 10 s, and threads
    # that wait for more calls end after as long.
    time.sleep(12)
    seen = server.memory(), server.descriptors(), server.threads()
    print(f"after {done} reloads: {seen[0]:.1f} MiB, {seen[1]} descriptors, {seen[2]} threads", flush=True)
    return seen


def main():
    binary, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as repository:
        adding(repository, "add", 1)
        heavy(repository, "heavy", 1, 10)
        with Server(binary, repository) as server:
            checkers = Checkers(server, "add", {1}, clients=2)
            for done in range(1, count + 1):
                server.reload("heavy", 1)
                if done == 50:
                    first = look(server, done)
                elif done % 250 == 0:
                    last = look(server, done)
            last = look(server, count)
            asked, wrong = checkers.end()
    print(f"{asked} answers checked beside, wrong: {wrong[:3] or 'none'}; memory {last[0] / first[0]:.3f} times")
    sys.exit(0 if last[0] <= first[0] * 1.1 and last[1] <= first[1] and last[2] <= first[2] and not wrong else 1)


main()
