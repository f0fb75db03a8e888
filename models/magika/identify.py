"""Ask a server that has the model `magika` what type files are of.

    python identify.py [--url http://localhost:8000] FILE...

Prints each file's label and its score. It needs Python alone, and shows what the model's input is made of.
"""

import argparse
import json
import urllib.request
from pathlib import Path

BLOCK, SIDE, PADDING = 4096, 1024, 256
LABELS = Path(__file__).with_name("labels.txt").read_text().split()


def features(content: bytes) -> list[int]:
    """The 2048 numbers that the model takes: the file's first and its last 1024 bytes.

    Whitespace around the content is left out, where it is within the first or last 4096 bytes; 256 stands where a short
    file has no byte.
    """
    first = list(content[:BLOCK].lstrip()[:SIDE])
    last = list(content[-BLOCK:].rstrip()[-SIDE:])
    return first + [PADDING] * (SIDE - len(first)) + [PADDING] * (SIDE - len(last)) + last


def identify(url: str, content: bytes) -> tuple[str, float]:
    """The likeliest label, and its score, which is between 0 and 1."""
    tensor = {"name": "bytes", "shape": [1, 2 * SIDE], "datatype": "INT32", "data": features(content)}
    request = urllib.request.Request(f"{url}/v2/models/magika/infer", json.dumps({"inputs": [tensor]}).encode())
    with urllib.request.urlopen(request) as answer:
        scores = json.load(answer)["outputs"][0]["data"]
    best = max(range(len(scores)), key=scores.__getitem__)
    return LABELS[best], scores[best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://localhost:8000", help="the server's HTTP address")
    parser.add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    for file in args.files:
        label, score = identify(args.url, file.read_bytes())
        print(f"{file}: {label} {score:.4f}")


if __name__ == "__main__":
    main()
