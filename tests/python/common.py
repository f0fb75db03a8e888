"""What the scripts have in common: where the server is, what its models take, and the clients that ask it."""

import argparse
import dataclasses
import faulthandler

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

# Nothing here may hang: past this many seconds every thread's stack is printed and the script fails.
faulthandler.dump_traceback_later(300, exit=True)

# The two client modules; they have most names in common.
PROTOCOLS = {"grpc": tritonclient.grpc, "http": tritonclient.http}

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


def arguments():
    """What the test passes: the server's addresses, and the model repository that it serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--grpc", required=True)
    parser.add_argument("--http", required=True)
    parser.add_argument("--repository", required=True)
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


def assert_same_bits(got, expected, what):
    """Every bit of every output is the same, and so are names, order, datatypes and shapes."""
    assert list(got) == list(expected), f"{what}: outputs {list(got)}, expected {list(expected)}"
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, f"{what}: {name} is {got[name].dtype}, expected {array.dtype}"
        assert got[name].shape == array.shape, f"{what}: {name} is {got[name].shape}, expected {array.shape}"
        if got[name].tobytes() != array.tobytes():
            raise AssertionError(f"{what}: {name} differs\n{got[name]}\nexpected\n{array}")


def simple_outputs(inputs):
    """What `simple` answers."""
    return {"OUTPUT0": inputs["INPUT0"] + inputs["INPUT1"], "OUTPUT1": inputs["INPUT0"] - inputs["INPUT1"]}
