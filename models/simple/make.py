"""Build `simple`, a model with Triton's best-known example signature.

    pip install -r ../purchase/requirements.txt
    python make.py [--out DIR]

Writes DIR/1/model.onnx (DIR: this script's folder): INPUT0 and INPUT1 to their sum
OUTPUT0 and difference OUTPUT1, all INT32 [batch,16], so that client examples written
for that signature run unchanged.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper


def build() -> onnx.ModelProto:
    def tensor(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", 16])

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
        ],
        "simple",
        [tensor("INPUT0"), tensor("INPUT1")],
        [tensor("OUTPUT0"), tensor("OUTPUT1")],
    )
    # IR 8 and opset 17 belong together (ONNX 1.12): old enough for any runtime in use.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "onnx.helper"
    model.doc_string = "Sum and difference of two INT32 tensors."
    onnx.checker.check_model(model, full_check=True)
    return model


def check(data: bytes) -> None:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    for rows in (1, 8):
        a = np.arange(rows * 16, dtype=np.int32).reshape(rows, 16)
        b = np.full_like(a, 3)
        total, difference = session.run(["OUTPUT0", "OUTPUT1"], {"INPUT0": a, "INPUT1": b})
        assert (total == a + b).all() and (difference == a - b).all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write 1/model.onnx")
    args = parser.parse_args()
    data = build().SerializeToString(deterministic=True)
    check(data)
    path = args.out / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"1/model.onnx: {len(data)} bytes")


if __name__ == "__main__":
    main()
