"""The mlp behind LitServe, with the V2 protocol's JSON as the API's own: a path, `decode_request`, `encode_response`.

Settings come from the environment, as `run.py` sets them.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import litserve
import numpy
import onnxruntime

import v2


class OnnxApi(litserve.LitAPI):
    """What LitServe calls, in each of its inference workers."""

    def setup(self, device: str) -> None:
        """Loads the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
        path = os.environ["PEER_MODEL"]
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe would make a query parameter of it
        """The rows of a request."""
        tensor = request["inputs"][0]
        return numpy.array(tensor["data"], numpy.float32).reshape(tensor["shape"])

    def batch(self, inputs: list[numpy.ndarray]) -> tuple[list[int], numpy.ndarray]:
        """Joins requests."""
        return [len(rows) for rows in inputs], numpy.concatenate(inputs)

    def predict(self, batch: tuple[list[int], numpy.ndarray]) -> tuple[list[int], numpy.ndarray]:
        """Runs a batch."""
        counts, rows = batch
        [outputs] = self.session.run(["y"], {"x": rows})
        return counts, outputs

    def unbatch(self, output: tuple[list[int], numpy.ndarray]) -> list[numpy.ndarray]:
        """Cuts the answer to a batch."""
        counts, rows = output
        return numpy.split(rows, numpy.cumsum(counts)[:-1])

    def encode_response(self, output):  # type: ignore[no-untyped-def]  # FastAPI would validate what is declared
        """The answer to a request."""
        return {"model_name": "mlp", "model_version": "1", "outputs": [v2.output(output)]}


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    api = OnnxApi(
        max_batch_size=int(os.environ["PEER_BATCH"]),
        batch_timeout=float(os.environ["PEER_DELAY"]),
        api_path="/v2/models/mlp/infer",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=int(os.environ["PEER_WORKERS"]),
        fast_queue=os.environ["PEER_FAST_QUEUE"] == "1",
    )
    server.app.add_api_route("/v2/models/mlp", lambda: v2.METADATA, methods=["GET"])
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=int(os.environ["PEER_API_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
