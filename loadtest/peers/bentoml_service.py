"""The mlp behind BentoML, batched by its adaptive batching.

A batchable API takes one argument and answers with as many items: here `inputs`, the list that a request of the V2
protocol has, and a list of outputs. That makes a request's JSON the API's own; around the answer a middleware puts
`{"outputs": ...}`, and answers what the model is. Settings come from the environment, as `run.py` sets them.
"""

from __future__ import annotations

import json
import os
from typing import Any

import bentoml
import numpy
import onnxruntime

import v2

PATH = "/v2/models/mlp"


class V2:
    """Puts answers into the protocol's form."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI application."""
        path = scope.get("path")
        if path == PATH:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
            await send({"type": "http.response.body", "body": json.dumps(v2.METADATA).encode()})
        elif path == f"{PATH}/infer":
            await self.app(scope, receive, wrapping(send))
        else:
            await self.app(scope, receive, send)


def wrapping(send: Any) -> Any:
    """Sends good answers as `{"outputs": ...}`."""
    start: dict[str, Any] = {}
    body = b""

    async def wrapped(message: dict[str, Any]) -> None:
        nonlocal body
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body += message.get("body", b"")
        if message.get("more_body"):
            return
        if start["status"] == 200:
            body = b'{"model_name":"mlp","model_version":"1","outputs":' + body + b"}"
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        start["headers"] = [*headers, (b"content-length", b"%d" % len(body))]
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return wrapped


@bentoml.service(
    workers=int(os.environ["PEER_WORKERS"]),
    traffic={"timeout": 30},
    logging={"access": {"enabled": False}},
)
class Mlp:
    """What BentoML serves."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
        path = os.environ["PEER_MODEL"]
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    @bentoml.api(
        route=f"{PATH}/infer",
        batchable=True,
        max_batch_size=int(os.environ["PEER_BATCH"]),
        max_latency_ms=int(os.environ["PEER_MAX_LATENCY_MS"]),
    )
    async def infer(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers a batch. The run takes microseconds: a thread for it would cost more."""
        counts = [tensor["shape"][0] for tensor in inputs]
        rows = [numpy.array(tensor["data"], numpy.float32).reshape(tensor["shape"]) for tensor in inputs]
        [outputs] = self.session.run(["y"], {"x": numpy.concatenate(rows)})
        return [v2.output(part) for part in numpy.split(outputs, numpy.cumsum(counts)[:-1])]


Mlp.add_asgi_middleware(V2)
