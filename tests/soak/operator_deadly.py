"""Requests that end ONNX Runtime 1.31.1 in a process of its own: one model with its requests each, named after the operator and
what it dies of."""

import numpy
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
SMALLEST = numpy.iinfo("i8").min


def model(nodes, inputs, weights=(), opset=20, domains=(), output=FLOAT):
    """A model whose output is the value `y`. An input is a name, an element type and a shape; `None` declares no rank."""
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    result = helper.make_tensor_value_info("y", output, None)
    graph = helper.make_graph(nodes, "deadly", infos, [result], [numpy_helper.from_array(array, name) for name, array in weights])
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def node(operator, inputs, **attributes):
    return helper.make_node(operator, inputs, ["y"], **attributes)


def floats(*shape):
    return numpy.ones(shape, "f4")


def integers(*values):
    return numpy.array(values, "i8")


def cases():
    """Name, model, requests."""
    pair = [("a", INT64, ["n"]), ("b", INT64, ["n"])]
    for operator in ("Div", "Mod"):
        yield f"{operator}: smallest by -1", model([node(operator, ["a", "b"])], pair, output=INT64), [{"a": integers(SMALLEST), "b": integers(-1)}]
    constant = [("b", integers(-1))]
    yield "Mod: smallest by a constant -1", model([node("Mod", ["a", "b"])], pair[:1], constant, output=INT64), [{"a": integers(SMALLEST)}]
    yield "Unique: no elements", model([node("Unique", ["x"], axis=0)], [("x", FLOAT, ["n", "m"])]), [{"x": floats(0, 0)}, {"x": floats(2, 0)}]
    for operator, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        weights = [("W", floats(1, 3 * gates, 4)), ("R", floats(1, 3 * gates, 3))]
        recurrent = model([node(operator, ["x", "W", "R"], hidden_size=3)], [("x", FLOAT, ["time", "batch", 4])], weights)
        yield f"{operator}: no elements", recurrent, [{"x": floats(2, 0, 4)}, {"x": floats(0, 2, 4)}]
    attention = [(name, FLOAT, ["batch", "heads", f"length_{name}", 8]) for name in "QKV"]
    yield (
        "Attention: no heads",
        model([node("Attention", ["Q", "K", "V"])], attention, opset=23),
        [{"Q": floats(2, 3, 4, 8), "K": floats(2, 0, 6, 8), "V": floats(2, 0, 6, 8)}],
    )
    spectrum = [("x", FLOAT, [1, 128, 1]), ("step", INT64, []), ("length", INT64, [])]
    yield (
        "STFT: frames of no length",
        model([node("STFT", ["x", "step", "", "length"])], spectrum, opset=17),
        [{"x": floats(1, 128, 1), "step": numpy.array(8), "length": numpy.array(length)} for length in (0, 16)],
    )
    either = [("a", FLOAT, None), ("b", FLOAT, None)]
    yield "Concat: ranks that differ", model([node("Concat", ["a", "b"], axis=1)], either), [{"a": floats(2, 2, 2, 2), "b": floats(0, 2, 2)}]
    yield "Einsum: another rank", model([node("Einsum", ["a"], equation="ij->i")], either[:1]), [{"a": floats(3)}]
    yield "GridSample: another rank", model([node("GridSample", ["a", "b"])], either), [{"a": floats(), "b": floats()}, {"a": floats(2), "b": floats(1, 2, 2, 2)}]
    lengths = [("x", FLOAT, None), ("lengths", INT64, ["n"])]
    yield "ReverseSequence: another rank", model([node("ReverseSequence", ["x", "lengths"])], lengths), [{"x": floats(4), "lengths": integers(1, 2, 3, 4)}]
    yield "DFT: a scalar", model([node("DFT", ["a"])], either[:1]), [{"a": numpy.array(1, "f4")}]
    size = [("theta", FLOAT, [2, 2, 3]), ("size", INT64, None)]
    yield "AffineGrid: a scalar size", model([node("AffineGrid", ["theta", "size"])], size), [{"theta": floats(2, 2, 3), "size": numpy.array(2)}]
    regions = [("x", FLOAT, [1, 2, 4, 4]), ("rois", FLOAT, None)]
    pooled = node("MaxRoiPool", ["x", "rois"], pooled_shape=[2, 2])
    yield "MaxRoiPool: another rank", model([pooled], regions), [{"x": floats(1, 2, 4, 4), "rois": floats(5)}]
    drawn = node("Multinomial", ["a"], sample_size=3, dtype=TensorProto.INT32)
    yield "Multinomial: another rank", model([drawn], either[:1], output=TensorProto.INT32), [{"a": floats(2)}]
    inverse = helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft")
    yield "Inverse: no square", model([inverse], [("x", FLOAT, ["n", "m"])], domains=["com.microsoft"]), [{"x": floats(4, 100)}, {"x": floats(4, 1)}]
