"""Compression, both ways, as tritonclient does it: over HTTP with JSON and with binary data, over gRPC, and with asyncio.

The model `echo` answers what it is asked.
"""

import asyncio
import itertools

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from common import arguments, infer_inputs

ALGORITHMS = [None, "gzip", "deflate"]

# Small and large, easy and hard to pack.
ARRAYS = [
    np.arange(4, dtype=np.float32).reshape(1, 4),
    (np.arange(100_000, dtype=np.float32) // 16).reshape(10, 10_000),
    np.random.default_rng(1).standard_normal((10, 5_000), dtype=np.float32),
]


def check(result, array, what):
    np.testing.assert_array_equal(result.as_numpy("y"), array, err_msg=str(what))


def http(address):
    client = tritonclient.http.InferenceServerClient(address)
    for array, sent, wanted, binary in itertools.product(ARRAYS, ALGORITHMS, ALGORITHMS, (True, False)):
        result = client.infer(
            "echo",
            infer_inputs(tritonclient.http, {"x": array}, binary_data=binary),
            outputs=[tritonclient.http.InferRequestedOutput("y", binary_data=binary)],
            request_compression_algorithm=sent,
            response_compression_algorithm=wanted,
        )
        check(result, array, (array.shape, sent, wanted, binary))


async def http_aio(address):
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        for array, sent, wanted in itertools.product(ARRAYS, ALGORITHMS, ALGORITHMS):
            result = await client.infer(
                "echo",
                infer_inputs(tritonclient.http, {"x": array}),
                request_compression_algorithm=sent,
                response_compression_algorithm=wanted,
            )
            check(result, array, (array.shape, sent, wanted))


def grpc(address):
    client = tritonclient.grpc.InferenceServerClient(address)
    for array, algorithm in itertools.product(ARRAYS, ALGORITHMS):
        result = client.infer("echo", infer_inputs(tritonclient.grpc, {"x": array}), compression_algorithm=algorithm)
        check(result, array, (array.shape, algorithm))


async def grpc_aio(address):
    async with tritonclient.grpc.aio.InferenceServerClient(address) as client:
        for array, algorithm in itertools.product(ARRAYS, ALGORITHMS):
            inputs = infer_inputs(tritonclient.grpc, {"x": array})
            result = await client.infer("echo", inputs, compression_algorithm=algorithm)
            check(result, array, (array.shape, algorithm))


def main():
    options = arguments()
    http(options.http)
    grpc(options.grpc)
    asyncio.run(http_aio(options.http))
    asyncio.run(grpc_aio(options.grpc))


main()
