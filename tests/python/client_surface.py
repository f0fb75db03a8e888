"""What tritonclient offers beside a plain inference, over both protocols.

Readiness, metadata, choosing outputs and their form, odd model names, many requests in flight.
"""

import asyncio
import queue

import numpy as np
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from common import PROTOCOLS, Answer, arguments, assert_same_bits, infer_inputs, make_inputs, simple_outputs

# Names of models that are copies of `simple`: what a folder can be called must be reachable in an address.
ODD_NAMES = ["my model+1", "50%2B ä?#&=;:@"]


def is_ready(client, model, version=""):
    """Whether the model is said to be ready. That there is none is an error over gRPC, as Triton has it."""
    try:
        return client.is_model_ready(model, version)
    except InferenceServerException as error:
        assert error.status() == "StatusCode.NOT_FOUND", error
        return False


def check_readiness(protocol, client):
    assert client.is_server_live()
    assert client.is_server_ready()
    for model, version in [("simple", ""), ("simple", "1"), ("purchase", ""), ("purchase", "3")]:
        assert is_ready(client, model, version), (protocol, model, version)
    for model, version in [("nothing", ""), ("nothing", "1"), ("simple", "2"), ("purchase", "4")]:
        assert not is_ready(client, model, version), (protocol, model, version)


def metadata(protocol, client, model, version=""):
    """A model's metadata as HTTP has it. Over gRPC, protobuf's JSON has 64-bit integers as strings."""
    if protocol == "http":
        return client.get_model_metadata(model, version)
    got = client.get_model_metadata(model, version, as_json=True)
    for tensor in got["inputs"] + got["outputs"]:
        tensor["shape"] = [int(extent) for extent in tensor["shape"]]
    return got


def check_metadata(protocol, client):
    server = client.get_server_metadata() if protocol == "http" else client.get_server_metadata(as_json=True)
    assert server["name"] == "onnxd" and server["version"], server
    assert "binary_tensor_data" in server["extensions"], server

    for version in ("", "1", "3"):
        got = metadata(protocol, client, "purchase", version)
        assert got["name"] == "purchase" and got["platform"] == "onnxruntime_onnx", got
        assert got["versions"] == ["1", "2", "3"], got
        assert got["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 17]}], got
        assert got["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [-1, 1]}], got
    got = metadata(protocol, client, "simple")
    for kind, names in (("inputs", ["INPUT0", "INPUT1"]), ("outputs", ["OUTPUT0", "OUTPUT1"])):
        assert got[kind] == [{"name": name, "datatype": "INT32", "shape": [-1, 16]} for name in names], got


def check_default_version(protocol, client):
    """A request without a version goes to the stable one, by models/purchase/config.toml version 2, and is told so."""
    inputs = make_inputs("purchase", 3, np.random.default_rng(2))
    answers = {}
    for version in ("", "1", "2", "3"):
        result = client.infer("purchase", infer_inputs(PROTOCOLS[protocol], inputs), model_version=version)
        answers[version] = Answer.of(result)
        assert answers[version].version == (version or "2"), (protocol, answers[version])
    assert_same_bits(answers[""].outputs, answers["2"].outputs, protocol)


def check_outputs(protocol, client):
    """Outputs come as named, in the order named, and no others."""
    module = PROTOCOLS[protocol]
    inputs = make_inputs("simple", 2, np.random.default_rng(3))
    every = simple_outputs(inputs)
    for names in (["OUTPUT1", "OUTPUT0"], ["OUTPUT1"], ["OUTPUT0"]):
        requested = [module.InferRequestedOutput(name) for name in names]
        result = client.infer("simple", infer_inputs(module, inputs), outputs=requested)
        assert_same_bits(Answer.of(result).outputs, {name: every[name] for name in names}, f"{protocol} {names}")
    assert result.as_numpy("OUTPUT1") is None


def check_output_forms(client):
    """Over HTTP every tensor may choose between JSON and binary for itself."""
    inputs = make_inputs("simple", 2, np.random.default_rng(4))
    for in_binary in ("INPUT0", "INPUT1"):
        for out_binary in ("OUTPUT0", "OUTPUT1"):
            given = []
            for name in inputs:
                given += infer_inputs(tritonclient.http, {name: inputs[name]}, binary_data=name == in_binary)
            requested = [
                tritonclient.http.InferRequestedOutput(name, binary_data=name == out_binary)
                for name in ("OUTPUT0", "OUTPUT1")
            ]
            result = client.infer("simple", given, outputs=requested)
            assert_same_bits(Answer.of(result).outputs, simple_outputs(inputs), f"{in_binary} {out_binary}")
            for output in result.get_response()["outputs"]:
                assert ("data" in output) != (output["name"] == out_binary), output


def check_odd_names(protocol, client):
    inputs = make_inputs("simple", 1, np.random.default_rng(5))
    for name in ODD_NAMES:
        assert client.is_model_ready(name) and client.is_model_ready(name, "1"), (protocol, name)
        assert metadata(protocol, client, name)["name"] == name
        for version in ("", "1"):
            answer = Answer.of(client.infer(name, infer_inputs(PROTOCOLS[protocol], inputs), model_version=version))
            assert answer.model == name, answer
            assert_same_bits(answer.outputs, simple_outputs(inputs), f"{protocol} {name}")


async def check_odd_names_in_asyncio(address):
    """The asynchronous HTTP client encodes addresses in a way of its own."""
    inputs = make_inputs("simple", 1, np.random.default_rng(5))
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        for name in ODD_NAMES:
            assert await client.is_model_ready(name), name
            answer = Answer.of(await client.infer(name, infer_inputs(tritonclient.http.aio, inputs)))
            assert answer.model == name, answer
            assert_same_bits(answer.outputs, simple_outputs(inputs), name)


def check_async_infer_grpc(client):
    """All requests are sent before an answer is looked at; the callback tells which is which by the id."""
    random = np.random.default_rng(6)
    requests = {str(number): make_inputs("simple", 1 + number % 3, random) for number in range(32)}
    done = queue.Queue()

    def callback(result, error):
        done.put((result, error))

    for number, inputs in requests.items():
        client.async_infer("simple", infer_inputs(PROTOCOLS["grpc"], inputs), callback, request_id=number)
    for _ in range(len(requests)):
        result, error = done.get()
        assert error is None, error
        answer = Answer.of(result)
        assert_same_bits(answer.outputs, simple_outputs(requests.pop(answer.id)), f"grpc {answer.id}")
    assert not requests

    client.async_infer("nothing", infer_inputs(PROTOCOLS["grpc"], inputs), callback)
    result, error = done.get()
    assert result is None and error.status() == "StatusCode.NOT_FOUND", (result, error)


def check_async_infer_http(address):
    """All requests are sent before an answer is looked at, over several connections."""
    random = np.random.default_rng(7)
    requests = [make_inputs("simple", 1 + number % 3, random) for number in range(32)]
    with tritonclient.http.InferenceServerClient(address, concurrency=8) as client:
        pending = [client.async_infer("simple", infer_inputs(tritonclient.http, inputs)) for inputs in requests]
        for inputs, request in zip(requests, pending):
            assert_same_bits(Answer.of(request.get_result()).outputs, simple_outputs(inputs), "http")
        try:
            client.async_infer("nothing", infer_inputs(tritonclient.http, inputs)).get_result()
            raise AssertionError("an unknown model answered")
        except InferenceServerException as error:
            assert error.status() == "404", error


def main():
    given = arguments()
    addresses = {"grpc": given.grpc, "http": given.http}
    for protocol, module in PROTOCOLS.items():
        with module.InferenceServerClient(addresses[protocol]) as client:
            check_readiness(protocol, client)
            check_metadata(protocol, client)
            check_default_version(protocol, client)
            check_outputs(protocol, client)
            check_odd_names(protocol, client)
            if protocol == "grpc":
                check_async_infer_grpc(client)
            else:
                check_output_forms(client)
    check_async_infer_http(given.http)
    asyncio.run(check_odd_names_in_asyncio(given.http))


main()
