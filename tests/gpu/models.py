"""Models for the runs on a GPU, with random weights from a fixed seed."""

import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 96


class Graph:
    """Nodes and weights, one behind the other."""

    def __init__(self):
        self.nodes, self.weights, self.random = [], [], numpy.random.default_rng(7)

    def weight(self, shape, fan_in):
        name = f"w{len(self.weights)}"
        values = (self.random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype("f4")
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator, *inputs, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def save(self, path, shape, last, width):
        self.nodes[-1].output[0] = "y"
        assert last == f"t{len(self.nodes) - 1}"
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])
        graph = helper.make_graph(self.nodes, "model", [x], [y], self.weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def conv_net(path):
    """A residual net of 20 convolutions: images of 96 x 96 in, 100 classes out."""
    graph = Graph()

    def convolution(x, inputs, outputs, stride=1):
        weight = graph.weight((outputs, inputs, 3, 3), inputs * 9)
        return graph.add("Conv", x, weight, pads=[1, 1, 1, 1], strides=[stride, stride])

    width = 64
    x = graph.add("Relu", convolution("x", 3, width, 2))
    for block in range(9):
        if block in (3, 6):
            x, width = graph.add("Relu", convolution(x, width, width * 2, 2)), width * 2
        inner = graph.add("Relu", convolution(x, width, width))
        half = graph.add("Mul", convolution(inner, width, width), scalar(graph, 0.5))
        x = graph.add("Relu", graph.add("Add", x, half))
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    last = graph.add("MatMul", x, graph.weight((width, 100), width))
    graph.save(pathlib.Path(path), (3, SIDE, SIDE), last, 100)


def scalar(graph, value):
    name = f"w{len(graph.weights)}"
    graph.weights.append(numpy_helper.from_array(numpy.array(value, "f4"), name))
    return name


def mlp(path, widths):
    """Layers of these widths, with ReLU between them."""
    graph, x = Graph(), "x"
    for inputs, outputs in zip(widths, widths[1:]):
        x = graph.add("MatMul", x, graph.weight((inputs, outputs), inputs))
        if outputs != widths[-1]:
            x = graph.add("Relu", x)
    graph.save(pathlib.Path(path), (widths[0],), x, widths[-1])
