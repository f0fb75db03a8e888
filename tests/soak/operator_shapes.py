"""Inputs and attributes for operators that random ones hardly ever suit: (domain, name) to some pairs of attributes and inputs.

An input is a datatype and a shape, or a datatype, a shape and the value of all elements; `None` is one that is left out."""

F, I32, I64, U8, I8, F16 = "f4", "i4", "i8", "u1", "i1", "f2"
MS = "com.microsoft"

# Outputs of those that have more than one.
OUTPUTS = {"CausalConvWithState": 2, "EmbedLayerNormalization": 2, "LinearAttention": 2, "QEmbedLayerNormalization": 2, "SVMClassifier": 2, "SparseAttention": 3}

SHAPED = {
    ("", "Affine"): [({}, [(F, [2, 3])])],
    ("", "Crop"): [({"border": [0, 0, 0, 0], "scale": [2, 2]}, [(F, [1, 2, 4, 4])])],
    ("", "DynamicSlice"): [({}, [(F, [4, 4]), (I64, [1], 0), (I64, [1], 2)])],
    ("", "GlobalLpPool"): [({"p": 2}, [(F, [1, 2, 4, 4])])],
    ("", "ImageScaler"): [({"scale": 1.0, "bias": [0.5, 0.5]}, [(F, [1, 2, 4, 4])])],
    ("", "MaxRoiPool"): [({"pooled_shape": [2, 2], "spatial_scale": 1.0}, [(F, [1, 2, 4, 4]), (F, [2, 5], 0)])],
    ("", "Multinomial"): [({"sample_size": 3, "dtype": 7, "seed": 1.0}, [(F, [2, 4])])],
    ("", "ParametricSoftplus"): [({"alpha": 1.0, "beta": 1.0}, [(F, [2, 3])])],
    ("", "RandomNormalLike"): [({"dtype": 1, "seed": 1.0}, [(F, [2, 3])])],
    ("", "RandomUniformLike"): [({"dtype": 1, "seed": 1.0}, [(F, [2, 3])])],
    ("", "Scale"): [({"scale": 2.0}, [(F, [2, 3])])],
    ("", "ScaledTanh"): [({"alpha": 1.0, "beta": 1.0}, [(F, [2, 3])])],
    ("ai.onnx.ml", "SVMClassifier"): [
        (
            {"classlabels_ints": [0, 1], "coefficients": [1.0, -1.0], "kernel_type": "LINEAR", "rho": [0.5], "support_vectors": [1.0, 0.0, 0.0, 1.0], "vectors_per_class": [1, 1]},
            [(F, [2, 2])],
        )
    ],
    ("ai.onnx.ml", "SVMRegressor"): [
        ({"coefficients": [1.0, -1.0], "kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "n_supports": 2, "rho": [0.5], "support_vectors": [1.0, 0.0, 0.0, 1.0]}, [(F, [2, 2])])
    ],
    ("ai.onnx.ml", "TreeEnsembleRegressor"): [
        (
            {
                "n_targets": 1, "nodes_falsenodeids": [2, 0, 0], "nodes_featureids": [1, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_nodeids": [0, 1, 2],
                "nodes_treeids": [0, 0, 0], "nodes_truenodeids": [1, 0, 0], "nodes_values": [0.5, 0.0, 0.0], "target_ids": [0, 0], "target_nodeids": [1, 2],
                "target_treeids": [0, 0], "target_weights": [1.0, 2.0],
            },
            [(F, [2, 3])],
        )
    ],
    (MS, "Attention"): [
        ({"num_heads": 2}, [(F, [2, 3, 8]), (F, [8, 24]), (F, [24])]),
        ({"num_heads": 2}, [(F, [2, 3, 8]), (F, [8, 24]), (F, [24]), (I32, [2], 3)]),
        ({"num_heads": 2}, [(F, [2, 3, 8]), (F, [8, 24]), (F, [24]), (I32, [2, 3], 1)]),
    ],
    (MS, "AttnLSTM"): [({"hidden_size": 4}, [(F, [3, 2, 4]), (F, [1, 16, 8]), (F, [1, 16, 4]), (F, [1, 32]), None, None, None, None, (F, [1, 4, 4]), (F, [1, 4, 4]), (F, [1, 4]), (F, [2, 3, 4]), (I32, [2], 3), (F, [1, 8, 4])])],
    (MS, "CausalConvWithState"): [({}, [(F, [2, 4, 8]), (F, [4, 1, 3])]), ({}, [(F, [2, 4, 8]), (F, [4, 1, 3]), (F, [4]), (F, [2, 4, 2])])],
    (MS, "ConvTransposeWithDynamicPads"): [({}, [(F, [1, 2, 4, 4]), (F, [2, 3, 3, 3]), (I64, [4], 0)])],
    (MS, "CropAndResize"): [({}, [(F, [1, 2, 4, 4]), (F, [2, 4]), (I32, [2], 0), (I32, [2], 2)])],
    (MS, "DecoderMaskedMultiHeadAttention"): [({"num_heads": 2}, [(F, [2, 1, 8]), (F, [2, 1, 8]), (F, [2, 1, 8]), None, None, (F, [2, 2, 4, 4]), (F, [2, 2, 4, 4]), (I32, [1], 2)])],
    (MS, "DynamicQuantizeLSTM"): [({"hidden_size": 3}, [(F, [2, 2, 4]), (U8, [1, 4, 12], 1), (U8, [1, 3, 12], 1), None, None, None, None, None, (F, [1], 0.1), (U8, [1], 0), (F, [1], 0.1), (U8, [1], 0)])],
    (MS, "DynamicQuantizeMatMul"): [({}, [(F, [2, 4]), (I8, [4, 3], 1), (F, [1], 0.1)])],
    (MS, "EmbedLayerNormalization"): [({}, [(I32, [2, 3], 1), None, (F, [10, 8]), (F, [4, 8]), None, (F, [8]), (F, [8])]), ({}, [(I32, [2, 3], 1), (I32, [2, 3], 0), (F, [10, 8]), (F, [4, 8]), (F, [2, 8]), (F, [8]), (F, [8]), (I32, [2, 3], 1)])],
    (MS, "FusedConv"): [({"activation": "Relu"}, [(F, [1, 2, 5, 5]), (F, [3, 2, 3, 3])])],
    (MS, "GridSample"): [({}, [(F, [1, 2, 4, 4]), (F, [1, 3, 3, 2])])],
    (MS, "GroupQueryAttention"): [({"num_heads": 2, "kv_num_heads": 1}, [(F, [1, 3, 16]), (F, [1, 3, 8]), (F, [1, 3, 8]), (F, [1, 1, 4, 8]), (F, [1, 1, 4, 8]), (I32, [1], 2), (I32, [], 3)])],
    (MS, "LinearAttention"): [({"q_num_heads": 2, "kv_num_heads": 2}, [(F, [1, 3, 8]), (F, [1, 3, 8]), (F, [1, 3, 8])])],
    (MS, "MatMulBnb4"): [({"K": 16, "N": 4, "block_size": 16, "quant_type": 1}, [(F, [2, 16]), (U8, [32], 1), (F, [4])])],
    (MS, "MatMulIntegerToFloat"): [({}, [(U8, [2, 4], 1), (I8, [4, 3], 1), (F, [], 0.1), (F, [], 0.1)])],
    (MS, "MatMulNBits"): [({"K": 16, "N": 4, "block_size": 16, "bits": 4}, [(F, [2, 16]), (U8, [4, 1, 8], 1), (F, [4])])],
    (MS, "MoE"): [({"k": 1, "activation_type": "relu"}, [(F, [3, 4]), (F, [3, 2]), (F, [2, 8, 4]), (F, [2, 8]), (F, [2, 4, 8]), (F, [2, 4])])],
    (MS, "MultiHeadAttention"): [
        ({"num_heads": 2}, [(F, [2, 3, 8]), (F, [2, 4, 8]), (F, [2, 4, 8])]),
        ({"num_heads": 2}, [(F, [2, 3, 8]), (F, [2, 4, 8]), (F, [2, 4, 8]), (F, [24]), (I32, [2], 2)]),
        ({"num_heads": 2}, [(F, [2, 1, 8]), (F, [2, 1, 8]), (F, [2, 1, 8]), None, None, None, (F, [2, 2, 3, 4]), (F, [2, 2, 3, 4])]),
    ],
    (MS, "QAttention"): [({"num_heads": 2}, [(U8, [2, 3, 8], 1), (U8, [8, 24], 1), (F, [24]), (F, [], 0.1), (F, [], 0.1), None, (U8, [], 0), (U8, [], 0)])],
    (MS, "QEmbedLayerNormalization"): [({}, [(I32, [2, 3], 1), None, (U8, [10, 8]), (U8, [4, 8]), None, (U8, [8]), (U8, [8]), None, (F, [], 0.1), (F, [], 0.1), None, (F, [], 0.1), (F, [], 0.1), (U8, [], 0), (U8, [], 0), None, (U8, [], 0), (U8, [], 0)])],
    (MS, "QGemm"): [({}, [(U8, [2, 4], 1), (F, [], 0.1), (U8, [], 0), (U8, [4, 3], 1), (F, [], 0.1), (U8, [], 0)])],
    (MS, "QLinearAveragePool"): [({"kernel_shape": [2, 2]}, [(U8, [1, 2, 4, 4], 1), (F, [], 0.1), (U8, [], 0), (F, [], 0.1), (U8, [], 0)])],
    (MS, "QLinearConcat"): [({"axis": 0}, [(F, [], 0.1), (U8, [], 0), (U8, [2, 3], 1), (F, [], 0.1), (U8, [], 0)])],
    (MS, "QLinearGlobalAveragePool"): [({}, [(U8, [1, 2, 4, 4], 1), (F, [], 0.1), (U8, [], 0), (F, [], 0.1), (U8, [], 0)])],
    (MS, "QMoE"): [({"k": 1, "activation_type": "relu", "expert_weight_bits": 8}, [(F, [3, 4]), (F, [3, 2]), (U8, [2, 8, 4], 1), (F, [2, 8]), None, (U8, [2, 4, 8], 1), (F, [2, 4])])],
    (MS, "RotaryEmbedding"): [({}, [(F, [1, 3, 8]), (I64, [1, 3], 1), (F, [5, 4]), (F, [5, 4])]), ({}, [(F, [1, 2, 3, 4]), (I64, [1], 0), (F, [5, 2]), (F, [5, 2])])],
    (MS, "SkipLayerNormalization"): [({}, [(F, [2, 3, 8]), (F, [2, 3, 8]), (F, [8])]), ({}, [(F, [2, 3, 8]), (F, [2, 3, 8]), (F, [8]), (F, [8]), (F, [8])])],
    (MS, "SparseAttention"): [({"num_heads": 2, "kv_num_heads": 2, "sparse_block_size": 16}, [(F, [1, 3, 16]), (F, [1, 3, 16]), (F, [1, 3, 16]), (F, [1, 2, 16, 8]), (F, [1, 2, 16, 8]), (I32, [2, 2], 0), (I32, [2, 1], 0), (I32, [], 3), (I32, [1], 3)])],
}
