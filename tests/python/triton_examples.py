"""What the examples of Triton's Python client do with `simple`, in their calls and with their data.

INPUT0 counts from 0 to 15, INPUT1 is the same number throughout.
"""

import asyncio

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from common import arguments

COUNT = np.arange(16, dtype=np.int32).reshape(1, 16)


def assert_sum_and_difference(output0, output1, input1):
    np.testing.assert_array_equal(output0, COUNT + input1)
    np.testing.assert_array_equal(output1, COUNT - input1)


def two_inputs(module):
    return [module.InferInput("INPUT0", [1, 16], "INT32"), module.InferInput("INPUT1", [1, 16], "INT32")]


def grpc_infer(address):
    """As simple_grpc_infer_client: outputs named and not, a header and a deadline of the client's own."""
    client = tritonclient.grpc.InferenceServerClient(url=address, verbose=False, ssl=False)
    ones = np.ones((1, 16), dtype=np.int32)
    inputs = two_inputs(tritonclient.grpc)
    inputs[0].set_data_from_numpy(COUNT)
    inputs[1].set_data_from_numpy(ones)
    named = [tritonclient.grpc.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
    for outputs, client_timeout in ((named, None), (None, 200)):
        results = client.infer(
            model_name="simple",
            inputs=inputs,
            outputs=outputs,
            client_timeout=client_timeout,
            headers={"test": "1"},
            compression_algorithm=None,
        )
        assert_sum_and_difference(results.as_numpy("OUTPUT0"), results.as_numpy("OUTPUT1"), ones)


def http_infer(address):
    """As simple_http_infer_client: one input as JSON and one in binary, outputs likewise or not named at all, an
    address with parameters that mean nothing to the server, and a model that is not there."""
    client = tritonclient.http.InferenceServerClient(url=address, verbose=False)
    minus_ones = np.full((1, 16), -1, dtype=np.int32)
    inputs = two_inputs(tritonclient.http)
    inputs[0].set_data_from_numpy(COUNT, binary_data=False)
    inputs[1].set_data_from_numpy(minus_ones, binary_data=True)
    named = [
        tritonclient.http.InferRequestedOutput("OUTPUT0", binary_data=True),
        tritonclient.http.InferRequestedOutput("OUTPUT1", binary_data=False),
    ]
    options = {"query_params": {"test_1": 1, "test_2": 2}, "headers": {"test": "1"}}
    for outputs in (named, None):
        results = client.infer("simple", inputs, outputs=outputs, **options)
        assert_sum_and_difference(results.as_numpy("OUTPUT0"), results.as_numpy("OUTPUT1"), minus_ones)
    try:
        client.infer("wrong_model_name", inputs, outputs=named, **options)
        raise AssertionError("expected an error for a wrong model name")
    except InferenceServerException as error:
        assert error.message().startswith("Request for unknown model"), error


def grpc_explicit_int_content(address):
    """As grpc_explicit_int_content_client: typed contents in, raw contents out, and that the two don't mix."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))
    request = service_pb2.ModelInferRequest(model_name="simple", model_version="")
    for name, values in (("INPUT0", range(16)), ("INPUT1", [1] * 16)):
        tensor = request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        tensor.contents.int_contents[:] = values
    request.outputs.add(name="OUTPUT0")
    request.outputs.add(name="OUTPUT1")
    response = stub.ModelInfer(request)
    assert [output.name for output in response.outputs] == ["OUTPUT0", "OUTPUT1"], response
    outputs = [
        np.frombuffer(data, dtype=np.int32).reshape(output.shape)
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    ]
    assert_sum_and_difference(*outputs, np.ones((1, 16), dtype=np.int32))

    request.raw_input_contents.append(COUNT[:, :8].tobytes())
    try:
        stub.ModelInfer(request)
        raise AssertionError("expected an error for contents in both forms")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        expected = "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'"
        assert expected in error.details(), error


async def aio_infer(module, address):
    """As simple_grpc_aio_infer_client and simple_http_aio_infer_client."""
    ones = np.ones((1, 16), dtype=np.int32)
    inputs = two_inputs(module)
    inputs[0].set_data_from_numpy(COUNT)
    inputs[1].set_data_from_numpy(ones)
    outputs = [module.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
    async with module.InferenceServerClient(address) as client:
        for requested in (outputs, None):
            results = await client.infer("simple", inputs, outputs=requested)
            assert_sum_and_difference(results.as_numpy("OUTPUT0"), results.as_numpy("OUTPUT1"), ones)


def health_and_metadata(address):
    """As simple_grpc_health_metadata, but for the server's own name."""
    client = tritonclient.grpc.InferenceServerClient(address)
    headers = {"test": "1", "dummy": "2"}
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.get_server_metadata().name == "onnxd"
    assert client.get_model_metadata("simple", headers=headers).name == "simple"
    try:
        client.get_model_metadata("wrong_model_name")
        raise AssertionError("expected an error for a wrong model name")
    except InferenceServerException as error:
        assert "Request for unknown model" in error.message(), error


def main():
    given = arguments()
    grpc_infer(given.grpc)
    http_infer(given.http)
    grpc_explicit_int_content(given.grpc)
    health_and_metadata(given.grpc)
    asyncio.run(aio_infer(tritonclient.grpc.aio, given.grpc))
    asyncio.run(aio_infer(tritonclient.http.aio, given.http))


main()
