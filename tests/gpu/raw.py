"""ONNX Runtime by itself on a GPU, over IoBinding: rows per second of a model by rows of a batch, copies to and from it included."""

import threading
import time

import numpy
import onnxruntime


def session(model, options, libraries):
    # Not where the server would find them: the wheel looks beside itself only.
    onnxruntime.preload_dlls(directory=libraries)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    made = onnxruntime.InferenceSession(model, settings, providers=[("CUDAExecutionProvider", options)])
    assert made.get_providers()[0] == "CUDAExecutionProvider", made.get_providers()
    return made


def drive(session, batch, until, counts, index):
    rows = batch.shape[0]
    binding = session.io_binding()
    while time.monotonic() < until:
        binding.bind_cpu_input("x", batch)
        binding.bind_output("y", "cpu")
        session.run_with_iobinding(binding)
        counts[index] += rows


def rows_per_second(made, shape, rows, streams=2, seconds=3.0):
    """With as many threads over one session, each with a binding of its own, so that copies overlap runs."""
    batch = numpy.random.default_rng(1).standard_normal((rows, *shape)).astype("f4")
    counts = [0] * streams
    for seconds in (0.5, seconds):
        counts[:] = [0] * streams
        began = time.monotonic()
        threads = [
            threading.Thread(target=drive, args=(made, batch, began + seconds, counts, index)) for index in range(streams)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(counts) / (time.monotonic() - began)


def best(made, shape, batches=(8, 16, 32, 64)):
    """Rows per second at the best batch, and that batch."""
    measured = {rows: rows_per_second(made, shape, rows) for rows in batches}
    rows = max(measured, key=measured.get)
    return measured[rows], rows


def latency(made, shape, pause, runs=500):
    """Median seconds of a run of one row, so many seconds after the last: a GPU that has rested answers later."""
    batch = numpy.random.default_rng(1).standard_normal((1, *shape)).astype("f4")
    binding, taken = made.io_binding(), []
    for _ in range(runs):
        time.sleep(pause)
        began = time.monotonic()
        binding.bind_cpu_input("x", batch)
        binding.bind_output("y", "cpu")
        made.run_with_iobinding(binding)
        taken.append(time.monotonic() - began)
    return float(numpy.median(taken))
