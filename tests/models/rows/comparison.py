"""Compares each row of a batch with the same row alone, in ONNX Runtime's Python API.

`deviation` runs one batch. `survey` runs draws of several magnitudes, batch sizes and values that hide or reveal a coupling of rows."""

import numpy as np
import onnxruntime as ort

DTYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64, "tensor(bool)": np.bool_, "tensor(string)": np.object_,
}
WORDS = ["yes", "no", "the cat sat", "a", "much longer text with many words in it", "zebra", "", "it is the one"]
# The scale and offset of floats; integers follow from `MAX_IDS`.
MAGNITUDES = {"unit": (0, 1), "normal": (-3, 3), "hundreds": (-300, 300), "tiny": (-1e-3, 1e-3), "huge": (-1e12, 1e12), "mixed": (-3, 3), "nan": (0, 1)}
MAX_IDS = {"unit": 2, "normal": 4, "hundreds": 100, "tiny": 2, "huge": 1000, "mixed": 9, "nan": 2}
DEFAULT_INNER_EXTENT = 5


def session(model, optimized=True):
    """An ONNX Runtime session with one thread; `model` is a path or bytes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def draw(inputs, rows, mode, rng, extents=None, max_id=None):
    """Random inputs by name. `extents` gives the inner symbolic dimensions, `max_id` the end of the range
    of integers: one for all, or one by input name."""
    drawn = {}
    for tensor in inputs:
        shape = [rows if axis == 0 and not isinstance(dim, int) else dim if isinstance(dim, int) else (extents or {}).get(dim or "?", DEFAULT_INNER_EXTENT)
                 for axis, dim in enumerate(tensor.shape)]
        dtype = DTYPES[tensor.type]
        if dtype is np.object_:
            drawn[tensor.name] = rng.choice(np.array(WORDS, object), shape)
        elif dtype is np.bool_:
            drawn[tensor.name] = rng.random(shape) < 0.5
        elif np.issubdtype(dtype, np.integer):
            limit = max_id.get(tensor.name) if isinstance(max_id, dict) else max_id
            end = min(limit or MAX_IDS[mode], np.iinfo(dtype).max)
            drawn[tensor.name] = rng.integers(0, end, shape).astype(dtype)
        else:
            low, high = MAGNITUDES[mode]
            values = rng.uniform(low, high, shape)
            if mode == "mixed" and rows > 1 and len(shape) > 0 and shape[0] == rows:
                values[rows // 2] *= 1000
            if mode == "nan" and rows > 1 and len(shape) > 0 and shape[0] == rows:
                values[rows // 2] = np.nan
            drawn[tensor.name] = values.astype(dtype)
    return drawn


def split(inputs, by_name, row):
    """The inputs of one row: tensors with a fixed axis 0 stay whole."""
    open_axis = {tensor.name for tensor in inputs if tensor.shape and not isinstance(tensor.shape[0], int)}
    return {name: array[row : row + 1] if name in open_axis else array for name, array in by_name.items()}


def deviation_of(batched, alone):
    """The largest difference of two answers, relative to the largest finite element; infinite where kinds or shapes differ."""
    if isinstance(alone, (list, dict)):
        return 0.0 if batched == alone else float("inf")
    if batched.shape != alone.shape or batched.dtype != alone.dtype:
        return float("inf")
    if not np.issubdtype(alone.dtype, np.floating):
        return 0.0 if np.array_equal(batched, alone) else float("inf")
    batched, alone = batched.astype(np.float64), alone.astype(np.float64)
    finite = np.isfinite(alone)
    if not np.array_equal(finite, np.isfinite(batched)) or not np.array_equal(batched[~finite], alone[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.abs(batched - alone)[finite].max() / (np.abs(alone[finite]).max() + 1e-30))


def deviation(running, inputs, by_name, rows):
    """The largest deviation of any row of a batch from that row alone. An output without one block a row deviates infinitely."""
    batch, worst = running.run(None, by_name), 0.0
    for row in range(rows):
        for whole, alone in zip(batch, running.run(None, split(inputs, by_name, row))):
            length, block = len(whole), len(alone) if np.ndim(alone) or isinstance(alone, list) else 0
            if np.ndim(alone) == 0 and not isinstance(alone, list) or length != rows * block:
                return float("inf")
            worst = max(worst, deviation_of(whole[row * block : (row + 1) * block], alone))
    return worst


def survey(model, batch_sizes=(2, 5), seed=0, extents=None, max_id=None, modes=tuple(MAGNITUDES), runs=1):
    """The worst deviation for each kind of values, or the error of ONNX Runtime: a draw that the model refuses shows nothing."""
    running = model if isinstance(model, ort.InferenceSession) else session(model)
    inputs, found = running.get_inputs(), {}
    for mode in modes:
        rng = np.random.default_rng(seed)
        for rows in batch_sizes:
            for _ in range(runs):
                try:
                    seen = deviation(running, inputs, draw(inputs, rows, mode, rng, extents, max_id), rows)
                except Exception as error:
                    found.setdefault(mode, f"error: {str(error)[:160]}")
                    continue
                before = found.get(mode, 0.0)
                found[mode] = max(seen, before if isinstance(before, float) else 0.0)
    return found
