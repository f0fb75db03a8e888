"""Shows that a split is what its weights say. Run by hand, with release builds:

    pip install numpy onnx
    python3 tests/soak/split.py target/release/onnxd target/release/loadtest

At least 100,000 requests at 99 : 1; told are the requests of each version and how many standard deviations the share of the
smaller one lies from 1 % (the bar is 4).
"""

import json
import subprocess
import sys
import tempfile

from common import Server, adding

WANTED, REQUESTS = 0.01, 100_000


def main():
    binary, program = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as repository:
        for version in (1, 2):
            adding(repository, "add", version)
        with Server(binary, repository) as server:
            server.admin("POST", "/models/add/weights", {"weights": {"1": 99, "2": 1}, "actor": "soak"})
            counted = lambda version: server.metric("onnxd_routed_requests_total", 'model="add"', f'version="{version}"', 'reason="weighted"')
            while sum(map(counted, (1, 2))) < REQUESTS:
                target = f"grpc://{server.addresses['grpc']}/add"
                command = [program, "run", target, "--clients", "32", "--duration", "3s", "--no-check", "--json"]
                level = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["levels"][0]
                if level["errors"]:
                    sys.exit(f"requests failed: {level['errors']}")
            large, small = counted(1), counted(2)
    total = large + small
    deviation = (small - total * WANTED) / (total * WANTED * (1 - WANTED)) ** 0.5
    print(f"{total:.0f} requests: {large:.0f} and {small:.0f}, which is {small / total:.3%}: {deviation:+.2f} standard deviations")
    sys.exit(0 if abs(deviation) <= 4 else 1)


main()
