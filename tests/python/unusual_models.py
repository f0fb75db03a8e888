"""Models with what is rare answer as in onnxruntime, in whichever form requests and answers travel.

Halves, strings of any bytes, names that hold `/ : .` or are digits only, output shapes that depend on the data or are
declared wrongly, a fixed batch, no batch axis, inputs that may be left out.
"""

import asyncio
import json

import ml_dtypes
import numpy as np
import onnxruntime
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
from tritonclient.utils import InferenceServerException

from common import Answer, Ways, agree, arguments, as_bytes, assert_same_bits, infer_inputs

# No bytes, NUL at either end, what is no UTF-8, a byte order mark, quotes, and many.
ANY_BYTES = [b"", b"\0", b"a\0b\0", b"\xff\xfe\0\xc3(", b"\xef\xbb\xbf", b'"\\\n', "Grüße 🛒".encode(), b"x" * 100_000]


def floats(shape, random):
    return random.standard_normal(shape).astype(np.float32)


def cases(random):
    """Models and inputs."""
    for rows in (1, 2, 7):
        yield "halves", {"x": floats((rows, 4), random).astype(np.float16)}
        yield "461", {"gpu_0/data_0": floats((rows, 2), random), "serving_default_input_2:0": floats((rows, 2), random)}
        yield "a.b:c", {"461": floats((rows, 2), random)}
        yield "optional", {"x": floats((rows, 2), random)}
        yield "optional", {"x": floats((rows, 2), random), "scale": floats(1, random)}
        yield "non_zero", {"x": (floats((rows, 5), random) > 0).astype(np.float32)}
        yield "misdeclared", {"x": floats((rows, 4), random), "shape": np.array([-1, 1, 2])}
        text = [["", "a\0b"], ["Grüße 🛒", '"\\\n'], ["x" * 100_000, "\ufeff"]]
        yield "strings", {"x": np.array([text[row % 3] for row in range(rows)], dtype=object)}
    yield "non_zero", {"x": np.zeros((2, 5), np.float32)}
    yield "misdeclared", {"x": floats((3, 4), random), "shape": np.array([12])}
    yield "fixed", {"x": floats((3, 2), random)}
    yield "scalar", {"x": np.array(0.1, dtype=np.float32)}


def check_cases(given, ways, random):
    references = {}
    for number, (model, inputs) in enumerate(cases(random)):
        if model not in references:
            file = f"{given.repository}/{model}/1/model.onnx"
            references[model] = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in references[model].get_outputs()]
        expected = dict(zip(outputs, references[model].run(outputs, inputs), strict=True))
        for way in ways.all():
            # The protocol has no typed contents for halves.
            if model == "halves" and way == ways.grpc_typed:
                continue
            got = way(model, "", inputs, outputs, "")
            assert_same_bits(got.outputs, expected, f"case {number}, {model}, {way.__name__}")


def check_any_bytes(given):
    """Bytes that are no text, which onnxruntime's Python can't be given, come back as they went from an Identity."""
    array = np.array(ANY_BYTES, dtype=object).reshape(-1, 2)
    for module, address in ((tritonclient.grpc, given.grpc), (tritonclient.http, given.http)):
        client = module.InferenceServerClient(address)
        got = client.infer("strings", infer_inputs(module, {"x": array})).as_numpy("y")
        assert got.shape == array.shape and as_bytes(got) == ANY_BYTES, f"{module.__name__}: {got}"


def check_bfloat16(given):
    """BF16, which numpy lacks and tritonclient has another package for. The model adds 1.5, and these sums need no rounding."""
    array = np.array([[0, -1.5, 1, -2, 0.25, 100, 2.0**100, 0.5]], dtype=ml_dtypes.bfloat16)
    expected = np.array([[1.5, 0, 2.5, -0.5, 1.75, 101.5, 2.0**100, 2]], dtype=ml_dtypes.bfloat16)
    for module, address in ((tritonclient.grpc, given.grpc), (tritonclient.http, given.http)):
        client = module.InferenceServerClient(address)
        got = Answer.of(client.infer("bfloat16", infer_inputs(module, {"x": array})))
        assert_same_bits(got.outputs, {"y": expected}, module.__name__)


async def check_defaults_are_not_shared(given):
    """Clients with a scale of their own, and such that leave it out, ask at once: each is answered with its own."""
    client = tritonclient.grpc.aio.InferenceServerClient(given.grpc)

    async def ask(number):
        x = np.full((1, 2), number, np.float32)
        scale = None if number % 3 == 0 else np.array([number % 3], np.float32)
        inputs = {"x": x} if scale is None else {"x": x, "scale": scale}
        answer = Answer.of(await client.infer("optional-joined", infer_inputs(tritonclient.grpc.aio, inputs)))
        expected = {"y": x * (10 if scale is None else scale)}
        assert agree(answer.outputs, expected, exactly=True), (number, answer.outputs, expected)

    await asyncio.gather(*(ask(number) for number in range(48)))
    await client.close()


def check_metadata(ways):
    def properties(model):
        return ways.http.get_model_metadata(model)["properties"]

    assert json.loads(properties("optional")["optional_inputs"]) == ["scale"], properties("optional")
    unbatched = {
        "fixed": "off: axis 0 of 'x' has the fixed extent 3",
        "scalar": "off: 'x' is a scalar, so it has no batch axis",
        "non_zero": "off: rows of a batch would influence each other: NonZero 'y': the extents of what NonZero gives depend on the elements of all rows",
        "misdeclared": "off: rows of a batch would influence each other: Reshape 'y': 'shape', which rows of the batch decide, decides for all of them",
    }
    for model, why in unbatched.items():
        assert properties(model)["batching"] == why, (model, properties(model))
    for model in ("halves", "bfloat16", "strings", "461", "a.b:c", "optional-joined"):
        assert properties(model)["batching"].startswith("on: "), (model, properties(model))


def check_wrong_rows(ways, random):
    """A fixed batch can't be asked with another."""
    for rows in (1, 7):
        for way in (ways.grpc_raw, ways.http_json, ways.http_binary):
            try:
                way("fixed", "", {"x": floats((rows, 2), random)}, ["y"], "")
            except InferenceServerException as error:
                for word in ("'fixed'", "'x'", "[3,2]", f"[{rows},2]"):
                    assert word in error.message(), f"{way.__name__}: {error}"
            else:
                raise AssertionError(f"{way.__name__}: no error for {rows} rows")


def main():
    given = arguments()
    ways = Ways(given)
    random = np.random.default_rng(3)
    check_cases(given, ways, random)
    check_any_bytes(given)
    check_bfloat16(given)
    asyncio.run(check_defaults_are_not_shared(given))
    check_metadata(ways)
    check_wrong_rows(ways, random)


main()
