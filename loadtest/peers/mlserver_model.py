"""The mlp as a custom runtime of MLServer, as its documentation shows them: there is none for ONNX.

MLServer's adaptive batching joins requests before `predict`, and cuts its answer.
"""

from __future__ import annotations

import os

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """What MLServer loads."""

    async def load(self) -> bool:
        """Loads the model that the settings name."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
        path = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answers a batch. The run takes microseconds: a thread for it would cost more."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        [outputs] = self.session.run(["y"], {"x": rows})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", outputs)])
