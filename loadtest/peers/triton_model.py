"""The mlp for Triton's Python backend: a batch of requests is one run of ONNX Runtime.

Triton's dynamic batcher hands over the requests that wait; joining their rows is the model's part.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any

# The backend's interpreter is isolated: it takes no notice of PYTHONPATH, nor of virtual environments.
sys.path.append(os.environ["PEER_PACKAGES"])

import numpy
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model that lies beside this file."""
        options = onnxruntime.SessionOptions()
        parameters = json.loads(args["model_config"])["parameters"]
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        path = pathlib.Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers a batch."""
        inputs = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        joined = inputs[0] if len(inputs) == 1 else numpy.concatenate(inputs)
        [outputs] = self.session.run(["y"], {"x": joined})
        answers, start = [], 0
        for rows in map(len, inputs):
            answer = triton.Tensor("y", outputs[start : start + rows])
            answers.append(triton.InferenceResponse([answer]))
            start += rows
        return answers
