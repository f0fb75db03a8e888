#!/usr/bin/env python3
"""Writes models that are malformed or of extreme forms: an analysis must neither panic, nor overflow the stack, nor run for long.

    python3 malformed.py DIR

Needs onnx and numpy. ONNX Runtime refuses some of them; none may be batched unless ONNX Runtime loads it and its rows are
independent, which `index.json` says."""

import numpy as np
from onnx import TensorProto, helper

from models import X, Y, Collection

MALFORMED = Collection("unsure")
LARGE, LEAST, WIDE = 1 << 62, -(1 << 63), 1 << 33


def add(name, how, body, inputs=X, outputs=Y, edit=lambda model: None, **options):
    MALFORMED.add(name, "malformed", how, body, inputs, outputs, edit=edit, **options)


def set_dim(index, value):
    """Gives axis 1 of an input a number that the text form has no word for."""
    def edit(model):
        model.graph.input[index].type.tensor_type.shape.dim[1].dim_value = value
    return edit


def ranks():
    """Operands with fewer axes than the operator reads."""
    add("grid_sample_flat_grid", "GridSample with a grid of one axis", "y = GridSample(x, g)", "float[batch,1,3,3] x, float[batch] g", opset=16)
    add("affine_grid_one_size", "AffineGrid to a size of one number", "n = Shape<start=0, end=1>(x) y = AffineGrid(x, n)", "float[batch,2,3] x", opset=20)
    add("tfidf_of_a_scalar", "TfIdfVectorizer of a scalar", """y = TfIdfVectorizer<mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
        ngram_counts=[0], ngram_indexes=[0], pool_int64s=[1]>($1)""")
    add("embedding_of_a_vector", "EmbedLayerNormalization of ids of one axis", "y = com.microsoft.EmbedLayerNormalization(x, , w, w, , w, w)", "int32[batch] x",
        constants={"w": np.ones(4, np.float32)})
    add("distances_of_a_scalar", "CDist with a scalar", 'y = com.microsoft.CDist<metric="euclidean">(x, $1.0)')
    add("convolution_of_a_matrix", "Conv of two axes", "y = Conv(x, @[4, 4])")
    add("pool_of_a_vector", "GlobalAveragePool of one axis", "y = GlobalAveragePool(x)", "float[batch] x", "float[batch] y")
    add("recurrence_of_a_vector", "LSTM of one axis", "y = LSTM(x, @[1], @[1])", "float[batch] x", "float[batch] y")
    add("attention_of_a_vector", "Attention of one axis", "y = Attention(x, x, x)", "float[batch] x", "float[batch] y", opset=23)
    add("scan_of_a_scalar", "Scan over a scalar", "y = Scan($1.0) <num_scan_inputs = 1, body = step (float s) => (float r) { r = Identity(s) }>")


def numbers():
    """Extents, axes and sizes at the ends of their range."""
    add("slice_of_minus_one", "Slice of an axis whose extent is -1 in the file", "y = Slice(x, $[0], $[3], $[1])", edit=set_dim(0, -1))
    add("padded_below_zero", "Pad by less than there is, then Slice", "p = Pad(x, $[0, -2, 0, -2]) y = Slice(p, $[0], $[3], $[1])", "float[batch,3] x", "float[batch,wide] y")
    add("slice_from_the_least", "Slice from the least integer", f"y = Slice(x, $[{LEAST}], $[{LARGE}], $[1])", "float[batch,time] x", "float[batch,time] y")
    add("slice_from_the_least_twice", "the same, and Slice again", f"q = Slice(x, $[{LEAST}], $[{LARGE}], $[1]) y = Slice(q, $[0], $[1], $[1])", "float[batch,time] x", "float[batch,one] y")
    add("constant_of_2_66_elements", "ConstantOfShape whose elements can't be counted", f"y = ConstantOfShape($[{WIDE}, {WIDE}])")
    add("expanded_to_2_66_elements", "Expand whose elements can't be counted", f"y = Expand($1.0, $[{WIDE}, {WIDE}])")
    add("split_sizes_overflow", "sizes of Split whose sum overflows", f"y, a, b, c, d = Split<axis=0>($[1, 2], $[{LARGE}, {LARGE}, {LARGE}, {LARGE}, {LARGE}])")
    add("squeeze_an_axis_twice", "Squeeze of axis 0 named twice", "t = Unsqueeze(x, $[0]) y = Squeeze(t, $[0, 0])")
    add("softmax_axis_least", "an axis of the least integer", f"y = Softmax<axis={LEAST}>(x)")
    add("range_overflows", "Range from the largest to the least integer", f"y = Range($[{-1 - LEAST}], $[{LEAST}], $[1])")
    add("tile_negative", "Tile by the least integer", f"y = Tile(x, $[1, {LEAST}])")
    add("convolution_numbers", "Conv with pads, strides and dilations without sense",
        f"y = Conv<strides=[0,-5], dilations=[{LARGE},{LARGE}], pads=[{LARGE},{LARGE},{LARGE},{LARGE}]>(x, @[4, 3, 3, 3])", "float[batch,3,high,wide] x", "float[batch,4,h,w] y")
    add("depth_to_space_negative", "DepthToSpace with a negative block", "y = DepthToSpace<blocksize=-3>(x)", "float[batch,3,high,wide] x", "float[batch,c,h,w] y")
    add("einsum_nonsense", "an equation of Einsum without sense", 'y = Einsum<equation="->->,,ij->">(x)')
    add("function_calls_itself", "a function that calls itself", "y = local.F(x)", functions='<domain: "local", opset_import: ["": 17, "local": 1]> F (a) => (b) { c = local.F(a) b = local.F(c) }')


def depths():
    """Nests that take the stack of a recursive analysis."""
    def nested(functions, ifs):
        parts = []
        for number in range(functions):
            inner = f"z0 = local.F{number + 1}(a)" if number < functions - 1 else "z0 = Relu(a)"
            for level in range(1, ifs + 1):
                branches = f"<then_branch = t{level} () => (float[] z{level - 1}) {{ {inner} }}, else_branch = e{level} () => (float[] e) {{ e = Neg(a) }}>"
                inner = f"z{level} = If(c) {branches}"
            head = f'<domain: "local", opset_import: ["": 17, "local": 1]> F{number} (a) => (z{ifs})'
            parts.append(f"{head} {{ c = Constant<value = bool {{1}}>() {inner} }}")
        return " ".join(parts)

    add("functions_within_ifs", "16 functions that call each other, each within 27 nested Ifs", "y = local.F0(x)", opset=17, functions=nested(16, 27))
    loop = "s = Relu(v20)"
    # One turn each: ONNX Runtime runs them.
    for level in range(20, 0, -1):
        loop = f"""s = Loop($1, true, v{level - 1}) <body = step{level} (int64 i{level}, bool go{level}, float[] v{level})
            => (bool on{level}, float[] s) {{ on{level} = Identity(go{level}) {loop} }}>"""
    add("loops_within_loops", "20 nested Loops", loop.replace("v0)", "x)", 1) + " y = Identity(s)", constants={"true": True})


def durations():
    """Files whose analysis takes long where it counts nodes alone."""
    terms, width, products = 28, 64, 50
    gathers = " ".join(f"g{k} = Gather<axis=0>(s, i{k})" for k in range(terms))
    sums = "a0 = Add(g0, g1) " + " ".join(f"a{k - 1} = Add(a{k - 2}, g{k})" for k in range(2, terms))
    last = f"a{terms - 2}"
    indices = {f"i{k}": np.array([(k * 7 + j) % 29 + 1 for j in range(width)]) for k in range(terms)}
    axes = ",".join(f"t{k}" for k in range(30))
    add("polynomials", "products of vectors whose elements are sums of 28 extents", f"s = Shape(x) {gathers} {sums} " + " ".join(f"m{k} = Mul({last}, {last})" for k in range(products)) + " y = Identity(x)",
        f"float[batch,{axes}] x", f"float[batch,{axes}] y", constants=indices)

    def add_functions(model, initializers=20, depth=8):
        true = helper.make_tensor("", TensorProto.BOOL, [], [True])
        branch = helper.make_graph([helper.make_node("Neg", ["a"], ["n"])], "kept", [], [helper.make_tensor_value_info("n", 1, None)], [helper.make_tensor(f"w{k}", 1, [], [1.0]) for k in range(initializers)])
        leaf = [helper.make_node("Constant", [], ["c"], value=true), helper.make_node("If", ["c"], ["b"], then_branch=branch, else_branch=branch)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        for level in range(depth):
            called = "Leaf" if level == depth - 1 else f"F{level + 1}"
            calls = [helper.make_node(called, ["a"], ["t"], domain="local"), helper.make_node(called, ["t"], ["b"], domain="local")]
            model.functions.append(helper.make_function("local", f"F{level}", ["a"], ["b"], calls, opsets))
        model.functions.append(helper.make_function("local", "Leaf", ["a"], ["b"], leaf, opsets))
        model.opset_import.append(opsets[1])

    add("functions_double_their_calls", "functions that call the next one twice, down to an If with many initializers", "y = local.F0(x)", opset=17, edit=add_functions)

    def list_weights(model, count=5_000):
        for number in range(count):
            name = f"initializer_with_a_long_common_prefix_{number:06d}"
            model.graph.initializer.append(helper.make_tensor(name, 1, [], [1.0]))
            model.graph.input.append(helper.make_tensor_value_info(name, 1, []))
        model.ir_version = 3

    add("weights_listed_as_inputs", "IR version 3 lists all weights as inputs", "y = Relu(x)", opset=8, edit=list_weights)
    add("axes_by_the_thousand", "Unsqueeze of 20,000 axes", f"y = Unsqueeze<axes=[{','.join(map(str, range(20_000)))}]>(x)", opset=11)
    chain = "t0 = Add(x, x) " + " ".join(f"t{k} = Add(t{k - 1}, x)" for k in range(1, 500))
    add("chain_of_nodes", "a chain of 500 nodes", f"{chain} y = Relu(t499)")


for family in (ranks, numbers, depths, durations):
    family()

if __name__ == "__main__":
    MALFORMED.main(None)
