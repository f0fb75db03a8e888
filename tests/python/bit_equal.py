"""Answers are bit for bit those of onnxruntime in Python, in whichever form requests and answers travel.

Every model and version, several numbers of rows, ordinary and awkward values, over gRPC (raw and typed contents) and
HTTP (JSON and binary). Requests come one after the other, so that each is its own batch: for those, equality is
promised. The reference runs with onnxruntime's default session options on the CPU.

Prints the number of requests, which must be the number of batches that the server ran.
"""

import grpc
import numpy as np
import onnxruntime
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

from common import Answer, arguments, assert_same_bits, infer_inputs, make_inputs

MODELS = [("simple", "1"), ("purchase", "1"), ("purchase", "2"), ("purchase", "3"), ("mlp", "1")]
ROWS = [1, 2, 7, 64]
CONTENTS = {"INT32": "int_contents", "FP32": "fp32_contents"}


class Ways:
    """The ways in which a request and its answer can travel, each with the same parameters."""

    def __init__(self, addresses):
        self.grpc = tritonclient.grpc.InferenceServerClient(addresses.grpc)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(addresses.grpc))
        self.http = tritonclient.http.InferenceServerClient(addresses.http)

    def grpc_raw(self, model, version, inputs, outputs, request_id):
        """raw_input_contents and raw_output_contents; no outputs are named, which means all."""
        inputs = infer_inputs(tritonclient.grpc, inputs)
        return self.grpc.infer(model, inputs, model_version=version, request_id=request_id)

    def grpc_typed(self, model, version, inputs, outputs, request_id):
        """contents; tritonclient has no call that sends them, so the message is built here."""
        request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=request_id)
        for name, array in inputs.items():
            tensor = request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
            getattr(tensor.contents, CONTENTS[tensor.datatype]).extend(array.ravel().tolist())
        for name in outputs:
            request.outputs.add(name=name)
        return tritonclient.grpc.InferResult(self.stub.ModelInfer(request))

    def http_json(self, model, version, inputs, outputs, request_id):
        """Numbers as JSON text in both directions."""
        return self.over_http(model, version, inputs, outputs, request_id, binary=False)

    def http_binary(self, model, version, inputs, outputs, request_id):
        """Bytes behind the JSON in both directions."""
        return self.over_http(model, version, inputs, outputs, request_id, binary=True)

    def over_http(self, model, version, inputs, outputs, request_id, binary):
        inputs = infer_inputs(tritonclient.http, inputs, binary_data=binary)
        requested = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in outputs]
        result = self.http.infer(model, inputs, model_version=version, outputs=requested, request_id=request_id)
        for name in outputs:
            # The form that was asked for is the one that came.
            assert ("data" in result.get_output(name)) != binary, result.get_response()
        return result


def main():
    assert onnxruntime.__version__ == "1.31.1"
    given = arguments()
    ways = Ways(given)
    random = np.random.default_rng(20)
    asked = 0
    for model, version in MODELS:
        file = f"{given.repository}/{model}/{version}/model.onnx"
        reference = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in reference.get_outputs()]
        for rows, awkward in [(rows, awkward) for rows in ROWS for awkward in (False, True)]:
            inputs = make_inputs(model, rows, random, awkward)
            expected = dict(zip(outputs, reference.run(outputs, inputs)))
            assert all(np.isfinite(array).all() for array in expected.values()), (model, version, expected)
            for way in (ways.grpc_raw, ways.grpc_typed, ways.http_json, ways.http_binary):
                what = f"{model} version {version}, {rows} rows, awkward {awkward}, {way.__name__}"
                asked += 1
                got = Answer.of(way(model, version, inputs, outputs, f"request {asked}"))
                assert (got.model, got.version, got.id) == (model, version, f"request {asked}"), f"{what}: {got}"
                assert_same_bits(got.outputs, expected, what)
    print(asked)


main()
