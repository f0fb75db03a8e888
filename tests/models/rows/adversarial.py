#!/usr/bin/env python3
"""Writes models that an analysis of the graph may take for independent although rows meet, and malformed ones.

    python3 adversarial.py DIR [--verify]

Needs onnx and numpy, and onnxruntime to verify. The form of the models is that of `models.py`. Each one names the difference between
an operator's definition, a declaration in the file, or a plausible rule of an analysis, and ONNX Runtime's behaviour. Malformed
models are in `malformed.py`."""

import numpy as np
from onnx import helper

from models import X, Y, Collection, show_influence

ADVERSARIAL = Collection("mixes")
add = ADVERSARIAL.add

LARGE = 1 << 62
XT, YT = "float[batch,time] x", "float[batch,time] y"
# The rows' positions, as vector `p`.
POSITIONS = "n = Shape<start=0, end=1>(x) last = Squeeze(n) p = Range($0, last, $1) "
# An answer that mixes rows unless the condition `c` holds.
CHOICE = """y = If(c) <then_branch = own () => (float[batch,4] a) { a = Identity(x) },
    else_branch = all () => (float[batch,4] b) { b = Softmax<axis=0>(x) }>"""
CHOICE_T = CHOICE.replace("batch,4", "batch,time")
# Rows as long as axis 0 of `v` says: one row where that is 1.
BY_V = """vs = Shape<start=0, end=1>(v) t = Concat<axis=0>(vs, $[-1]) z = Reshape(x, t) q = Softmax<axis=1>(z)
    xs = Shape(x) y = Reshape(q, xs)"""
# The same before opset 15, whose Shape has no start.
BY_V_OLD = BY_V.replace("vs = Shape<start=0, end=1>(v)", "ws = Shape(v) vs = Gather<axis=0>(ws, $[0])")
# A Loop's output that holds the number of rows once, and no analysis that keeps known elements knows them.
ROWS_BY_LOOP = """n = Shape<start=0, end=1>(x) b = Squeeze(n) l = Loop(turns, true, ) <body = step (int64 i, bool go)
    => (bool on, int64 s) { on = Identity(go) s = Identity(b) }>"""


def declared_shapes():
    """ONNX Runtime folds Shape to what the file declares, and an input may have been opened by hand afterwards."""
    add("value_info_static_batch", "declared", "value_info declares one row for an inner tensor", f"v = Relu(x) {BY_V}", declared="float[1,4] v")
    add("value_info_realistic_flatten", "declared", "value_info declares one row for a Conv's output, which is flattened by its Shape",
        """f = Conv<kernel_shape=[2,2]>(x, @[2, 1, 2, 2]) s = Shape(f) b = Gather<axis=0>(s, $0) u = Unsqueeze(b, $[0])
        t = Concat<axis=0>(u, $[-1]) y = Reshape(f, t)""", "float[batch,1,4,4] x", "float[batch,features] y", declared="float[1,2,3,3] f")
    add("output_info_static_batch", "declared", "a second output declares one row", f"v = Relu(x) {BY_V}", outputs=f"{Y}, float[1,4] v")
    for name, before, inputs in (
        ("certain", "c = Identity(true)", X),
        ("uncertain", "e = Shape<start=1, end=2>(x) c = Less(e, $[4])", XT),
    ):
        add(f"if_output_info_static_{name}", "declared", "the branches of an If declare one row", f"""{before}
            v = If(c) <then_branch = one () => (float[1,4] a) {{ a = Relu(x) }}, else_branch = two () => (float[1,4] b) {{ b = Relu(x) }}> {BY_V}""",
            inputs, inputs.replace("x", "y"), constants={"true": True}, extents={"time": 3})
    add("loop_scan_output_info_static", "declared", "a Loop's body declares one row for a stacked output", f"""w, stacked = Loop($1, true, x)
        <body = step (int64 i, bool go, float[1,4] s) => (bool on, float[1,4] r, float[1,4] k) {{ on = Identity(go) r = Relu(s) k = Identity(s) }}>
        v = Squeeze(stacked, $[0]) {BY_V}""", constants={"true": True})
    add("loop_input_info_static", "declared", "a Loop's body declares one row for its state", f"""xs = Shape(x) l = Loop($1, true, x)
        <body = step (int64 i, bool go, float[1,4] s) => (bool on, float[batch,4] o) {{ on = Identity(go) vs = Shape<start=0, end=1>(s)
        t = Concat<axis=0>(vs, $[-1]) z = Reshape(s, t) q = Softmax<axis=1>(z) o = Reshape(q, xs) }}> y = Identity(l)""", constants={"true": True})
    add("value_info_of_positions", "declared", "value_info declares one row for numbers that count the rows", f"""{POSITIONS}
        v = Add(p, $1) {BY_V}""", declared="int64[1] v")
    add("scan_output_info_static", "declared", "the body of a Scan over columns declares one row", f"""v = Scan(x)
        <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], body = step (float[1] s) => (float[1] r) {{ r = Relu(s) }}> {BY_V}""")


def reshapes():
    """Targets of Reshape that differ at run time from what they say."""
    add("reshape_fused_to_minus_one", "reshape", "ONNX Runtime's fusion turns the number of rows into -1: a row that does not fit alone takes another's",
        """n = Shape<start=0, end=1>(x) s = Shape(x) b = Gather<axis=0>(s, $[0]) t = Concat<axis=0>(b, $[3, 2]) z = Reshape(x, t)
        q = ReduceSum(z, $[1, 2]) w = Add(z, q) t2 = Concat<axis=0>(b, $[3]) g = Shape(w) y = Reshape(w, t2)""", XT, "float[batch,3] y",
        unverified="a row fails alone; two rows of three answer with sums over both")
    add("reshape_symbol_zero_is_copied", "reshape", "an extent of 0 in a target copies the input's, and positions times 0 are row 0",
        """zs = Shape(z) b = Gather<axis=0>(zs, $[0]) s = Gather<axis=0>(zs, $[1]) bs = Mul(b, s) t = Concat<axis=0>(bs, $[-1])
        w = Reshape(x, t) last = Squeeze(b, $[0]) p = Range($0, last, $1) i = Mul(p, s) y = Gather<axis=0>(w, i)""",
        "float[batch,12] x, float[batch,time] z", "float[batch,features] y", extents={"time": 0})
    add("squeeze_empty_axes", "reshape", "Squeeze with an empty list of axes drops every extent of 1, the batch's too",
        "s = Squeeze(x, none) a = Add(s, x) y = ReduceSum<keepdims=0>(a, $[1])", "float[batch,1,4] x", Y, constants={"none": np.zeros(0, np.int64)})
    add("squeeze_duplicate_axes", "reshape", "Squeeze takes an axis that is named twice once",
        "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, $[1]) s = Squeeze(u, $[1, 1]) q = Softmax<axis=1>(s) xs = Shape(x) y = Reshape(q, xs)")


def resizes():
    """Linear and cubic Resize of few axes reads the next row with weight 0, and 0 times NaN is NaN."""
    axis = {2: "", 3: ",4", 4: ",1,4"}
    for name, rank, mode, arguments, opset in (
        ("linear_rank_2", 2, 'mode="linear"', "x, , $[1.0, 2.0]", 13),
        ("linear_rank_3", 3, 'mode="linear"', "x, , $[1.0, 2.0, 2.0]", 13),
        ("cubic_rank_2", 2, 'mode="cubic"', "x, , $[1.0, 2.0]", 13),
        ("opset_10", 2, 'mode="linear"', "x, $[1.0, 2.0]", 10),
        ("inner_axis_named", 2, 'mode="linear", axes=[1]', "x, , $[2.0]", 18),
        ("inner_axes_named", 3, 'mode="linear", axes=[1,2]', "x, , $[2.0, 2.0]", 18),
    ):
        add(f"resize_{name}_nan", "resize", f"Resize ({name}) weighs the next row by 0", f"y = Resize<{mode}>({arguments})",
            f"float[batch,4{axis[rank]}] x", "float[batch" + ",wide" * (rank - 1) + "] y", opset=opset)
    add("upsample_nan", "resize", "Upsample of opset 9 weighs the next row by 0", 'y = Upsample<mode="linear">(x, $[1.0, 2.0])', X, "float[batch,8] y", opset=9)
    for name, coordinates in (("aligned", "align_corners"), ("half_pixel", "pytorch_half_pixel")):
        add(f"resize_sizes_{name}", "resize", f"Resize to sizes that the rows give, in coordinates {coordinates}", f"""n = Shape<start=0, end=1>(x)
            s = Concat<axis=0>(n, $[7]) y = Resize<mode="linear", coordinate_transformation_mode="{coordinates}">(x, , , s)""", X, "float[batch,7] y")
    add("resize_scale_by_rows", "resize", "Resize widens by the number of rows, and a sum counts them", """n = Shape<start=0, end=1>(x) f = Cast<to=1>(n)
        s = Concat<axis=0>($[1.0, 1.0], f) z = Resize<mode="nearest">(x, , s) y = ReduceSum<keepdims=0>(z, $[2])""", "float[batch,1,4] x", "float[batch,1] y")
    add("resize_rows_along_height", "resize", "rows lie along an axis that is interpolated with the scale 1",
        """t = Transpose<perm=[1,2,0,3]>(x) z = Resize<mode="linear">(t, , $[1.0, 1.0, 1.0, 2.0]) y = Transpose<perm=[2,0,1,3]>(z)""",
        "float[batch,1,1,4] x", "float[batch,1,1,width] y")


def attributes():
    """ONNX Runtime compares flags with 1; other numbers are not true."""
    add("keepdims_minus_2", "attribute", "keepdims=-2 drops the axis, and row sums meet columns", "s = ReduceSum<keepdims=-2>(x, $[1]) y = Add(x, s)",
        edit=lambda model: None)
    add("argmax_keepdims_2", "attribute", "keepdims=2 of ArgMax drops the axis, and row indices meet columns",
        "s = ArgMax<axis=1, keepdims=2>(x) f = Cast<to=1>(s) y = Add(x, f)", edit=lambda model: None)
    add("noop_with_empty_axes_2", "attribute", "noop_with_empty_axes=2 reduces all axes", "s = ReduceSum<keepdims=1, noop_with_empty_axes=2>(x) y = Add(x, s)")


def words():
    add("tokenizer_flatten_bigrams", "text", "the padding of the longest row stands between the words of two columns, and pairs of words differ",
        """t = com.microsoft.Tokenizer<mark=0, mincharnum=1, pad_value="#", separators=[" "]>(x) f = Flatten<axis=1>(t)
        y = TfIdfVectorizer<mode="TF", min_gram_length=2, max_gram_length=2, max_skip_count=0, ngram_counts=[0, 0], ngram_indexes=[0],
        pool_strings=["yes", "no"]>(f)""", "string[batch,2] x", "float[batch,1] y", witness={"inputs": {"x": [["yes", "no"], ["the cat sat", "a"]]}})


def short_axes():
    """Extents of cut axes are less than usual where the axis is short."""
    for name, body, extents in (
        ("slice_to_last_shorter", f"s = Slice(x, $[-4], $[{LARGE}], $[1]) e = Shape(s) n = Gather<axis=0>(e, $1) c = Equal(n, $4)", 2),
        ("slice_minus_1_to_0", "s = Slice(x, $[-1], $[0], $[1]) e = Shape(s) n = Gather<axis=0>(e, $1) c = Cast<to=9>(n)", 2),
        ("slice_from_longer", f"s = Slice(x, $[4], $[{LARGE}], $[1]) e = Shape(s) n = Gather<axis=0>(e, $1) m = Add(n, $4) xs = Shape(x) t = Gather<axis=0>(xs, $1) c = Equal(m, t)", 2),
        ("range_down", "xs = Shape(x) t = Gather<axis=0>(xs, $1) r = Range($4, t, $1) n = Size(r) m = Add(n, $4) c = Equal(m, t)", 2),
    ):
        add(name, "extent", f"an If asks for the extent of a cut axis ({name}), which is short", f"{body} {CHOICE_T}", XT, YT, extents={"time": extents})


def positions():
    """Row positions that an operator bends are other rows' positions."""
    for name, how, body in (
        ("cast_bool", "a Cast to bool and back makes all but the first position 1", "b = Cast<to=9>(p) i = Cast<to=7>(b)"),
        ("label_encoder", "a LabelEncoder gives other positions", "i = ai.onnx.ml.LabelEncoder<keys_int64s=[0,1,2,3], values_int64s=[0,0,0,1], default_int64=0>(p)"),
        ("trilu", "Trilu clears all positions but those above its diagonal", "u = Unsqueeze(p, $[1]) t = Trilu<upper=1>(u) i = Squeeze(t, $[1])"),
    ):
        add(f"positions_{name}", "position", how, f"{POSITIONS} {body} y = Gather<axis=0>(x, i)")
    add("positions_stacked_by_loop", "position", "a Loop stacks the positions along a new axis 0, and each row takes all of them",
        f"""{POSITIONS} l = Loop($1, true, ) <body = step (int64 i, bool go) => (bool on, int64[rows] s) {{ on = Identity(go) s = Identity(p) }}>
        g = Gather<axis=0>(x, l) m = ReduceMean<keepdims=0>(g, $[1]) y = Add(x, m)""", constants={"true": True})
    add("row_tuples_unsqueezed", "position", "an axis behind tuples of positions makes them indices of whole rows",
        f"""{POSITIONS} u = Unsqueeze(p, $[1]) t = Concat<axis=1>(u, k) w = Unsqueeze(t, $[2]) g = GatherND(x, w) y = ReduceSum<keepdims=0>(g, $[1])""",
        f"{X}, int64[batch,1] k", unverified="ids other than 0 fail alone")
    add("below_cast_int8", "position", "indices within a row of 200 wrap as int8, and lead into the row before",
        f"{POSITIONS} o = Mul(p, $200) a = ArgMax<axis=1, keepdims=0>(x) s = Cast<to=3>(a) w = Cast<to=7>(s) i = Add(o, w) f = Reshape(x, $[-1]) y = Gather<axis=0>(f, i)",
        "float[batch,200] x", "float[batch] y")


def amounts():
    """The number of rows decides how much of a constant is taken."""
    add("constant_sliced_by_rows", "number_of_rows", "Slice takes as many elements of a constant as a Loop's output says",
        f"{ROWS_BY_LOOP} k = Slice(w, $[0], l, $[0]) m = ReduceSum<keepdims=0>(k) y = Add(x, m)",
        constants={"w": np.arange(1, 9, dtype=np.float32), "true": True, "turns": np.int64(1)})
    sizes = """n = Shape<start=0, end=1>(x) b = Squeeze(n) l = Loop($2, true, ) <body = step (int64 i, bool go) => (bool on, int64 s) {
        on = Identity(go) first = Equal(i, zero) rest = Sub(eight, b) s = Where(first, b, rest) }>"""
    numbers = {"true": True, "zero": np.int64(0), "eight": np.int64(8)}
    add("rows_split_by_rows", "number_of_rows", "Split cuts each row into pieces whose sizes a Loop makes of the number of rows",
        f"{sizes} k, o = Split<axis=1>(x, l) y = ReduceSum<keepdims=0>(k, $[1])", "float[batch,8] x", "float[batch] y", opset=17, constants=numbers)
    add("constant_split_by_rows", "number_of_rows", "Split cuts a constant into pieces whose sizes a Loop makes of the number of rows",
        f"{sizes} k, o = Split<axis=0>(w, l) m = ReduceSum<keepdims=0>(k) y = Add(x, m)", opset=17,
        constants={**numbers, "w": np.arange(1, 9, dtype=np.float32)})
    add("slice_step_by_rows", "number_of_rows", "Slice along the columns with a step of the number of rows",
        f"n = Shape<start=0, end=1>(x) z = Slice(x, $[0], $[{LARGE}], $[1], n) y = ReduceSum<keepdims=0>(z, $[1])", "float[batch,8] x", "float[batch] y")
    add("constant_slice_step_by_rows", "number_of_rows", "Slice of a constant with a step of the number of rows",
        f"n = Shape<start=0, end=1>(x) z = Slice(@[8], $[0], $[{LARGE}], $[0], n) m = ReduceSum<keepdims=0>(z) y = Add(x, m)")


def wrong_shapes():
    """Shapes that differ from the operand that a rule reads them from."""
    mixed = f"{POSITIONS} u = Unsqueeze(p, $[1]) m = Sub(u, zeros)"
    reshaped = "ts = Shape(t) z = Reshape(x, ts) q = Softmax<axis=-1>(z) xs = Shape(x) y = Reshape(q, xs)"
    zeros = {"zeros": np.zeros((1, 4), np.int64), "half": np.float32(0.5)}
    add("shape_of_mixed_transposed", "shape", "the Shape of a tensor that mixes rows and is transposed", f"{mixed} t = Transpose<perm=[1,0]>(m) {reshaped}", constants=zeros)
    add("either_mixed_shape", "shape", "the branches of an If mix rows in two shapes", f"""{mixed} c = IsNaN(half) t = If(c)
        <then_branch = one () => (int64[r,s] a) {{ a = Identity(m) }}, else_branch = two () => (int64[r,s] b) {{ b = Transpose<perm=[1,0]>(m) }}> {reshaped}""", constants=zeros)

    def minus_one(model):
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -1

    add("dim_minus_one", "shape", "an inner extent of -1 in the file is open", f"s = Shape(x) n = Gather<axis=0>(s, $1) c = Equal(n, $-1) {CHOICE}", edit=minus_one)
    one = {"k": np.array([0.5], np.float32)}
    rows = f"{X}, float[batch] r"
    add("prelu_constant_x", "shape", "PRelu of a constant has the constant's shape to ONNX Runtime's folding, whatever its slope has", f"v = PRelu(k, r) {BY_V}", rows, constants=one)
    add("clip_rows_bound", "shape", "Clip of a constant by bounds of the rows", f"v = Clip(k, r) {BY_V}", rows, constants=one, edit=lambda model: None)
    add("bias_gelu_constant_x", "shape", "BiasGelu of a constant with a bias of the rows", f"v = com.microsoft.BiasGelu(k, r) {BY_V}", rows, constants=one)
    add("fast_gelu_constant_x", "shape", "FastGelu of a constant with a bias of the rows", f"v = com.microsoft.FastGelu(k, r) {BY_V}", rows, constants=one)
    add("skip_layer_norm_rows_skip", "shape", "SkipLayerNormalization of a constant with a skip of the rows", f"v = com.microsoft.SkipLayerNormalization(k, r, g) {BY_V}",
        f"{X}, float[batch,2,3] r", constants={"k": np.ones((1, 2, 3), np.float32), "g": np.ones(3, np.float32)})
    add("affine_grid_constant", "shape", "an AffineGrid of constants has a batch of its own", "g = AffineGrid(w, $[3, 1, 2, 2]) y = Add(x, g)",
        "float[batch,2,2,2] x", "float[batch,2,2,2] y", opset=20, constants={"w": np.random.default_rng(0).standard_normal((3, 2, 3)).astype(np.float32)})
    sparse = helper.make_sparse_tensor(helper.make_tensor("", 1, [4], [1, 2, 3, 4]), helper.make_tensor("", 7, [4], [0, 1, 2, 3]), [2, 2])
    add("sparse_constant_rank", "shape", "a sparse Constant has two axes", "g = Gather<axis=0>(k, j) y = Add(g, x)", "float[batch] x, int64[batch] j", "float[rows,columns] y",
        edit=lambda model: model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], sparse_value=sparse)))
    add("layer_norm_constant_mean_shape", "shape", "the mean of a LayerNormalization of constants has an extent of 1", f"""o, m = LayerNormalization<axis=-1>(k, w)
        s = Shape(m) n = Gather<axis=0>(s, $1) c = Equal(n, $4) {CHOICE}""", opset=17, constants={"k": np.ones((4, 4), np.float32), "w": np.ones(4, np.float32)})


def known_elements():
    """Elements that ONNX Runtime computes in narrow types: they wrap, round and are NaN."""
    for name, how, body, constants in (
        ("cast_uint8_wraps", "256 as uint8 is 0", "u = Cast<to=2>(k) c = Cast<to=9>(u)", {"k": np.int64(256)}),
        ("cast_int32_wraps", "2^32 as int32 is 0", "u = Cast<to=6>(k) c = Cast<to=9>(u)", {"k": np.int64(1 << 32)}),
        ("int32_mul_wraps", "65536 squared in int32 is 0", "u = Mul(k, k) c = Cast<to=9>(u)", {"k": np.int32(65536)}),
        ("nan_equals_itself", "NaN equals nothing", "c = Equal(k, k)", {"k": np.float32(np.nan)}),
        ("float32_rounding", "16777216 and 1 are 16777216 in float32", "d = Add(k, o) e = Sub(d, k) c = Cast<to=9>(e)", {"k": np.float32(16777216), "o": np.float32(1)}),
        ("float_symbol_cancels", "a number times infinity, divided by infinity, is NaN", "q = Mul(k, e) r = Div(q, e) z = Sub(r, k) u = Cast<to=9>(z) c = Not(u)",
         {"k": np.float32(1), "e": np.float32(np.inf)}),
        ("split_rank_2_sum", "Split of a matrix of constants along axis 1 takes columns", "f, s = Split<axis=1>(k) e = ReduceSum<keepdims=0>(s) c = Cast<to=9>(e)",
         {"k": np.array([[1, 1], [1, -1]])}),
        ("split_after_unknown_size", "Split's second piece begins behind the first, whose size is a fraction cast to an integer",
         "s = Cast<to=7>(f) g, h = Split<axis=0>(k, s) e = Gather<axis=0>(h, zero) c = Cast<to=9>(e)",
         {"k": np.array([1, 0]), "f": np.array([1.5, 1], np.float32), "zero": np.int64(0)}),
        ("sum_square_without_axes", "ReduceSumSquare squares each element where it reduces none", "q = ReduceSumSquare<noop_with_empty_axes=1>(k, none) c = Equal(q, k)",
         {"k": np.int64(3), "none": np.zeros(0, np.int64)}),
    ):
        opset = 18 if name.startswith("sum") else 17
        add(name, "element", f"{how}, and an If asks", f"{body} {CHOICE}", constants=constants, opset=opset)
    add("cast_float16_rounds", "element", "an extent of 2049 as float16 is 2048, and an If asks",
        "s = Shape(x) n = Gather<axis=0>(s, $1) h = Cast<to=10>(n) m = Cast<to=7>(h) c = Equal(n, m) " + CHOICE.replace("batch,4", "batch,2049"),
        "float[batch,2049] x", "float[batch,2049] y")
    add("float_batch_recovered", "element", "the number of rows, multiplied by a float and divided by it, is one less for some",
        """n = Shape<start=0, end=1>(x) f = Cast<to=1>(n) q = Mul(f, $1.9009769) r = Div(q, $1.9009769) i = Cast<to=7>(r) t = Concat<axis=0>(i, $[-1])
        z = Reshape(x, t) s = Softmax<axis=1>(z) xs = Shape(x) y = Reshape(s, xs)""")


def versions_and_functions():
    """Which version of an operator runs, and which body of a function."""
    softmax = "t = Transpose<perm=[1,0,2]>(x) s = {}(t) y = Transpose<perm=[1,0,2]>(s)"
    three = ("float[batch,4,5] x", "float[batch,4,5] y")
    add("function_opset_13_model_12", "version", "ONNX Runtime runs a function's nodes in the model's opset, whose Softmax flattens",
        softmax.format("local.Shares"), *three, opset=12, functions='<domain: "local", opset_import: ["": 13]> Shares (a) => (b) { b = Softmax(a) }', edit=lambda model: None)

    def imports(*opsets):
        def edit(model):
            del model.opset_import[:]
            model.opset_import.extend(helper.make_opsetid(*opset) for opset in opsets)
        return edit

    for name, opsets in (("alias_last", (("", 13), ("ai.onnx", 12))), ("alias_first", (("ai.onnx", 13), ("", 12))), ("same", (("", 13), ("", 12)))):
        add(f"opset_imported_twice_{name}", "version", "of two imports of one domain the last counts", softmax.format("Softmax"), *three, opset=12, edit=imports(*opsets))
    add("opset_missing", "version", "without an import the newest version runs, whose DFT has another default axis",
        "t = Transpose<perm=[1,2,0,3]>(x) s = DFT(t) y = Transpose<perm=[2,0,1,3]>(s)", "float[batch,3,4,2] x", "float[batch,3,4,2] y", opset=17, edit=imports(("com.microsoft", 1)))
    identity = '<domain: "{}", opset_import: ["": 17]> {} ({}) => (b) {{ b = Identity(a) }}'
    add("function_shadows_softmax", "function", "a function with a standard operator's name is not used", "y = Softmax<axis=0>(x)", opset=17,
        functions=identity.format("", "Softmax", "a"), edit=lambda model: None)
    add("function_shadows_softmax_alias", "function", "the same by the domain's other name", "y = ai.onnx.Softmax<axis=0>(x)", opset=17,
        functions=identity.format("ai.onnx", "Softmax", "a"), edit=lambda model: None)
    add("function_shadows_layer_norm", "function", "a function with the name of an operator that is a function itself is not used", "y = LayerNormalization<axis=0>(x, w)", opset=17,
        functions=identity.format("", "LayerNormalization", "a, w"), constants={"w": np.ones(4, np.float32)}, edit=lambda model: None)

    def overload(model):
        twin = model.functions.add()
        twin.CopyFrom(model.functions[0])
        model.functions[0].overload, twin.overload = "one", "two"
        twin.node[0].CopyFrom(helper.make_node("Identity", ["a"], ["b"]))
        model.graph.node[0].overload = "one"

    add("function_overloaded", "function", "of two functions of one name the node's overload chooses", "y = local.F(x)", opset=17,
        functions='<domain: "local", opset_import: ["": 17]> F (a) => (b) { b = Softmax<axis: int = 0>(a) }', edit=overload)


for family in (declared_shapes, reshapes, resizes, attributes, words, short_axes, positions, amounts, wrong_shapes, known_elements, versions_and_functions):
    family()

if __name__ == "__main__":
    ADVERSARIAL.main(show_influence)
