"""Fetch `magika`, which tells the type of a file from its first and last bytes.

    python fetch.py [--out DIR]

Writes DIR/1/model.onnx and DIR/labels.txt (DIR: this script's folder): the model of PyPI's package magika and the label
of each of its outputs. pip fetches the package, pinned by SHA-256.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Any platform's wheel has the same model.
WHEEL = "magika-1.0.3-py3-none-manylinux_2_28_x86_64.whl"
WHEEL_SHA256 = "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529"
MODEL_SHA256 = "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"
INSIDE = "magika/models/standard_v3_3"


def download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"magika==1.0.3 --hash=sha256:{WHEEL_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    platform = ["--platform", "manylinux_2_28_x86_64"]
    subprocess.run([*pip, *platform, "-r", requirements, "-d", folder], check=True)
    return folder / WHEEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write the files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(download(Path(folder))) as wheel:
        model = wheel.read(f"{INSIDE}/model.onnx")
        labels = json.loads(wheel.read(f"{INSIDE}/config.min.json"))["target_labels_space"]
    got = hashlib.sha256(model).hexdigest()
    if got != MODEL_SHA256:
        sys.exit(f"the model in {WHEEL} is not the expected one\nexpected SHA-256 {MODEL_SHA256}\ngot      SHA-256 {got}")
    path = args.out / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    (args.out / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    print(f"1/model.onnx: {len(model)} bytes, {len(labels)} labels")


if __name__ == "__main__":
    main()
