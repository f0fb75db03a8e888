"""Models of one operator, and hostile requests for them.

A seed is a model that holds one node of the operator, and inputs that suit it: the operator's test cases of the package onnx,
or, for operators without any, random inputs by the operator's schema. All inputs of the node are inputs of the graph. A request
is a seed's inputs after some mutations of values and shapes. Everything follows from one number, so that a finding can be
reproduced."""

import importlib
import pkgutil
import random
import warnings

import ml_dtypes
import numpy
import onnx
import operator_shapes
from onnx import TensorProto, helper

MAX_ELEMENTS = 1 << 18

# What this ONNX Runtime loads: test cases of onnx may be newer.
NEWEST_OPSETS = {"": 26, "ai.onnx.ml": 5}

# The datatypes that the protocol carries; tensors of others can't be sent.
DATATYPES = {
    "tensor(float)": numpy.dtype("f4"),
    "tensor(double)": numpy.dtype("f8"),
    "tensor(float16)": numpy.dtype("f2"),
    "tensor(bfloat16)": numpy.dtype(ml_dtypes.bfloat16),
    "tensor(bool)": numpy.dtype("?"),
    "tensor(string)": numpy.dtype("O"),
    **{f"tensor({sign}int{bits})": numpy.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}

# Operators that ONNX removed, which ONNX Runtime still has, with an operator set that holds them.
OLD = {name: 7 for name in ("Affine", "Crop", "DynamicSlice", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh")}

# What operators hold that has no kernel of its own in a model file, or that no model can name.
INTERNAL = {("", "MemcpyFromHost"), ("", "MemcpyToHost")}


class Seed:
    """A model of one operator, and inputs by name that suit it."""

    def __init__(self, model, inputs):
        self.model, self.inputs = model, inputs


def operators():
    """Every operator of ONNX Runtime's CPU build: (domain, name) to its kernels."""
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

    found = {}
    for kernel in get_all_opkernel_def():
        key = (kernel.domain, kernel.op_name)
        if kernel.provider == "CPUExecutionProvider" and kernel.domain != "com.microsoft.nchwc" and key not in INTERNAL:
            found.setdefault(key, []).append(kernel)
    return dict(sorted(found.items()))


def schemas():
    """The newest schema of every operator that ONNX Runtime knows."""
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    newest = {}
    for schema in get_all_operator_schema():
        key = (schema.domain.replace("ai.onnx", "") if schema.domain == "ai.onnx" else schema.domain, schema.name)
        if key not in newest or newest[key].since_version < schema.since_version:
            newest[key] = schema
    return newest


def seeds_of_onnx(names):
    """The test cases of the package onnx for these operators, by operator."""
    from onnx.backend.test import case
    from onnx.backend.test.case import base, node, test_case  # noqa: F401

    wanted = {name.lower() for name in names}
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package, domain in (("onnx.backend.test.case.node", ""), ("onnx.backend.test.case.node.ai_onnx_ml", "ai.onnx.ml")):
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                if module.ispkg or not any(matches(module.name, name) for name in wanted):
                    continue
                importlib.import_module(f"{package}.{module.name}")
    for built in node._NodeTestCases:
        add_seed(found, built)
    return found


def matches(module, name):
    module = module.replace("_", "")
    return module == name or module.startswith(name) or name.startswith(module)


def add_seed(found, built):
    graph = built.model.graph
    if len(graph.node) != 1 or not built.data_sets:
        return
    only = graph.node[0]
    values = built.data_sets[0][0]
    arrays = {}
    for info, value in zip(graph.input, values):
        if isinstance(value, onnx.TensorProto):
            value = onnx.numpy_helper.to_array(value)
        if not isinstance(value, (numpy.ndarray, numpy.generic)) or info.type.WhichOneof("value") != "tensor_type":
            return
        array = numpy.asarray(value)
        if array.dtype.kind in "US":
            array = array.astype(object)
        if array.dtype not in DATATYPES.values() or array.size > MAX_ELEMENTS:
            return
        arrays[info.name] = array
    if any(info.type.WhichOneof("value") != "tensor_type" for info in graph.output):
        return
    found.setdefault((only.domain, only.op_type), []).append(Seed(built.model, arrays))


def seeds_by_shape(key):
    """The seeds of `operator_shapes`."""
    found = []
    for attributes, given in operator_shapes.SHAPED.get(key, ()):
        chance, names, infos, inputs = chance_of(*key), [], [], {}
        for index, spec in enumerate(given):
            names.append("" if spec is None else f"i{index}")
            if spec is None:
                continue
            dtype, shape = numpy.dtype(spec[0]), spec[1]
            array = numpy.full(shape, spec[2], dtype) if len(spec) > 2 else plain(dtype, shape, chance)
            inputs[names[-1]] = array
            infos.append(helper.make_tensor_value_info(names[-1], element_type(dtype), None))
        outputs = [f"o{index}" for index in range(operator_shapes.OUTPUTS.get(key[1], 1))]
        node = helper.make_node(key[1], names, outputs, domain=key[0], **attributes)
        graph = helper.make_graph([node], "operator", infos, [onnx.ValueInfoProto(name=name) for name in outputs])
        opsets = [helper.make_opsetid("", 21 if key[0] else OLD.get(key[1], 15))]
        opsets += [helper.make_opsetid(key[0], 3 if key[0] == "ai.onnx.ml" else 1)] if key[0] else []
        found.append(Seed(helper.make_model(graph, opset_imports=opsets, ir_version=8), inputs))
    return found


def with_shapes(model, inputs, ranked):
    """The model with inputs of undeclared rank, or of these ranks with open extents; outputs without shapes."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.ir_version = min(changed.ir_version or 10, 11)
    for opset in changed.opset_import:
        opset.version = min(opset.version, NEWEST_OPSETS.get(opset.domain, opset.version))
    for info in changed.graph.input:
        kind = info.type.tensor_type
        kind.ClearField("shape")
        if ranked:
            kind.shape.SetInParent()
            for axis in range(inputs[info.name].ndim):
                kind.shape.dim.add().dim_param = f"{info.name}_{axis}"
    for info in changed.graph.output:
        if info.HasField("type"):
            info.type.tensor_type.ClearField("shape")
    del changed.graph.value_info[:]
    return changed


ODD_INTEGERS = (0, 1, -1, 2, 3, 100, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63))
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e30, -1e30, 1e-45, float("nan"), float("inf"), -float("inf"))
ODD_TEXT = ("", "0", "a" * 300, "\u0000", "-1", "Vend\u00e9miaire", "nan")


def with_odd_attribute(model, chance):
    """The model with one attribute of its node changed; the same where it has none that can be."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    attributes = [a for a in changed.graph.node[0].attribute if a.type in (1, 2, 6, 7)]
    if not attributes:
        return changed
    attribute = chance.choice(attributes)
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i = chance.choice(ODD_INTEGERS)
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = chance.choice(ODD_FLOATS)
    elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(ODD_INTEGERS)
    elif attribute.type == onnx.AttributeProto.FLOATS and attribute.floats:
        attribute.floats[chance.randrange(len(attribute.floats))] = chance.choice(ODD_FLOATS)
    return changed


def with_other_type(seed, kernels, schema, chance):
    """A seed whose inputs of one type parameter have another type that a kernel takes; `None` where there is none."""
    node = seed.model.graph.node[0]
    kernel = chance.choice(kernels)
    formal = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in range(len(node.input))] if schema.inputs else []
    parameters = [p for p in kernel.type_constraints if any(f.typeStr == p for f in formal)]
    if not parameters:
        return None
    parameter = chance.choice(parameters)
    types = [t for t in kernel.type_constraints[parameter] if t in DATATYPES]
    if not types:
        return None
    dtype = DATATYPES[chance.choice(types)]
    model, inputs = onnx.ModelProto(), dict(seed.inputs)
    model.CopyFrom(seed.model)
    for name, spec in zip(node.input, formal):
        if spec.typeStr == parameter and name in inputs:
            inputs[name] = cast(inputs[name], dtype)
    for info in model.graph.input:
        info.type.tensor_type.elem_type = element_type(inputs[info.name].dtype)
    for info, spec in zip(model.graph.output, schema.outputs):
        if spec.typeStr == parameter:
            info.type.tensor_type.elem_type = element_type(dtype)
    return Seed(model, inputs)


def element_type(dtype):
    if dtype == numpy.dtype("O"):
        return TensorProto.STRING
    return helper.np_dtype_to_tensor_dtype(dtype)


def cast(array, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dtype == numpy.dtype("O"):
            return numpy.array([str(value) for value in array.ravel()], dtype=object).reshape(array.shape)
        if array.dtype == numpy.dtype("O"):
            return numpy.zeros(array.shape, dtype)
        return array.astype(dtype)


SHAPES = ([], [1], [2], [4], [8], [1, 1], [2, 3], [2, 4], [4, 4], [4, 8], [8, 8], [1, 2, 4], [2, 3, 4], [2, 4, 8], [1, 4, 4, 4], [2, 4, 8, 8], [1, 2, 3, 4, 5])
PLAIN_ATTRIBUTES = (1, 2, 4, 8, 16, 32, 0)


def seed_by_schema(key, kernels, schema, chance):
    """A model of the operator with random inputs and attributes, of which nothing says that they suit it."""
    domain, name = key
    kernel = chance.choice(kernels)
    most = min(schema.max_input, max(schema.min_input, len(schema.inputs)), 16)
    count = chance.choice((schema.min_input, chance.randint(schema.min_input, max(most, schema.min_input))))
    common, same = chance.choice(SHAPES), chance.random() < 0.5
    chosen = {}
    names, infos, inputs = [], [], {}
    for index in range(count):
        spec = schema.inputs[min(index, len(schema.inputs) - 1)]
        if spec.typeStr not in chosen:
            allowed = kernel.type_constraints.get(spec.typeStr) or [spec.typeStr]
            types = [t for t in allowed if t in DATATYPES]
            if not types:
                return None
            preferred = "tensor(float)" if "tensor(float)" in types and chance.random() < 0.6 else chance.choice(types)
            chosen[spec.typeStr] = DATATYPES[preferred]
        if index >= schema.min_input and chance.random() < 0.3:
            names.append("")
            continue
        dtype = chosen[spec.typeStr]
        shape = common if same else chance.choice(SHAPES)
        if dtype == numpy.dtype("int32") or dtype == numpy.dtype("int64"):
            shape = chance.choice((shape, [1], [], [len(common)]))
        names.append(f"i{index}")
        inputs[f"i{index}"] = plain(dtype, shape, chance)
        infos.append(helper.make_tensor_value_info(f"i{index}", element_type(dtype), None))
    attributes = {}
    for attribute in schema.attributes.values():
        if attribute.required or chance.random() < 0.3:
            value = plain_attribute(attribute, chance)
            if value is not None:
                attributes[attribute.name] = value
    outputs = [f"o{index}" for index in range(max(schema.min_output, 1))]
    node = helper.make_node(name, names, outputs, domain=domain)
    for attribute, value in attributes.items():
        node.attribute.append(helper.make_attribute(attribute, value))
    infos_out = []
    for output, spec in zip(outputs, schema.outputs):
        info = onnx.ValueInfoProto()
        info.name = output
        infos_out.append(info)
    graph = helper.make_graph([node], "operator", infos, infos_out)
    opsets = [helper.make_opsetid("", 21)] + ([helper.make_opsetid(domain, kernel_opset(domain, kernels))] if domain else [])
    if not domain:
        opsets = [helper.make_opsetid("", kernel_opset(domain, kernels))]
    return Seed(helper.make_model(graph, opset_imports=opsets, ir_version=10), inputs)


def kernel_opset(domain, kernels):
    newest = max(kernel.version_range[0] for kernel in kernels)
    last = max(kernel.version_range[1] for kernel in kernels)
    limit = {"": 25, "ai.onnx.ml": 4, "com.microsoft": 1}.get(domain, 1)
    return min(last, max(newest, limit))


def plain(dtype, shape, chance):
    count = int(numpy.prod(shape, dtype=int))
    if dtype == numpy.dtype("O"):
        return numpy.array([chance.choice(("a", "b", "1", "2")) for _ in range(count)], dtype=object).reshape(shape)
    values = [chance.choice((0, 1, 2, 3)) if dtype.kind in "iu" else chance.random() for _ in range(count)]
    if dtype.kind == "b":
        values = [value > 0.5 for value in values]
    return numpy.array(values, dtype="f8").astype(dtype).reshape(shape)


def plain_attribute(attribute, chance):
    kind = str(attribute.type).rsplit(".", 1)[-1]
    integer = lambda: chance.choice(PLAIN_ATTRIBUTES)
    values = {
        "INT": integer,
        "FLOAT": lambda: chance.choice((0.0, 1.0, 0.5, -1.0)),
        "STRING": lambda: chance.choice(("linear", "sum", "Relu", "raw", "word", "NOTSET")),
        "INTS": lambda: [integer() for _ in range(chance.choice((1, 2, 4)))],
        "FLOATS": lambda: [chance.random() for _ in range(chance.choice((1, 2, 4)))],
        "STRINGS": lambda: [chance.choice(("a", "b", "c")) for _ in range(chance.choice((1, 2)))],
    }
    return values[kind]() if kind in values else None


def hostile(dtype, chance):
    """A value of a datatype that programs forget."""
    if dtype == numpy.dtype("O"):
        return chance.choice(ODD_TEXT)
    if dtype.kind == "b":
        return chance.random() < 0.5
    if dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        value = chance.choice((0, 0, 1, -1, -1, 2, 7, 1000, 100_000, limits.min, limits.max, limits.max - 1, limits.min + 1, limits.max // 2))
        return min(max(value, limits.min), limits.max)
    return chance.choice((*ODD_FLOATS, 2.0, 1e9, -1e9, 3.5, 65504.0))


def resized(array, shape):
    """The array's elements, repeated or cut, in another shape; the array where that is too large."""
    count = 1
    for extent in shape:
        count *= extent
    if count > MAX_ELEMENTS:
        return array
    flat = array.ravel()
    if count and not flat.size:
        flat = numpy.array(["" if array.dtype == numpy.dtype("O") else 0], dtype=array.dtype)
    return numpy.resize(flat, shape) if count else numpy.empty(shape, array.dtype)


def extents(array, chance):
    shape = list(array.shape)
    if shape:
        axis = chance.randrange(len(shape))
        shape[axis] = chance.choice((0, 0, 1, 2, 3, 5, max(shape[axis] - 1, 0), shape[axis] + 1, shape[axis] * 2, 100, 4097))
    return resized(array, shape)


def filled(array, chance):
    value, filled = hostile(array.dtype, chance), numpy.empty(array.shape, array.dtype)
    with numpy.errstate(over="ignore"):
        filled[...] = value
    return filled


def rank(array, chance):
    shape = list(array.shape)
    how = chance.randrange(6)
    if how == 0:
        shape.insert(chance.randint(0, len(shape)), 1)
    elif how == 1 and shape:
        del shape[chance.randrange(len(shape))]
    elif how == 2:
        shape = [array.size]
    elif how == 3:
        shape = []
    elif how == 4:
        shape = [chance.choice((0, 1, 2, 3)) for _ in range(chance.randint(0, 6))]
    else:
        shape = shape + [chance.choice((1, 2))] * chance.randint(1, max(1, 6 - len(shape)))
    return resized(array, shape)


def mutated(inputs, chance, keep_rank=False):
    """The inputs after one to three mutations."""
    inputs = dict(inputs)
    if not inputs:
        return inputs
    for _ in range(chance.choice((1, 1, 2, 3))):
        name = chance.choice(sorted(inputs))
        array = inputs[name]
        how = chance.choice(("value", "value", "value", "fill", "fills", "extent", "extent", "axis", "rank", "shape"))
        if how == "value" and array.size:
            array = array.copy().reshape(-1)
            with numpy.errstate(over="ignore"):
                for _ in range(chance.choice((1, 1, 2, array.size))):
                    array[chance.randrange(array.size)] = hostile(array.dtype, chance)
            inputs[name] = array.reshape(inputs[name].shape)
        elif how == "fill":
            inputs[name] = filled(array, chance)
        elif how == "fills":
            inputs = {other: filled(value, chance) for other, value in inputs.items()}
        elif how == "extent":
            inputs[name] = extents(array, chance)
        elif how == "axis" and array.ndim:
            # One axis of several inputs, as a batch or a sequence has it.
            axis = chance.randrange(array.ndim)
            extent, old = chance.choice((0, 0, 1, 2, 7)), array.shape[axis]
            for other, value in inputs.items():
                for index in range(value.ndim):
                    if value.shape[index] == old and (index == axis or chance.random() < 0.2):
                        inputs[other] = resized(value, [extent if i == index else e for i, e in enumerate(value.shape)])
                        break
        elif how == "rank" and not keep_rank:
            inputs[name] = rank(array, chance)
        elif how == "shape":
            other = inputs[chance.choice(sorted(inputs))].shape
            if not keep_rank or len(other) == array.ndim:
                inputs[name] = resized(array, other)
    return inputs


def chance_of(*parts):
    """A generator of random numbers that follows from the parts alone."""
    return random.Random("/".join(map(str, parts)))
