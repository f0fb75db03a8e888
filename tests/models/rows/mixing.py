#!/usr/bin/env python3
"""Writes small models whose rows influence each other: none of them may ever be batched.

    python3 mixing.py DIR [--verify]

Needs onnx and numpy, and onnxruntime to verify. The form of the models is that of `models.py`. `--verify` compares rows in batches
with rows alone: every model must show a difference for some values, which the index names under `shown_by`. A model that needs more
rows or rare values has a witness."""

from models import X, Y, Collection, show_influence

MIXING = Collection("mixes")
add = MIXING.add


def reductions():
    for index, name in enumerate(("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")):
        keep, absolute = index % 2, "a = Abs(x)" if name == "LogSum" else "a = Identity(x)"
        add(f"reduce_{name.lower()}", "reduction", f"Reduce{name} over axis 0 (keepdims={keep}) is subtracted from every row",
            f"{absolute} r = Reduce{name}<keepdims={keep}>(a, $[0]) y = Sub(x, r)")
    add("reduce_max_attribute", "reduction", "ReduceMax of opset 13 with the axis as a negative attribute", "r = ReduceMax<axes=[-2]>(x) y = Sub(x, r)", opset=13)
    add("reduce_all_axes", "reduction", "ReduceMean without axes reduces all of them", "r = ReduceMean<keepdims=0>(x) y = Sub(x, r)")
    add("reduce_computed_axes", "reduction", "ReduceSum over axes that the graph computes: 1 - 1", "a = Sub($[1], $[1]) r = ReduceSum(x, a) y = Sub(x, r)")
    add("reduce_one_dimension", "reduction", "ReduceMean over axis -1 of one-dimensional rows is axis 0", "r = ReduceMean(x, $[-1]) y = Sub(x, r)",
        "float[batch] x", "float[batch] y")
    add("reduce_both_axes_unnamed", "reduction", "ReduceL2 over axes 0 and 1; axis 0 has no name", "r = ReduceL2(x, $[0, 1]) y = Div(x, r)", "float[?,4] x", "float[?,4] y")
    add("reduce_after_transpose", "reduction", "ReduceMax over the last axis, where a Transpose has put the rows",
        "t = Transpose<perm=[1,0]>(x) r = ReduceMax<keepdims=1>(t, $[-1]) s = Sub(t, r) y = Transpose<perm=[1,0]>(s)")
    add("argmax", "reduction", "ArgMax over axis 0 is a row's position", "a = ArgMax<axis=0, keepdims=0>(x) f = Cast<to=1>(a) y = Add(x, f)")
    add("argmin_negative_axis", "reduction", "ArgMin over axis -2, last index first", "a = ArgMin<axis=-2, select_last_index=1>(x) f = Cast<to=1>(a) y = Add(x, f)")


def normalisations():
    add("softmax_rows", "softmax", "Softmax over axis 0", "y = Softmax<axis=0>(x)")
    add("logsoftmax_rows", "softmax", "LogSoftmax over axis -2", "y = LogSoftmax<axis=-2>(x)", opset=13)
    add("softmax_flattening", "softmax", "Softmax of opset 11 at axis 0 flattens all axes into one", "y = Softmax<axis=0>(x)", opset=11)
    add("softmax_flattening_transposed", "softmax", "Softmax of opset 11 at axis 1 normalises over the axes 1 and 2, and the rows are at 2",
        "t = Transpose<perm=[1,2,0]>(x) s = Softmax<axis=1>(t) y = Transpose<perm=[2,0,1]>(s)", "float[batch,2,3] x", "float[batch,2,3] y", opset=11)
    add("softmax_one_dimension", "softmax", "Softmax over axis -1 of a one-dimensional tensor is axis 0", "y = Softmax<axis=-1>(x)", "float[batch] x", "float[batch] y")
    add("hardmax_rows", "softmax", "Hardmax over axis 0 marks one row", "y = Hardmax<axis=0>(x)")
    add("layer_norm_axis_0", "normalisation", "LayerNormalization from axis 0 on",
        "s = Shape(x) one = ConstantOfShape<value=float[1] {1}>(s) y = LayerNormalization<axis=0>(x, one)")
    add("layer_norm_one_dimension", "normalisation", "LayerNormalization over the last axis of a one-dimensional tensor", "y = LayerNormalization<axis=-1>(x, $[1.0])",
        "float[batch] x", "float[batch] y")
    add("rms_norm_transposed", "normalisation", "a root mean square over the rows, as RMSNorm is exported, after a Transpose",
        "t = Transpose<perm=[1,0]>(x) q = Mul(t, t) m = ReduceMean(q, $[-1]) e = Add(m, $1e-5) r = Sqrt(e) n = Div(t, r) y = Transpose<perm=[1,0]>(n)")
    add("instance_norm_transposed", "normalisation", "InstanceNormalization whose last axis holds the rows",
        "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, $[0]) n = InstanceNormalization(u, @[4], @[4]) s = Squeeze(n, $[0]) y = Transpose<perm=[1,0]>(s)")
    add("batch_norm_training", "normalisation", "BatchNormalization in training mode", "m = Mul(@[4], $0.0) y, rm, rv = BatchNormalization<training_mode=1>(x, @[4], @[4], m, $[1.0, 1.0, 1.0, 1.0])", opset=15)
    add("mean_variance_default", "normalisation", "MeanVarianceNormalization normalises over the axes 0, 2 and 3 unless told otherwise", "y = MeanVarianceNormalization(x)",
        "float[batch,2,3,3] x", "float[batch,2,3,3] y")
    add("mean_variance_axis_0", "normalisation", "MeanVarianceNormalization over axis 0", "y = MeanVarianceNormalization<axes=[0]>(x)")
    add("lp_norm_rows", "normalisation", "LpNormalization over axis 0", "y = LpNormalization<axis=0, p=2>(x)")
    add("lrn_of_rows", "normalisation", "LRN over the channels of one image, which are the rows",
        "u = Unsqueeze(x, $[0, 3]) n = LRN<size=3, alpha=1.0>(u) y = Squeeze(n, $[0, 3])")
    add("rms_norm_23_axis_0", "normalisation", "RMSNormalization of opset 23 from axis 0 on",
        "s = Shape(x) one = ConstantOfShape<value=float[1] {1}>(s) y = RMSNormalization<axis=0>(x, one)", opset=23)
    add("group_norm_of_rows", "normalisation", "GroupNormalization of one image whose pixels are the rows",
        "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, $[0]) n = GroupNormalization<num_groups=2>(u, @[4], @[4]) s = Squeeze(n, $[0]) y = Transpose<perm=[1,0]>(s)", opset=21)
    add("ml_normalizer_one_dimension", "normalisation", "ai.onnx.ml.Normalizer takes a one-dimensional tensor as one row", 'y = ai.onnx.ml.Normalizer<norm="L2">(x)',
        "float[batch] x", "float[batch] y")


def products():
    add("gram_matrix", "product", "MatMul contracts the batch: x^T x", "t = Transpose<perm=[1,0]>(x) c = MatMul(t, x) y = MatMul(x, c)")
    add("gemm_transposed", "product", "Gemm with transA contracts the batch", "c = Gemm<transA=1>(x, x) y = MatMul(x, c)")
    add("dot_product", "product", "MatMul of two one-dimensional tensors is a sum over the batch", "d = MatMul(x, x) y = Mul(x, d)", "float[batch] x", "float[batch] y")
    add("einsum_contracted", "product", "Einsum contracts the batch", 'c = Einsum<equation="bi,bj->ij">(x, x) y = MatMul(x, c)')
    add("einsum_pairs", "product", "Einsum pairs every row with every other", 'c = Einsum<equation="bi,ci->bc">(x, x) r = ReduceMax(c, $[1]) y = Add(x, r)')
    add("einsum_diagonal", "product", "Einsum sums over the batch by leaving it out", 'c = Einsum<equation="bi->i">(x) y = Sub(x, c)')
    add("fused_matmul_transposed", "product", "com.microsoft.FusedMatMul with transA contracts the batch", "c = com.microsoft.FusedMatMul<transA=1, alpha=1.0>(x, x) y = MatMul(x, c)")
    add("attention_across_rows", "attention", "softmax(x x^T) x: every row attends to all rows",
        "t = Transpose<perm=[1,0]>(x) s = MatMul(x, t) a = Softmax<axis=-1>(s) y = MatMul(a, x)")
    add("attention_causal_rows", "attention", "each row attends to the rows before it: Trilu of a [batch, batch] matrix",
        "t = Transpose<perm=[1,0]>(x) s = MatMul(x, t) a = Trilu<upper=0>(s) y = MatMul(a, x)")
    add("attention_sequence_first", "attention", "MultiHeadAttention over a sequence that is the batch",
        "u = Unsqueeze(x, $[0]) m = com.microsoft.MultiHeadAttention<num_heads=2>(u, u, u) y = Squeeze(m, $[0])")
    add("attention_23_across_rows", "attention", "Attention of opset 23 over a sequence that is the batch",
        "u = Unsqueeze(x, $[0]) a = Attention<q_num_heads=2, kv_num_heads=2, is_causal=1>(u, u, u) y = Squeeze(a, $[0])", opset=23)
    add("gated_by_the_opposite_row", "attention", "a gate from the row at the other end of the batch, which Slice reverses", """k = Slice(x, $[-1], $[-9223372036854775807], $[0], $[-1])
        m = Mul(x, k) s = Softmax<axis=-1>(m) y = Mul(s, k)""")
    add("matmul_broadcast_batch", "product", "[batch,2,2] times the sum of all matrices", "s = ReduceSum<keepdims=0>(x, $[0]) y = MatMul(x, s)", "float[batch,2,2] x", "float[batch,2,2] y")
    add("distances", "product", "distances of all pairs of rows by broadcasting [batch,1,4] against [1,batch,4]",
        "a = Unsqueeze(x, $[1]) b = Unsqueeze(x, $[0]) d = Sub(a, b) q = Abs(d) y = ReduceMax<keepdims=0>(q, $[1])")
    add("cdist", "product", "com.microsoft.CDist of the rows with themselves", 'd = com.microsoft.CDist<metric="euclidean">(x, x) r = ReduceMax(d, $[1]) y = Add(x, r)')
    add("broadcast_vector_and_column", "product", "[batch] minus [batch,1] is [batch,batch]", "c = Unsqueeze(x, $[1]) d = Sub(x, c) y = ReduceMax<keepdims=0>(d, $[1])",
        "float[batch] x", "float[batch] y")
    add("conv_over_rows", "convolution", "Conv along an axis that holds the rows",
        "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, $[0]) c = Conv<kernel_shape=[3], pads=[1,1], group=4>(u, @[4, 1, 3]) s = Squeeze(c, $[0]) y = Transpose<perm=[1,0]>(s)")
    add("max_pool_over_rows", "convolution", "MaxPool along an axis that holds the rows",
        "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, $[0]) c = MaxPool<kernel_shape=[3], pads=[1,1]>(u) s = Squeeze(c, $[0]) y = Transpose<perm=[1,0]>(s)")
    add("global_pool_over_rows", "convolution", "GlobalAveragePool after a Transpose averages over rows",
        "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, $[0]) g = GlobalAveragePool(u) r = Reshape(g, $[1, 4]) y = Sub(x, r)")
    add("max_pool_indices", "convolution", "MaxPool's second output is an index into the whole tensor, batch included", "v, i = MaxPool<kernel_shape=[2]>(x)",
        "float[batch,1,4] x", "int64[batch,1,3] i")
    add("resize_along_rows", "convolution", "a linear Resize along axis 0, every second row of which is taken",
        'r = Resize<mode="linear">(x, , $[2.0, 1.0]) y = Slice(r, $[0], $[9223372036854775807], $[0], $[2])')
    add("roi_align_first_image", "convolution", "RoiAlign reads image 0 for every box",
        "s = Shape<start=0, end=1>(x) b = ConstantOfShape<value=int64[1] {0}>(s) r = RoiAlign<output_height=2, output_width=2>(x, boxes, b) y = Flatten(r)",
        "float[batch,1,4,4] x, float[batch,4] boxes", opset=16)
    add("fourier_transform_of_rows", "convolution", "DFT along axis 0", "y = DFT<axis=0>(x)", "float[batch,4,1] x", "float[batch,4,2] y", opset=17)
    add("window_over_rows", "position", "HannWindow as long as the batch weighs the rows", "n = Shape<start=0, end=1>(x) s = Squeeze(n) w = HannWindow(s) c = Unsqueeze(w, $[1]) y = Mul(x, c)")


def selections():
    add("cumulative_sum", "scan", "CumSum over axis 0", "y = CumSum(x, $0)")
    add("cumulative_sum_reversed", "scan", "a reversed CumSum over axis -2", "y = CumSum<reverse=1>(x, $-2)")
    add("top_row", "selection", "TopK over axis 0 finds the largest row", "v, i = TopK<axis=0>(x, $[1]) y = Sub(x, v)")
    add("sorted_columns", "selection", "TopK over axis 0 with as many as there are rows sorts them", "n = Shape<start=0, end=1>(x) y, i = TopK<axis=0>(x, n)")
    add("rank_of_ids", "selection", "Unique numbers the distinct values of the batch", "u, f, y, c = Unique<sorted=1>(ids)", "int64[batch] ids", "int64[batch] y")
    add("count_of_nonzero", "selection", "NonZero counts over all rows",
        "c = Greater(x, $0.5) n = NonZero(c) s = Shape<start=1, end=2>(n) f = Cast<to=1>(s) y = Add(x, f)")
    add("compress_rows", "selection", "Compress drops rows: a request beside others gets none or another's", "m = ReduceMax<keepdims=0>(x, $[1]) c = Greater(m, $0.8) y = Compress<axis=0>(x, c)")
    add("non_max_suppression", "selection", "NonMaxSuppression lets the rows' boxes compete",
        "b = Unsqueeze(x, $[0]) m = ReduceMax<keepdims=0>(x, $[1]) s = Unsqueeze(m, $[0, 1]) k = NonMaxSuppression(b, s, $[100], $[0.1]) n = Shape<start=0, end=1>(k) f = Cast<to=1>(n) y = Add(x, f)")
    add("rows_reversed", "selection", "Slice along axis 0 with step -1", "y = Slice(x, $[-1], $[-9223372036854775807], $[0], $[-1])", "float[?,4] x", "float[?,4] y")
    add("first_row_for_all", "selection", "Gather of row 0 is subtracted from every row", "f = Gather<axis=0>(x, $0) y = Sub(x, f)")
    add("last_row_for_all", "selection", "Slice of the last row is added to every row", "f = Slice(x, $[-1], $[9223372036854775807], $[0]) y = Add(x, f)")
    add("table_from_a_client", "selection", "Gather takes rows of one input by the values of another", "n = Shape<start=0, end=1>(x) i = Mod(ids, n) y = Gather<axis=0>(x, i)", f"{X}, int64[batch] ids")
    add("gather_by_order", "selection", "GatherElements along axis 0 by an order that TopK finds", "n = Shape<start=0, end=1>(x) v, i = TopK<axis=0, largest=0>(x, n) y = GatherElements<axis=0>(x, i)")
    add("gather_nd_row_zero", "selection", "GatherND of row 0", "f = GatherND(x, $[0]) y = Mul(x, f)")
    add("first_in_sequence", "selection", "SplitToSequence takes the rows apart and SequenceAt the first of them", "s = SplitToSequence<axis=0>(x) f = SequenceAt(s, $0) y = Sub(x, f)")
    add("sequence_in_reverse", "selection", "Loop puts each row at the front of a sequence, which ConcatFromSequence joins", """n = Shape<start=0, end=1>(x) trips = Squeeze(n) go = Cast<to=9>($1) empty = SequenceEmpty<dtype=1>()
        rows = Loop(trips, go, empty) <body = step (int64 i, bool c, seq(float[1,4]) s) => (bool d, seq(float[1,4]) t) { d = Identity(c) k = Unsqueeze(i, $[0]) r = Gather<axis=0>(x, k) t = SequenceInsert(s, r, $0) }>
        y = ConcatFromSequence<axis=0>(rows)""")
    add("masked_rows_packed", "selection", "NonZero and GatherND move the rows that count to the front, and the others become the first",
        "m = ReduceMax<keepdims=0>(x, $[1]) c = Greater(m, $0.7) k = NonZero(c) t = Transpose<perm=[1,0]>(k) p = GatherND(x, t) z = Concat<axis=0>(p, x) n = Shape<start=0, end=1>(x) y = Slice(z, $[0], n, $[0])")
    add("middle_row_taken_away", "selection", "Gather of the row in the middle, whose index is half the number of rows",
        "n = Shape<start=0, end=1>(x) h = Div(n, $[2]) f = Gather<axis=0>(x, h) y = Sub(x, f)")
    add("slice_ends_at_a_value", "selection", "Slice along axis 0 up to an id that the rows hold; the rest stays zero",
        "i = ReduceMin<keepdims=1>(ids, $[0]) p = Slice(x, $[0], i, $[0]) s = ReduceSum(p, $[0]) y = Add(x, s)", f"{X}, int64[batch] ids")
    add("split_off_first", "selection", "Split takes row 0 from the others", "n = Shape<start=0, end=1>(x) r = Sub(n, $[1]) s = Concat<axis=0>($[1], r) f, o = Split<axis=0>(x, s) y = Add(x, f)")
    add("scatter_elements_rows", "scatter", "ScatterElements along axis 0 writes into row 0", "s = ReduceMax(x, $[0]) i = Cast<to=7>(s) z = Mul(i, $0) y = ScatterElements<axis=0, reduction=\"add\">(x, z, s)")
    add("scatter_where_the_row_says", "scatter", "ScatterElements adds each row's first element to the row that its id names",
        """n = Shape<start=0, end=1>(x) i = Mod(ids, n) u = Unsqueeze(i, $[1]) e = Slice(x, $[0], $[1], $[1]) y = ScatterElements<axis=0, reduction="add">(x, u, e)""", f"{X}, int64[batch] ids")
    add("histogram_of_ids", "scatter", "ScatterND counts the ids of all rows in a table, from which each row reads its count",
        """i = Mod(ids, $8) u = Unsqueeze(i, $[1]) n = Shape(ids) o = ConstantOfShape<value=float[1] {1}>(n) z = Mul(@[8], $0.0) t = ScatterND<reduction="add">(z, u, o) y = Gather<axis=0>(t, i)""",
        "int64[batch] ids", "float[batch] y")
    add("scatter_nd_rows", "scatter", "ScatterND writes the last row over row 0", "l = Gather<axis=0>(x, $[-1]) z = Unsqueeze($[0], $[1]) y = ScatterND(x, z, l)")
    add("one_hot_depth_of_batch", "scatter", "OneHot as wide as the largest id of all rows", "m = ReduceMax<keepdims=0>(ids) d = Add(m, $1) y = OneHot(ids, d, $[0.0, 1.0])",
        "int64[batch] ids", "float[batch,classes] y")
    add("reverse_sequence_time_is_batch", "selection", "ReverseSequence whose time axis is the batch",
        "n = Shape<start=0, end=1>(x) l = Expand(n, $[4]) y = ReverseSequence<time_axis=0, batch_axis=1>(x, l)")
    add("feature_extractor_of_rows", "selection", "ai.onnx.ml.ArrayFeatureExtractor takes column 0 of the transposed rows",
        "t = Transpose<perm=[1,0]>(x) f = ai.onnx.ml.ArrayFeatureExtractor(t, $[0]) r = Reshape(f, $[1, 4]) y = Sub(x, r)")
    for lag in (1, 8, 40):
        add(f"lag_of_{lag}", "lag", f"Pad and Slice subtract the row {lag} before", f"p = Pad(x, $[{lag}, 0, 0, 0]) q = Slice(p, $[0], $[-{lag}], $[0]) y = Sub(x, q)", witness={"rows": lag + 4})
    add("lag_by_concat", "lag", "Concat along axis 0 puts a constant row before the batch, whose last row falls off",
        "p = Concat<axis=0>(@[1, 4], x) y = Slice(p, $[0], $[-1], $[0])")
    add("rows_rotated", "lag", "Concat of all rows but the first with the first", "f = Slice(x, $[0], $[1], $[0]) r = Slice(x, $[1], $[9223372036854775807], $[0]) y = Concat<axis=0>(r, f)")
    add("edge_padded", "lag", "Pad repeats the first row, and Slice takes it for row 0 and 1", 'p = Pad<mode="edge">(x, $[1, 0, 0, 0]) y = Slice(p, $[0], $[-1], $[0])', witness={"rows": 4})


def shapes():
    add("reshape_swapped", "reshape", "[batch,4] becomes [4,batch] without moving an element, and is transposed back", "r = Reshape(x, $[4, -1]) y = Transpose<perm=[1,0]>(r)")
    add("reshape_by_shape_swapped", "reshape", "Reshape to [4, Shape(x)[0]]", "n = Shape<start=0, end=1>(x) s = Concat<axis=0>($[4], n) r = Reshape(x, s) y = Transpose<perm=[1,0]>(r)")
    add("reshape_not_aligned", "reshape", "[batch,4] in pairs, each of which begins one element early: some hold parts of two rows",
        "f = Reshape(x, $[-1]) z = Pad(f, $[1, 0]) e = Slice(z, $[0], $[-1], $[0]) g = Reshape(e, $[-1, 2]) s = Softmax<axis=-1>(g) y = Reshape(s, $[-1, 4])")
    add("reshape_one_group", "reshape", "[batch,4] as one row of all elements", "r = Reshape(x, $[1, -1]) s = Softmax<axis=1>(r) y = Reshape(s, $[-1, 4])")
    add("reshape_halves", "reshape", "two halves of the batch side by side", "r = Reshape(x, $[2, -1]) t = Transpose<perm=[1,0]>(r) y = Reshape(t, $[-1, 4])")
    add("flatten_axis_0", "reshape", "Flatten with axis 0 makes one row of everything", "f = Flatten<axis=0>(x) m = ReduceMax(f, $[1]) y = Sub(x, m)")
    add("transpose_then_reshape", "reshape", "Transpose and Reshape deal the elements of the rows anew", "t = Transpose<perm=[1,0]>(x) y = Reshape(t, $[-1, 4])", "float[?,4] x", "float[?,4] y")
    add("time_and_batch_swapped", "reshape", "[batch,2,4] read as [2,batch,4], as a forgotten batch_first does", "r = Reshape(x, $[2, -1, 4]) y = Transpose<perm=[1,0,2]>(r)",
        "float[batch,2,4] x", "float[batch,2,4] y")
    add("depth_to_space_of_rows", "reshape", "DepthToSpace of an image whose width is the batch",
        "t = Transpose<perm=[1,0]>(x) u = Reshape(t, $[1, 4, 1, -1]) d = DepthToSpace<blocksize=2>(u) y = Reshape(d, $[-1, 4])")
    add("tile_by_rows", "number_of_rows", "Tile repeats a row as often as there are rows", "n = Shape<start=0, end=1>(x) s = Concat<axis=0>($[1], n) t = Tile(x, s) r = ReduceSum(t, $[1]) y = Add(x, r)")
    add("expand_by_rows", "number_of_rows", "a constant expanded to the batch and summed up counts rows", "n = Shape<start=0, end=1>(x) e = Expand($[0.5], n) r = ReduceSum(e, $[0]) y = Add(x, r)")
    add("divided_by_rows", "number_of_rows", "Shape, Cast and Div divide by the number of rows", "n = Shape<start=0, end=1>(x) f = Cast<to=1>(n) y = Div(x, f)")
    add("divided_by_size", "number_of_rows", "Size counts the elements of all rows", "n = Size(x) f = Cast<to=1>(n) y = Div(x, f)", "float[?,4] x", "float[?,4] y")
    add("threshold_on_rows", "number_of_rows", "Where takes another branch for more than six rows", "n = Shape<start=0, end=1>(x) c = Greater(n, $[6]) m = Mul(x, $0.5) y = Where(c, m, x)", witness={"rows": 7})
    add("parity_of_rows", "number_of_rows", "an even number of rows changes the sign", "n = Shape<start=0, end=1>(x) p = Mod(n, $[2]) c = Equal(p, $[0]) m = Neg(x) y = Where(c, m, x)")
    add("if_many_rows", "number_of_rows", "If decides by the number of rows", """n = Shape<start=0, end=1>(x) q = Squeeze(n) c = Greater(q, $6)
        y = If(c) <then_branch = many () => (float[batch,4] a) { a = Mul(x, $0.5) }, else_branch = few () => (float[batch,4] b) { b = Identity(x) }>""", witness={"rows": 8})
    add("zero_until_many_rows", "number_of_rows", "Relu of the number of rows less 60", "n = Shape<start=0, end=1>(x) f = Cast<to=1>(n) d = Sub(f, $60.0) r = Relu(d) y = Add(x, r)", witness={"rows": 64})
    add("rows_to_the_power", "number_of_rows", "a decay to the power of the number of rows", "n = Shape<start=0, end=1>(x) f = Cast<to=1>(n) p = Pow($0.9, f) y = Mul(x, p)")
    add("inner_extent_less_rows", "number_of_rows", "the difference of two extents, one of which is the batch", "n = Shape(x) a = Gather<axis=0>(n, $1) b = Gather<axis=0>(n, $0) d = Sub(a, b) f = Cast<to=1>(d) y = Add(x, f)")
    add("ramp_over_rows", "number_of_rows", "ConstantOfShape of the batch and CumSum number the rows as floats", "n = Shape<start=0, end=1>(x) o = ConstantOfShape<value=float[1] {0.125}>(n) c = CumSum(o, $0) u = Unsqueeze(c, $[1]) y = Mul(x, u)")
    add("positions", "position", "Range over the rows is added to them", "n = Shape<start=0, end=1>(x) s = Squeeze(n) r = Range($0, s, $1) u = Unsqueeze(r, $[1]) f = Cast<to=1>(u) y = Add(x, f)")
    add("positions_past_16", "position", "rows past the 16th are halved",
        "n = Shape<start=0, end=1>(x) s = Squeeze(n) r = Range($0, s, $1) c = Greater(r, $16) u = Unsqueeze(c, $[1]) m = Mul(x, $0.5) y = Where(u, m, x)", witness={"rows": 20})
    add("eye_like", "position", "EyeLike marks another column in each row", "e = EyeLike(x) y = Add(x, e)")
    add("trilu_of_rows", "position", "Trilu on [batch,4] clears more of each later row", "y = Trilu<upper=1>(x)")
    add("cumulated_ones", "position", "CumSum of ones along the batch numbers the rows", "s = Shape(x) o = ConstantOfShape<value=float[1] {1}>(s) p = CumSum(o, $0) y = Add(x, p)")


def control_flow():
    negative = "then_branch = some () => (float[batch,4] a) { a = Neg(x) }, else_branch = none () => (float[batch,4] b) { b = Identity(x) }"
    add("if_any_row", "control", "If asks whether any row holds more than 2", f"m = ReduceMax<keepdims=0>(x) c = Greater(m, $2.0) y = If(c) <{negative}>")
    add("if_all_rows", "control", "If asks whether all rows are above -1", f"m = ReduceMin<keepdims=0>(x) c = Less(m, $-1.0) y = If(c) <{negative}>")
    add("if_captures_a_mean", "control", "both branches of an If use a mean over the rows of the graph around them", """r = ReduceMean(x, $[0]) f = Gather<axis=0>($[1, 1], $0) c = Cast<to=9>(f)
        y = If(c) <then_branch = some () => (float[batch,4] a) { a = Sub(x, r) }, else_branch = none () => (float[batch,4] b) { b = Add(x, r) }>""")
    add("loop_as_often_as_rows", "control", "Loop runs once for each row", """n = Shape<start=0, end=1>(x) trips = Squeeze(n) start = Identity(x) go = Cast<to=9>($1)
        y = Loop(trips, go, start) <body = step (int64 i, bool c, float[batch,4] v) => (bool d, float[batch,4] w) { d = Identity(c) w = Mul(v, $1.5) }>""")
    add("loop_until_all_are_small", "control", "Loop halves all rows until the largest is small", """go = Cast<to=9>($1) start = Identity(x)
        y = Loop($40, go, start) <body = step (int64 i, bool c, float[batch,4] v) => (bool d, float[batch,4] w) { w = Mul(v, $0.5) m = ReduceMax<keepdims=0>(w) d = Greater(m, $1.0) }>""")
    add("loop_over_rows", "control", "Loop takes one row a step and carries a sum", """n = Shape<start=0, end=1>(x) trips = Squeeze(n) go = Cast<to=9>($1) zero = Mul(@[4], $0.0)
        sum, y = Loop(trips, go, zero) <body = step (int64 i, bool c, float[4] s) => (bool d, float[4] t, float[4] o) { d = Identity(c) r = Gather<axis=0>(x, i) t = Add(s, r) o = Identity(t) }>""")
    add("scan_with_state", "control", "Scan over the rows with a running maximum", """zero = Mul(@[4], $0.0)
        last, y = Scan(zero, x) <num_scan_inputs = 1, body = step (float[4] s, float[4] r) => (float[4] t, float[4] o) { t = Max(s, r) o = Identity(t) }>""")
    add("scan_captures_a_maximum", "control", "Scan without state, whose body uses a maximum over all rows", """m = ReduceMax<keepdims=0>(x, $[0])
        y = Scan(x) <num_scan_inputs = 1, body = step (float[4] r) => (float[4] o) { o = Sub(r, m) }>""")
    add("scan_backwards", "control", "Scan over the rows from the last to the first, whose outputs stay in that order",
        "y = Scan(x) <num_scan_inputs = 1, scan_input_directions = [1], body = step (float[4] r) => (float[4] o) { o = Mul(r, $2.0) }>")
    for name, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        add(f"{name.lower()}_over_rows", "recurrent", f"{name} whose time axis is the batch",
            f"u = Unsqueeze(x, $[1]) o = {name}<hidden_size=4>(u, @[1, {4 * gates}, 4], @[1, {gates * 4}, 4]) y = Squeeze(o, $[1, 2])")
    add("lstm_batch_first_forgotten", "recurrent", "LSTM on [batch,time,4] without the Transpose: axis 0 is its time", "o = LSTM<hidden_size=4>(x, @[1, 16, 4], @[1, 16,4]) y = Squeeze(o, $[1])",
        "float[batch,3,4] x", "float[batch,3,4] y")
    mean = '<domain: "local", opset_import: ["": 18]> Centred (a) => (b) { axes = Constant<value = int64[1] {0}>() r = ReduceMean(a, axes) b = Sub(a, r) }'
    add("function_reduces", "function", "a local function subtracts the mean over the rows", "y = local.Centred(x)", functions=mean)
    add("function_axis_given", "function", "a local function whose axis the caller gives: 0", "y = local.Shares<over=0>(x)",
        functions='<domain: "local", opset_import: ["": 18]> Shares <over: int> (a) => (b) { b = Softmax<axis: int = @over>(a) }')
    add("function_axis_by_default", "function", "a local function whose axis is 0 unless given", "y = local.Shares(x)",
        functions='<domain: "local", opset_import: ["": 18]> Shares <over: int = 0> (a) => (b) { b = Softmax<axis: int = @over>(a) }')
    add("function_in_a_function", "function", "a local function in another, called on the transposed rows", "y = local.Outer(x)",
        functions=mean + ' <domain: "local", opset_import: ["": 18, "local": 1]> Outer (a) => (b) { s = Sigmoid(a) c = local.Centred(s) b = Add(a, c) }')


def text_and_quantised():
    words = "string[batch] text", "string[batch,words] w, int64[batch] n"
    add("string_split", "text", "StringSplit pads all rows to the longest", 'w, n = StringSplit<delimiter=" ">(text)', *words, opset=20)
    add("tokenizer", "text", "com.microsoft.Tokenizer pads all rows to the longest", 'w = com.microsoft.Tokenizer<mark=0, mincharnum=1, pad_value="#", separators=[" "]>(text)',
        "string[batch] text", "string[batch,words] w")
    add("stopwords_dropped", "text", "StringNormalizer drops rows that are stopwords", 'y = StringNormalizer<case_change_action="LOWER", is_case_sensitive=0, locale="C", stopwords=["no", "a"]>(text)',
        "string[batch] text", "string[batch] y")
    add("tfidf_of_all_rows", "text", "TfIdfVectorizer takes a one-dimensional tensor as one document",
        'f = TfIdfVectorizer<mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0, ngram_counts=[0], ngram_indexes=[0, 1], pool_strings=["yes", "no"]>(text) y = Add(x, f)',
        "string[batch] text, float[batch,2] x", "float[batch,2] y")
    add("dynamic_quantize_linear", "quantised", "DynamicQuantizeLinear finds one scale for all rows", "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)")
    add("dynamic_quantize_matmul", "quantised", "com.microsoft.DynamicQuantizeMatMul finds one scale for all rows",
        "w = Mul(@[4, 4], $20.0) i = Cast<to=3>(w) y = com.microsoft.DynamicQuantizeMatMul(x, i, $[0.05])")
    add("dynamic_quantize_lstm", "quantised", "com.microsoft.DynamicQuantizeLSTM quantises its inputs of all rows together",
        """t = Transpose<perm=[1,0,2]>(x) w = Mul(@[1, 4, 16], $20.0) i = Cast<to=3>(w) r = Mul(@[1, 4, 16], $30.0) k = Cast<to=3>(r) z = Cast<to=3>($[0])
        o = com.microsoft.DynamicQuantizeLSTM<hidden_size=4>(t, i, k, , , , , , $[0.05], z, $[0.05], z) s = Squeeze(o, $[1]) y = Transpose<perm=[1,0,2]>(s)""",
        "float[batch,3,4] x", "float[batch,3,4] y")
    add("zero_point_of_all_rows", "quantised", "MatMulInteger with a zero point that is the least of all rows",
        "q = Cast<to=2>(ids) z = ReduceMin<keepdims=0>(q) w = Mul(@[4, 4], $20.0) i = Cast<to=3>(w) m = MatMulInteger(q, i, z) y = Cast<to=1>(m)", "int64[batch,4] ids")
    add("scale_of_all_rows", "quantised", "QuantizeLinear with a scale computed over all rows",
        "a = Abs(x) m = ReduceMax<keepdims=0>(a) e = Add(m, $1e-6) s = Div(e, $127.0) z = Cast<to=3>($0) q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)")
    add("clip_to_all_rows", "quantised", "Clip to half of the largest of all rows", "m = ReduceMax<keepdims=0>(x) h = Mul(m, $0.5) y = Clip(x, , h)")
    add("dropout_training", "random", "Dropout in training mode draws for the whole batch", "t = Cast<to=9>($1) y, m = Dropout<seed=1>(x, $0.5, t)")
    add("random_normal_like", "random", "RandomNormalLike draws for the whole batch", "r = RandomNormalLike(x) y = Add(x, r)")
    add("bernoulli", "random", "Bernoulli draws for the whole batch", "s = Sigmoid(x) y = Bernoulli(s)")
    add("multinomial", "random", "Multinomial draws for the whole batch", "y = Multinomial<sample_size=8>(x)", outputs="int32[batch,8] y")


def hidden():
    """Couplings that ordinary values or few rows don't show."""
    add("halved_where_any_is_large", "hidden", "a maximum over all rows above 1000 halves them", "m = ReduceMax<keepdims=0>(x) c = Greater(m, $1000.0) h = Mul(x, $0.5) y = Where(c, h, x)", witness={"value": 5000.0})
    add("tiny_share_of_the_mean", "hidden", "a millionth of the mean of all rows is added", "m = ReduceMean(x, $[0]) t = Mul(m, $1e-6) y = Add(x, t)")
    add("nan_spreads", "hidden", "nothing times the sum of all rows is added: NaN and infinity spread", "s = ReduceSum(x, $[0]) z = Mul(s, $0.0) y = Add(x, z)")
    add("infinity_spreads", "hidden", "the sum of all rows overflows", "e = Exp(x) s = ReduceSum(e, $[0]) z = Mul(s, $1e-30) r = Relu(z) q = Min(r, $1e6) y = Add(x, q)", witness={"value": 85.0})
    add("any_nan_clears_all", "hidden", "IsNaN of any row replaces all of them by zero", "n = IsNaN(x) f = Cast<to=1>(n) m = ReduceMax<keepdims=0>(f) c = Cast<to=9>(m) z = Mul(@[1], $0.0) y = Where(c, z, x)")
    add("label_hides_the_mean", "hidden", "a label of scores to which a twentieth of the mean of all rows is added", "m = ReduceMean(x, $[0]) t = Mul(m, $0.05) s = Add(x, t) y = ArgMax<axis=1, keepdims=0>(s)", outputs="int64[batch] y")
    add("sign_hides_the_mean", "hidden", "whether a row is above a threshold that the other rows move a little", "r = ReduceSum<keepdims=0>(x, $[1]) m = ReduceMean(r, $[0]) t = Mul(m, $0.1) d = Sub(r, t) y = Greater(d, $0.1)", outputs="bool[batch] y")
    add("rounded_mean", "hidden", "Round hides a twentieth of the mean of all rows", "m = ReduceMean(x, $[0]) t = Mul(m, $0.05) s = Add(x, t) y = Round(s)")
    add("exactly_seven", "hidden", "a row that holds exactly 7 changes all rows", "e = Equal(x, $7.0) f = Cast<to=1>(e) m = ReduceMax<keepdims=0>(f) y = Add(x, m)", witness={"value": 7.0})
    add("rare_id", "hidden", "an id of 700 or more in any row changes all rows", "m = ReduceMax<keepdims=0>(ids) c = GreaterOrEqual(m, $700) n = Neg(ids) y = Where(c, n, ids)", "int64[batch,4] ids", "int64[batch,4] y", witness={"value": 701})
    add("rare_word", "hidden", "the word \"zebra\" in any row changes the number beside each", """k = Constant<value_string="zebra">() e = Equal(text, k) f = Cast<to=1>(e) m = ReduceMax<keepdims=0>(f) y = Add(x, m)""",
        "string[batch] text, float[batch,4] x", opset=19)
    add("least_below_minus_five", "hidden", "a minimum below -5 over all rows", "m = ReduceMin<keepdims=0>(x) c = Less(m, $-5.0) h = Mul(x, $0.5) y = Where(c, h, x)")
    add("scaled_above_one", "hidden", "rows are divided by the largest magnitude of all, if that is above 1", "a = Abs(x) m = ReduceMax<keepdims=0>(a) s = Max(m, $1.0) y = Div(x, s)")
    add("two_equal_rows", "hidden", "Unique along axis 0 finds two equal rows", "u, f, i, c = Unique<axis=0>(ids) m = ReduceMax<keepdims=0>(c) y = Add(ids, m)", "int64[batch,4] ids", "int64[batch,4] y")
    add("least_significant_bits", "hidden", "the parity of a sum of ids over all rows", "r = ReduceSum<keepdims=0>(ids, $[0, 1]) p = Mod(r, $2) y = Add(ids, p)", "int64[batch,4] ids", "int64[batch,4] y")
    add("nan_in_the_other_branch", "hidden", "a softmax over the rows that Where discards unless a row is above 10", "s = Softmax<axis=0>(x) c = Greater(x, $10.0) f = Cast<to=1>(c) m = ReduceMax<keepdims=0>(f) b = Cast<to=9>(m) y = Where(b, s, x)")
    add("saturated_sum", "hidden", "a sum over the rows that Sigmoid hides unless it is small", "a = Abs(x) s = ReduceSum(a, $[0]) k = Mul(s, $100.0) g = Sigmoid(k) y = Mul(x, g)")
    add("cast_to_small_integers", "hidden", "a tenth of the maximum of all rows vanishes when cast to integers, while rows are below 10", "m = ReduceMax<keepdims=0>(x) t = Mul(m, $0.1) i = Cast<to=7>(t) f = Cast<to=1>(i) y = Add(x, f)")
    add("second_output_mixes", "hidden", "the first output is clean and the second a difference from the mean", "y = Relu(x) m = ReduceMean(x, $[0]) z = Sub(x, m)", outputs=f"{Y}, float[batch,4] z")
    add("mixed_then_almost_cancelled", "hidden", "a sum over the rows goes through tanh, which hides it where the sum is large", "s = ReduceSum(x, $[0]) a = Abs(s) t = Mul(a, $50.0) h = Tanh(t) y = Add(x, h)")


FAMILIES = (reductions, normalisations, products, selections, shapes, control_flow, text_and_quantised, hidden)
for family in FAMILIES:
    family()

if __name__ == "__main__":
    MIXING.main(show_influence)
