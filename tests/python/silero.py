"""Silero VAD keeps what it heard in a state, which each request brings along: streams go as they do in onnxruntime.

Several streams of several chunks, of one row and of three, each over its own way. Axis 0 of the state is not the batch, so
requests must not be joined, and the metadata says why.
"""

import numpy as np
import onnxruntime

from common import Ways, arguments, assert_same_bits

MODEL = "silero"
CHUNKS, SAMPLES, CONTEXT = 5, 512, 64


def follow(way, reference, rows, random):
    """A stream as the package's own wrapper sends it: each chunk behind the last samples of the one before."""
    state = {"expected": np.zeros((2, rows, 128), np.float32), "got": np.zeros((2, rows, 128), np.float32)}
    context = np.zeros((rows, CONTEXT), np.float32)
    outputs = ["output", "stateN"]
    for chunk in range(CHUNKS):
        # Louder from chunk to chunk.
        samples = (random.standard_normal((rows, SAMPLES)) * 0.1 * chunk).astype(np.float32)
        heard = np.concatenate([context, samples], axis=1)
        inputs = {"input": heard, "state": state["expected"], "sr": np.array(16000)}
        expected = dict(zip(outputs, reference.run(outputs, inputs), strict=True))
        got = way(MODEL, "", {**inputs, "state": state["got"]}, outputs, "").outputs
        assert_same_bits(got, expected, f"{way.__name__}, {rows} rows, chunk {chunk}")
        assert expected["stateN"].any(), "nothing was heard"
        state = {"expected": expected["stateN"], "got": got["stateN"]}
        context = heard[:, -CONTEXT:]


def main():
    given = arguments()
    ways = Ways(given)
    reference = onnxruntime.InferenceSession(
        f"{given.repository}/{MODEL}/1/model.onnx", providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(16000)
    for way in ways.all():
        for rows in (1, 3):
            follow(way, reference, rows, random)
    why = ways.http.get_model_metadata(MODEL)["properties"]["batching"]
    assert why == "off: axis 0 of 'state' has the fixed extent 2", why


main()
