"""A request that can't be answered raises InferenceServerException in both clients.

The status says whose fault it is; the message names the model, the tensor, what was expected and what came. The next
request is answered as ever.
"""

import numpy as np
from tritonclient.utils import InferenceServerException

from common import PROTOCOLS, Answer, arguments, assert_same_bits, infer_inputs, make_inputs, simple_outputs

NOT_FOUND = {"grpc": "StatusCode.NOT_FOUND", "http": "404"}
INVALID = {"grpc": "StatusCode.INVALID_ARGUMENT", "http": "400"}

GOOD = make_inputs("simple", 1, np.random.default_rng(8))


def zeros(shape, dtype=np.int32):
    return np.zeros(shape, dtype)


# What is wrong, the status, words of the message, and the request where it differs from a good one.
FAULTS = [
    ("unknown model", NOT_FOUND, ["'nothing'", "not found"], {"model": "nothing"}),
    ("unknown version", NOT_FOUND, ["'simple'", "version 7", "versions are: 1"], {"version": "7"}),
    ("unknown alias", NOT_FOUND, ["'simple'", "no alias 'one'", "aliases are: none"], {"version": "one"}),
    ("neither version nor alias", INVALID, ["'simple'", "'-1'", "integer", "alias"], {"version": "-1"}),
    ("wrong extent", INVALID, ["'simple'", "'INPUT0'", "[-1,16]", "[1,15]"], {"inputs": {"INPUT0": zeros((1, 15))}}),
    ("too few axes", INVALID, ["'simple'", "'INPUT1'", "[-1,16]", "[16]"], {"inputs": {"INPUT1": zeros(16)}}),
    (
        "rows that differ",
        INVALID,
        ["'simple'", "'INPUT0'", "'INPUT1'", "1", "2"],
        {"inputs": {"INPUT1": zeros((2, 16))}},
    ),
    (
        "wrong datatype",
        INVALID,
        ["'simple'", "'INPUT0'", "INT32", "FP32"],
        {"inputs": {"INPUT0": zeros((1, 16), np.float32)}},
    ),
    (
        "wrong datatype of the same size",
        INVALID,
        ["'simple'", "'INPUT1'", "INT32", "got UINT32"],
        {"inputs": {"INPUT1": zeros((1, 16), np.uint32)}},
    ),
    (
        "strings",
        INVALID,
        ["'simple'", "'INPUT0'", "INT32", "BYTES"],
        {"inputs": {"INPUT0": np.full((1, 16), b"0", np.object_)}},
    ),
    (
        "unknown input",
        INVALID,
        ["'simple'", "'INPUT2'", "'INPUT0', 'INPUT1'"],
        {"inputs": {"INPUT2": zeros((1, 16))}},
    ),
    ("missing input", INVALID, ["'simple'", "'INPUT1'", "2", "1"], {"without": "INPUT1"}),
    ("unknown output", INVALID, ["'simple'", "'OUTPUT7'", "'OUTPUT0', 'OUTPUT1'"], {"outputs": ["OUTPUT0", "OUTPUT7"]}),
    ("negative timeout", INVALID, ["'timeout'", "at least 0", "got -1"], {"timeout": -1}),
]


def ask(module, client, model="simple", version="", inputs=None, without=None, outputs=(), timeout=None, **options):
    inputs = {**GOOD, **(inputs or {})}
    inputs.pop(without, None)
    requested = [module.InferRequestedOutput(name) for name in outputs]
    inputs = infer_inputs(module, inputs, **options)
    return client.infer(model, inputs, model_version=version, outputs=requested or None, timeout=timeout)


def assert_raises(what, status, words, call, *parameters, **options):
    try:
        call(*parameters, **options)
    except InferenceServerException as error:
        assert error.status() == status, f"{what}: {error.status()}, expected {status}: {error}"
        missing = [word for word in words if word not in error.message()]
        assert not missing, f"{what}: '{error.message()}' does not say {missing}"
    else:
        raise AssertionError(f"{what}: no error")


def main():
    given = arguments()
    addresses = {"grpc": given.grpc, "http": given.http}
    for protocol, module in PROTOCOLS.items():
        # As JSON, tensors are read and refused by other code than in binary.
        forms = [{}] if protocol == "grpc" else [{"binary_data": True}, {"binary_data": False}]
        with module.InferenceServerClient(addresses[protocol]) as client:
            for form in forms:
                for what, status, words, fault in FAULTS:
                    what = f"{what}, {protocol} {form}"
                    assert_raises(what, status[protocol], words, ask, module, client, **fault, **form)
                    assert_same_bits(Answer.of(ask(module, client, **form)).outputs, simple_outputs(GOOD), what)
            what = f"metadata, {protocol}"
            assert_raises(what, NOT_FOUND[protocol], ["'nothing'"], client.get_model_metadata, "nothing")
            assert_raises(
                what, NOT_FOUND[protocol], ["'simple'", "version 7"], client.get_model_metadata, "simple", "7"
            )


main()
