"""What the scripts have in common: where the server is, what its models take, and the clients that ask it."""

import argparse
import dataclasses
import faulthandler

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

# Nothing here may hang: past this many seconds every thread's stack is printed and the script fails.
faulthandler.dump_traceback_later(300, exit=True)

# The two client modules; they have most names in common.
PROTOCOLS = {"grpc": tritonclient.grpc, "http": tritonclient.http}

# The field of InferTensorContents that holds the elements of a datatype.
CONTENTS = {
    "BYTES": "bytes_contents",
    "FP32": "fp32_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
}

# float32 values that an inexact path would change: the least and the greatest denormal, zero with a sign, values that
# need many decimals, the neighbours of 1, and sizes whose weighted sums are still finite.
AWKWARD = np.array(
    [1e-45, -1.1754942e-38, -0.0, 0.1, 1 / 3, 0.99999994, 1.0000001, 16777215.0, 8.7654321e-7, 1.2345679e30, -1e30],
    dtype=np.float32,
)

# The features of `purchase`, as models/README.md has them: lowest and highest value, which are counts, and from which
# on they are codes.
PURCHASE_LOW = [0] * 10 + [1] * 5 + [0, 0]
PURCHASE_HIGH = [27, 3398.75, 24, 2549.375, 705, 63973.52, 0.2, 0.2, 361.76, 1, 12, 8, 13, 9, 20, 2, 1]
PURCHASE_COUNTS = [0, 2, 4]
PURCHASE_CODES = 10

# Words of `shopper`, and such that no model knows: none, with a blank, of several bytes a character, with a NUL, long.
MONTHS = ["Feb", "Mar", "May", "June", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
VISITORS = ["New_Visitor", "Returning_Visitor", "Other"]
AWKWARD_TEXT = np.array(["", " Nov", "Vendémiaire", "日本\u0000語", "\U0001f6d2" * 300], dtype=object)


def arguments(*more):
    """What the test passes: the server's addresses, the model repository that it serves, and what else the script takes."""
    parser = argparse.ArgumentParser()
    for name in ("grpc", "http", "repository", *more):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def make_inputs(model, rows, random, awkward=False):
    """`rows` random rows for a model, as arrays by input name; where `awkward`, with some of the values above."""
    if model == "simple":
        limits = np.iinfo(np.int32)
        inputs = {}
        for name in ("INPUT0", "INPUT1"):
            inputs[name] = random.integers(-1000, 1000, (rows, 16), dtype=np.int32)
            if awkward:
                # Sums leave the range and wrap, in the reference as in the server.
                sprinkle(inputs[name], np.array([limits.min, limits.max, -1, 0], dtype=np.int32), random)
        return inputs
    if model == "mlp":
        array = random.standard_normal((rows, 32), dtype=np.float32)
        if awkward:
            sprinkle(array, AWKWARD, random)
        return {"x": array}
    if model == "shopper":
        inputs = {
            "month": random.choice(MONTHS, (rows, 1)).astype(object),
            "visitor_type": random.choice(VISITORS, (rows, 1)).astype(object),
            "page_value": random.uniform(0, 60, (rows, 1)).astype(np.float32),
            "exit_rate": random.uniform(0, 0.2, (rows, 1)).astype(np.float32),
            "product_pages": random.integers(0, 200, (rows, 1)).astype(np.float32),
        }
        if awkward:
            for array in inputs.values():
                sprinkle(array, AWKWARD_TEXT if array.dtype == object else AWKWARD, random)
        return inputs
    array = random.uniform(PURCHASE_LOW, PURCHASE_HIGH, (rows, 17))
    array[:, PURCHASE_COUNTS] = np.floor(array[:, PURCHASE_COUNTS])
    array[:, PURCHASE_CODES:] = np.round(array[:, PURCHASE_CODES:])
    array = array.astype(np.float32)
    if awkward:
        # Not the codes, which the model turns into integers.
        sprinkle(array[:, :PURCHASE_CODES], AWKWARD, random)
    return {"features": array}


def sprinkle(array, values, random):
    """Overwrites about a quarter of the elements, at least one, with some of `values`."""
    chosen = random.random(array.shape) < 0.25
    chosen.flat[random.integers(array.size)] = True
    array[chosen] = random.choice(values, chosen.sum())


def infer_inputs(module, inputs, **options):
    """Arrays by name as the inputs of a tritonclient module; `options` are set_data_from_numpy's."""
    made = []
    for name, array in inputs.items():
        made.append(module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        made[-1].set_data_from_numpy(array, **options)
    return made


@dataclasses.dataclass
class Answer:
    """An answer, whichever protocol brought it."""

    model: str
    version: str
    id: str
    # By name in the order of the response, with the datatypes and shapes that the response states.
    outputs: dict

    @classmethod
    def of(cls, result):
        """The contents of an InferResult of either module."""
        response = result.get_response()
        if isinstance(response, dict):
            names = [output["name"] for output in response["outputs"]]
            head = response["model_name"], response["model_version"], response.get("id", "")
        else:
            names = [output.name for output in response.outputs]
            head = response.model_name, response.model_version, response.id
        return cls(*head, {name: result.as_numpy(name) for name in names})


class Ways:
    """The ways in which a request and its answer can travel: methods with the same parameters, which return an Answer."""

    def __init__(self, addresses):
        self.grpc = tritonclient.grpc.InferenceServerClient(addresses.grpc)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(addresses.grpc))
        self.http = tritonclient.http.InferenceServerClient(addresses.http)

    def all(self):
        return self.grpc_raw, self.grpc_typed, self.http_json, self.http_binary

    def grpc_raw(self, model, version, inputs, outputs, request_id):
        """raw_input_contents and raw_output_contents; no outputs are named, which means all."""
        inputs = infer_inputs(tritonclient.grpc, inputs)
        return Answer.of(self.grpc.infer(model, inputs, model_version=version, request_id=request_id))

    def grpc_typed(self, model, version, inputs, outputs, request_id):
        """contents; tritonclient has no call that sends them, so the message is built here."""
        request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=request_id)
        for name, array in inputs.items():
            tensor = request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
            elements = as_bytes(array) if tensor.datatype == "BYTES" else array.ravel().tolist()
            getattr(tensor.contents, CONTENTS[tensor.datatype]).extend(elements)
        for name in outputs:
            request.outputs.add(name=name)
        return Answer.of(tritonclient.grpc.InferResult(self.stub.ModelInfer(request)))

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
        return Answer.of(result)


def assert_same_bits(got, expected, what):
    """Every bit of every output is the same, and so are names, order, datatypes and shapes."""
    assert list(got) == list(expected), f"{what}: outputs {list(got)}, expected {list(expected)}"
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, f"{what}: {name} is {got[name].dtype}, expected {array.dtype}"
        assert got[name].shape == array.shape, f"{what}: {name} is {got[name].shape}, expected {array.shape}"
        same = as_bytes(got[name]) == as_bytes(array) if array.dtype == object else got[name].tobytes() == array.tobytes()
        if not same:
            raise AssertionError(f"{what}: {name} differs\n{got[name]}\nexpected\n{array}")


def as_bytes(array):
    """The elements of an array of strings, which are text in Python and in JSON, else bytes."""
    return [element.encode() if isinstance(element, str) else element for element in array.ravel()]


def agree(got, expected, exactly=False):
    """Whether these are the same answers: in shape, and in value within what may differ between a row alone and in a batch."""
    tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-3, "atol": 1e-5}

    def same(got, array):
        if array.dtype == object:
            return as_bytes(got) == as_bytes(array)
        return np.allclose(got, array, **tolerance)

    return all(got[name].shape == array.shape and same(got[name], array) for name, array in expected.items())


def simple_outputs(inputs):
    """What `simple` answers."""
    return {"OUTPUT0": inputs["INPUT0"] + inputs["INPUT1"], "OUTPUT1": inputs["INPUT0"] - inputs["INPUT1"]}
