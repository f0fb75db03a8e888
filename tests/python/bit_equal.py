"""Answers are bit for bit those of onnxruntime in Python, in whichever form requests and answers travel.

Every model and version, several numbers of rows, ordinary and awkward values, over gRPC (raw and typed contents) and
HTTP (JSON and binary). Requests come one after the other, so that each is its own batch: for those, equality is
promised. The reference runs with onnxruntime's default session options on the CPU.

Prints the number of requests, which must be the number of batches that the server ran.
"""

import numpy as np
import onnxruntime

from common import Answer, Ways, arguments, assert_same_bits, make_inputs

MODELS = [("simple", "1"), ("purchase", "1"), ("purchase", "2"), ("purchase", "3"), ("shopper", "1"), ("mlp", "1")]
ROWS = [1, 2, 7, 64]


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
            numbers = [array for array in expected.values() if array.dtype != object]
            assert all(np.isfinite(array).all() for array in numbers), (model, version, expected)
            for way in ways.all():
                what = f"{model} version {version}, {rows} rows, awkward {awkward}, {way.__name__}"
                asked += 1
                got = way(model, version, inputs, outputs, f"request {asked}")
                assert (got.model, got.version, got.id) == (model, version, f"request {asked}"), f"{what}: {got}"
                assert_same_bits(got.outputs, expected, what)
    print(asked)


main()
