"""scikit-learn's classifiers, as its exporter makes them by default, are served with their probabilities as a tensor.

In onnxruntime the probabilities are a list of dictionaries. Here they are FP32 [rows, classes] under the same name, and
the metadata names the classes in the order of the columns. Labels and probabilities are those of onnxruntime, bit for bit.
"""

import json

import numpy as np
import onnxruntime
from tritonclient.utils import InferenceServerException

from common import Ways, arguments, assert_same_bits

# The rows that a model takes, by model.
MODELS = {
    "binary_int64": [1, 2, 7],
    "binary_string": [1, 2, 7],
    "multiclass_int64": [1, 2, 7],
    "multiclass_string": [1, 2, 7],
    "words": [1, 2, 7],
    "iris": [3],
}
COLOURS = ["blue", "blue and white", "purple", "vert", ""]


def make_inputs(model, rows, random):
    if model == "words":
        lengths = random.uniform(4, 8, (rows, 1)).astype(np.float32)
        return {"colour": random.choice(COLOURS, (rows, 1)).astype(object), "length": lengths}
    if model == "iris":
        return {"float_input": random.uniform(0, 8, (rows, 2)).astype(np.float32)}
    return {"X": random.uniform(0, 8, (rows, 4)).astype(np.float32)}


def run_reference(reference, inputs):
    """What onnxruntime answers, with the dictionaries taken apart, and the classes as text."""
    label, probability = (output.name for output in reference.get_outputs())
    labels, maps = reference.run(None, inputs)
    classes = list(maps[0])
    probabilities = np.array([[row[name] for name in classes] for row in maps], dtype=np.float32)
    return {label: labels, probability: probabilities}, [str(name) for name in classes]


def check_model(ways, given, model, random):
    file = f"{given.repository}/{model}/1/model.onnx"
    reference = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    metadata = ways.http.get_model_metadata(model)
    for rows in MODELS[model]:
        inputs = make_inputs(model, rows, random)
        expected, classes = run_reference(reference, inputs)
        label, probability = expected
        assert json.loads(metadata["properties"][f"labels:{probability}"]) == classes, metadata
        told = metadata["outputs"][1]
        assert (told["name"], told["datatype"]) == (probability, "FP32") and told["shape"][1:] == [len(classes)], told
        for way in ways.all():
            got = way(model, "", inputs, [label, probability], "")
            assert_same_bits(got.outputs, expected, f"{model}, {rows} rows, {way.__name__}")
    return metadata


def check_wrong_rows(ways, rows, random):
    """A model that takes exactly three rows says so."""
    for way in ways.all():
        try:
            way("iris", "", make_inputs("iris", rows, random), ["label", "probabilities"], "")
        except Exception as error:  # tritonclient's or, for typed contents, gRPC's
            message = error.message() if isinstance(error, InferenceServerException) else error.details()
            for word in ("'iris'", "'float_input'", "[3,2]", f"[{rows},2]"):
                assert word in message, f"{way.__name__}: {message}"
        else:
            raise AssertionError(f"{way.__name__}: no error for {rows} rows")


def main():
    given = arguments()
    ways = Ways(given)
    random = np.random.default_rng(7)
    for model in MODELS:
        batching = check_model(ways, given, model, random)["properties"]["batching"]
        expected = "off: axis 0 of 'float_input' has the fixed extent 3" if model == "iris" else "on: up to 64 rows"
        assert batching == expected, f"{model}: {batching}"
    for rows in (1, 7):
        check_wrong_rows(ways, rows, random)


main()
