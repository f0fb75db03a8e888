"""Makes the models that the benchmarks run, into a repository:

    pip install onnx numpy
    python3 loadtest/make_models.py /tmp/benchmark-models

- mlp: 32-64-64-2, FP32: a model that costs less than a request does.
- mlp_large: 512-1024-1024-1024-10, FP32, 2.6 million parameters: one that costs more.
- mean: 153,600 floats (600 KiB) in, 4 out: one whose input costs the most.
- conv: 64 floats in, 8 out: one that takes some milliseconds a row, in a batch as well as alone; for overload.
"""

import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(folder, name, nodes, weights, inputs, outputs):
    def tensors(described):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, width in described]

    graph = helper.make_graph(nodes, name, tensors(inputs), tensors(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def mlp(folder, name, widths):
    random = numpy.random.default_rng(1)
    nodes, weights, last = [], [], "x"
    for layer, (before, after) in enumerate(zip(widths, widths[1:])):
        scale = numpy.sqrt(2 / before)
        weights.append(numpy_helper.from_array((random.standard_normal((before, after)) * scale).astype("f4"), f"w{layer}"))
        weights.append(numpy_helper.from_array(numpy.zeros(after, "f4"), f"b{layer}"))
        is_last = layer == len(widths) - 2
        out = "y" if is_last else f"z{layer}"
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [out]))
        if not is_last:
            nodes.append(helper.make_node("Relu", [out], [f"a{layer}"]))
            last = f"a{layer}"
    save(folder, name, nodes, weights, [("x", widths[0])], [("y", widths[-1])])


def mean(folder):
    parts = numpy_helper.from_array(numpy.array([0, 4, -1], "i8"), "parts")
    nodes = [
        helper.make_node("Reshape", ["x", "parts"], ["split"]),
        helper.make_node("ReduceMean", ["split"], ["y"], axes=[2], keepdims=0),
    ]
    save(folder, "mean", nodes, [parts], [("x", 153_600)], [("y", 4)])


def conv(folder):
    random = numpy.random.default_rng(1)

    def weights(name, *shape):
        return numpy_helper.from_array((random.standard_normal(shape) / 29).astype("f4"), name)

    side, channels = 32, [8, 96, 96, 96, 8]
    initializers = [
        weights("w", 64, channels[0] * side * side),
        numpy_helper.from_array(numpy.array([-1, channels[0], side, side], "i8"), "image"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["flat"]), helper.make_node("Reshape", ["flat", "image"], ["a0"])]
    for layer, (before, after) in enumerate(zip(channels, channels[1:])):
        initializers.append(weights(f"k{layer}", after, before, 3, 3))
        nodes.append(helper.make_node("Conv", [f"a{layer}", f"k{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"a{layer + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"a{len(channels) - 1}"], ["y"], axes=[2, 3], keepdims=0))
    save(folder, "conv", nodes, initializers, [("x", 64)], [("y", channels[-1])])


def main():
    folder = pathlib.Path(sys.argv[1])
    mlp(folder, "mlp", [32, 64, 64, 2])
    mlp(folder, "mlp_large", [512, 1024, 1024, 1024, 10])
    mean(folder)
    conv(folder)


main()
