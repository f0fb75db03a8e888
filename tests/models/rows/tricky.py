#!/usr/bin/env python3
"""Writes small models whose rows are independent, in ways that a proof must follow: shapes, layouts, broadcasting and control flow.

    python3 tricky.py DIR [--verify]

Needs onnx and numpy, and onnxruntime to verify. The form of the models is that of `models.py`. `--verify` compares rows in batches
with rows alone for many values."""

from models import X, Y, Collection, show_independence

TRICKY = Collection("independent")
add = TRICKY.add


def layouts():
    add("softmax_after_transpose", "layout", "Softmax over axis 0 of the transposed rows", "t = Transpose<perm=[1,0]>(x) s = Softmax<axis=0>(t) y = Transpose<perm=[1,0]>(s)")
    add("column_reduction_after_transpose", "layout", "ReduceSum over axis 0 where the rows are at axis 1", "t = Transpose<perm=[1,0]>(x) r = ReduceSum<keepdims=0>(t, $[0]) u = Unsqueeze(r, $[1]) y = Div(x, u)")
    add("row_sum_added_to_columns", "layout", "[4,batch] plus [batch]: the vector meets the rows' axis", "t = Transpose<perm=[1,0]>(x) r = ReduceSum<keepdims=0>(x, $[1]) a = Add(t, r) y = Transpose<perm=[1,0]>(a)")
    add("lstm_with_transposes", "layout", "LSTM over time, with the batch at axis 1", "t = Transpose<perm=[1,0,2]>(x) o = LSTM<hidden_size=4>(t, @[1, 16, 4], @[1, 16,4]) s = Squeeze(o, $[1]) y = Transpose<perm=[1,0,2]>(s)", "float[batch,3,4] x", "float[batch,3,4] y")
    add("lstm_final_state", "layout", "the final state of a LSTM is [1,batch,4]", "t = Transpose<perm=[1,0,2]>(x) o, h = LSTM<hidden_size=4>(t, @[1, 16, 4], @[1, 16,4]) y = Squeeze(h, $[0])", "float[batch,3,4] x", Y)
    add("lstm_state_by_batch", "layout", "a LSTM whose initial state is made by the number of rows",
        "n = Shape<start=0, end=1>(x) s = Concat<axis=0>($[1], n, $[4]) z = ConstantOfShape(s) t = Transpose<perm=[1,0,2]>(x) o, h = LSTM<hidden_size=4>(t, @[1, 16, 4], @[1, 16,4], , , z, z) y = Squeeze(h, $[0])", "float[batch,3,4] x", Y)
    add("softmax_11_default", "layout", "Softmax of opset 11 at axis 1 flattens the inner axes only", "y = Softmax<axis=1>(x)", "float[batch,2,3] x", "float[batch,2,3] y", opset=11)
    add("rows_folded_into_batch", "layout", "[batch,3,4] as [3*batch,4], and back", "f = Reshape(x, $[-1, 4]) m = MatMul(f, @[4, 4]) r = Relu(m) y = Reshape(r, $[-1, 3, 4])", "float[batch,3,4] x", "float[batch,3,4] y")
    add("heads_folded_into_batch", "layout", "attention with heads folded into the batch: [batch*2,3,2]",
        "r = Reshape(x, $[0, 3, 2, 2]) h = Transpose<perm=[0,2,1,3]>(r) b = Reshape(h, $[-1, 3, 2]) t = Transpose<perm=[0,2,1]>(b) s = MatMul(b, t) p = Softmax<axis=-1>(s) c = MatMul(p, b) q = Reshape(c, $[-1, 2, 3, 2]) o = Transpose<perm=[0,2,1,3]>(q) y = Reshape(o, $[0, 3, 4])",
        "float[batch,3,4] x", "float[batch,3,4] y")
    add("conv_of_two_dimensions_as_channels", "layout", "Unsqueeze, Conv and Squeeze along the inner axis", "u = Unsqueeze(x, $[1]) c = Conv<kernel_shape=[3], pads=[1,1]>(u, @[1, 1, 3]) y = Squeeze(c, $[1])")
    add("group_norm_by_instance_norm", "layout", "InstanceNormalization of [batch,2,-1] as GroupNorm is exported",
        "s = Shape(x) r = Reshape(x, $[0, 2, -1]) n = InstanceNormalization(r, @[2], @[2]) y = Reshape(n, s)", "float[batch,4,3] x", "float[batch,4,3] y")
    add("last_axis_is_rows_own", "layout", "axes that are negative and do not reach axis 0", "r = ReduceMax(x, $[-1]) s = Sub(x, r) e = Exp(s) z = ReduceSum(e, $[-1]) y = Div(e, z)")


def shapes():
    add("reshaped_by_its_own_shape", "shape", "Shape, Gather, Unsqueeze, Concat, Reshape", "s = Shape(x) b = Gather<axis=0>(s, $0) u = Unsqueeze(b, $[0]) t = Concat<axis=0>(u, $[2, 2]) r = Reshape(x, t) q = Softmax<axis=2>(r) y = Reshape(q, s)")
    add("batch_times_heads", "shape", "the batch times a constant as a target of Reshape", "s = Shape<start=0, end=1>(x) k = Mul(s, $[2]) t = Concat<axis=0>(k, $[2]) r = Reshape(x, t) q = Softmax<axis=1>(r) y = Reshape(q, $[-1, 4])")
    add("constant_expanded", "shape", "Expand of a constant to the batch, and Concat along axis 1", "s = Shape<start=0, end=1>(x) t = Concat<axis=0>(s, $[2]) e = Expand(@[1, 2], t) c = Concat<axis=1>(x, e) y = MatMul(c, @[6, 4])")
    add("ones_of_shape", "shape", "ConstantOfShape of the whole shape", "s = Shape(x) o = ConstantOfShape<value=float[1] {1}>(s) y = Add(x, o)")
    add("expanded_where_target_is_minus_one", "shape", "Expand as torch exports it: Where and Equal put 1 for -1 in a shape", "s = Shape(x) m = Equal(s, $[-1, -1]) t = Where(m, $[1, 1], s) y = Expand(x, t)")
    add("tile_inner_axis", "shape", "Tile along the inner axis", "t = Tile(x, $[1, 2]) y = MatMul(t, @[8, 4])")
    add("shape_divided_by_itself", "shape", "the batch divided by itself is 1", "s = Shape<start=0, end=1>(x) d = Div(s, s) f = Cast<to=1>(d) y = Mul(x, f)")
    add("range_of_inner_extent", "shape", "positions along the inner axis, from its extent", "s = Shape<start=1, end=2>(x) q = Squeeze(s) r = Range($0, q, $1) f = Cast<to=1>(r) y = Add(x, f)")
    add("position_table_sliced", "shape", "a table of positions cut to the inner extent", "s = Shape<start=1, end=2>(x) p = Slice(@[16], $[0], s, $[0]) y = Add(x, p)")
    add("causal_mask", "shape", "Trilu of a [time,time] mask", "t = Transpose<perm=[0,2,1]>(x) s = MatMul(x, t) n = Shape<start=1, end=2>(x) d = Concat<axis=0>(n, n) o = ConstantOfShape<value=float[1] {1}>(d) m = Trilu<upper=0>(o) a = Mul(s, m) y = MatMul(a, x)", "float[batch,time,4] x", "float[batch,time,4] y")
    add("range_of_rows_as_index", "shape", "x[arange(batch), index], as torch writes a gather of one position", """n = Shape<start=0, end=1>(x) s = Squeeze(n) r = Range($0, s, $1) a = ArgMax<axis=1, keepdims=0>(x) p = Unsqueeze(r, $[1]) q = Unsqueeze(a, $[1])
        i = Concat<axis=1>(p, q) y = GatherND(x, i)""", outputs="float[batch] y")
    add("gather_of_all_rows", "shape", "Gather with Range over the batch is the identity", "n = Shape<start=0, end=1>(x) s = Squeeze(n) r = Range($0, s, $1) y = Gather<axis=0>(x, r)")
    add("slice_of_all_rows", "shape", "Slice of axis 0 from 0 to its end", "y = Slice(x, $[0, 1], $[9223372036854775807, 3], $[0, 1])", outputs="float[batch,2] y")
    add("split_and_joined", "shape", "Split along axis 1, Concat in another order", "a, b = Split<axis=1, num_outputs=2>(x) y = Concat<axis=1>(b, a)")
    add("squeeze_of_one", "shape", "Unsqueeze in front of axis 0 and Squeeze of it", "u = Unsqueeze(x, $[0]) r = Relu(u) y = Squeeze(r, $[0])")
    add("flatten_inner", "shape", "Flatten keeps axis 0", "f = Flatten<axis=1>(x) y = MatMul(f, @[6, 4])", "float[?,2,3] x", "float[?,4] y")


def others():
    add("static_quantisation", "quantised", "QuantizeLinear and DequantizeLinear with constant scales", "z = Cast<to=3>($0) q = QuantizeLinear(x, $0.02, z) y = DequantizeLinear(q, $0.02, z)")
    add("embedding", "gather", "Gather from a table by the rows' ids", "y = Gather<axis=0>(@[1000, 4], ids)", "int64[batch] ids")
    add("gather_own_elements", "gather", "GatherElements along axis 1", "v, i = TopK<axis=1>(x, $[2]) y = GatherElements<axis=1>(x, i)", outputs="float[batch,2] y")
    add("nd_gather_with_batch_dims", "gather", "GatherND with batch_dims 1", "u = Unsqueeze(ids, $[1]) m = Mod(u, $4) y = GatherND<batch_dims=1>(x, m)", f"{X}, int64[batch] ids", "float[batch] y")
    add("einsum_per_row", "product", "Einsum with the batch in all terms", 'y = Einsum<equation="bij,bjk->bik">(x, x)', "float[batch,2,2] x", "float[batch,2,2] y")
    add("rows_by_their_outer_product", "product", "[batch,4,1] times [batch,1,4]", "a = Unsqueeze(x, $[2]) b = Unsqueeze(x, $[1]) y = MatMul(a, b)", outputs="float[batch,4,4] y")
    add("gemm_not_transposed", "product", "Gemm without transA", "y = Gemm<transB=1>(x, @[3, 4], @[3])", outputs="float[batch,3] y")
    add("if_on_a_constant", "control", "If whose condition is a constant; the other branch would mix", """c = Cast<to=9>($1)
        y = If(c) <then_branch = own () => (float[batch,4] a) { a = Relu(x) }, else_branch = all () => (float[batch,4] b) { b = Softmax<axis=0>(x) }>""")
    add("if_on_inner_extent", "control", "If on an inner extent", """n = Shape<start=1, end=2>(x) q = Squeeze(n) c = Greater(q, $2)
        y = If(c) <then_branch = own () => (float[batch,4] a) { a = Relu(x) }, else_branch = other () => (float[batch,4] b) { b = Neg(x) }>""")
    add("loop_of_constant_length", "control", "Loop with three steps, each row on its own", """go = Cast<to=9>($1) start = Identity(x)
        y = Loop($3, go, start) <body = step (int64 i, bool c, float[batch,4] v) => (bool d, float[batch,4] w) { d = Identity(c) w = MatMul(v, @[4, 4]) }>""")
    add("scan_over_rows_without_state", "control", "Scan over the rows without a state", "y = Scan(x) <num_scan_inputs = 1, body = step (float[4] r) => (float[4] o) { o = Softmax<axis=0>(r) }>")
    add("scan_over_time", "control", "Scan over axis 1 with a state for each row",
        """n = Shape<start=0, end=1>(x) s = Concat<axis=0>(n, $[4]) z = ConstantOfShape(s) last, o = Scan(z, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
        body = step (float[batch,4] h, float[batch,4] r) => (float[batch,4] k, float[batch,4] v) { k = Add(h, r) v = Tanh(k) }> y = Identity(o)""", "float[batch,3,4] x", "float[batch,3,4] y")
    add("cumulative_sum_of_columns", "scan", "CumSum along axis 1", "y = CumSum(x, $1)")
    add("where_by_row", "elementwise", "Where by a condition of each row", "m = ReduceMax(x, $[1]) c = Greater(m, $0.5) n = Neg(x) y = Where(c, n, x)")
    add("dropout_inference", "elementwise", "Dropout outside of training", "y, m = Dropout(x, $0.5)")
    add("mean_variance_inner", "normalisation", "MeanVarianceNormalization over the inner axes", "y = MeanVarianceNormalization<axes=[1,2,3]>(x)", "float[batch,2,3,3] x", "float[batch,2,3,3] y")
    add("function_over_inner_axis", "function", "a local function whose axis is 1", "y = local.Shares<over=1>(x)", functions='<domain: "local", opset_import: ["": 18]> Shares <over: int = 0> (a) => (b) { b = Softmax<axis: int = @over>(a) }')
    add("tfidf_of_each_row", "text", "TfIdfVectorizer on [batch,words]", 'y = TfIdfVectorizer<mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0, ngram_counts=[0], ngram_indexes=[0, 1], pool_strings=["yes", "no"]>(text)', "string[batch,3] text", "float[batch,2] y")
    add("label_encoder", "text", "LabelEncoder of each word", 'y = ai.onnx.ml.LabelEncoder<keys_strings=["yes", "no"], values_int64s=[1, 2], default_int64=0>(text)', "string[?] text", "int64[?] y")
    add("mixed_but_unused", "dead", "a mean over the rows that no output uses", "m = ReduceMean(x, $[0]) s = Sub(x, m) y = Relu(x)")
    add("mean_times_zero_integers", "dead", "integers: the count of rows times 0", "n = Shape<start=0, end=1>(x) z = Mul(n, $[0]) f = Cast<to=1>(z) y = Add(x, f)")


for family in (layouts, shapes, others):
    family()

if __name__ == "__main__":
    TRICKY.main(show_independence)
