"""The V2 protocol's JSON, as far as the mlp needs it, for frameworks that have an HTTP API of their own."""

from __future__ import annotations

from typing import Any

METADATA: dict[str, Any] = {
    "name": "mlp",
    "versions": ["1"],
    "platform": "onnx",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 32]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


def output(rows: Any) -> dict[str, Any]:
    """The output of these rows, a numpy array."""
    return {"name": "y", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
