//! Models for the tests of batching: rows that meet where ordinary values don't show it, and rows that are independent.

use prost::Message;
use std::{fs, path::Path};

use crate::support::onnx::{FLOAT, Graph, INT64, Model, OperatorSet, STRING, Tensor, floats, node, value};

/// Opset of the models: StringSplit is of 20.
const OPSET: i64 = 20;

/// Rows of the embedding's table.
const TABLE_ROWS: i64 = 1000;

/// A constant vector, or a scalar where there is one number and `dims` is empty.
pub fn integers(name: &str, dims: &[i64], values: &[i64]) -> Tensor {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dims: dims.into(), data_type: INT64, name: name.into(), raw_data, ..Tensor::default() }
}

/// Saves a graph as version 1 of a model, with its configuration.
pub fn save(graph: Graph, repository: &Path, model: &str, config: &str) {
    let folder = repository.join(model);
    let opset = OperatorSet { domain: String::new(), version: OPSET };
    let file = Model { ir_version: 9, graph: Some(graph), opset_import: vec![opset] }.encode_to_vec();
    fs::create_dir_all(folder.join("1")).unwrap();
    fs::write(folder.join("1/model.onnx"), file).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
}

/// Rows are divided by 255 where any row of the batch holds more than 1: pixels that are taken for bytes.
pub fn scaled_where_any_is_large() -> Graph {
    Graph {
        name: "scaled".into(),
        node: vec![
            node("ReduceMax", &["x"], &["m"]).int("keepdims", 0),
            node("Greater", &["m", "one"], &["c"]),
            node("Div", &["x", "d"], &["s"]),
            node("Where", &["c", "s", "x"], &["y"]),
        ],
        initializer: vec![floats("one", &[], &[1.0]), floats("d", &[], &[255.0])],
        input: vec![value("x", FLOAT, &["batch", "4"])],
        output: vec![value("y", FLOAT, &["batch", "4"])],
    }
}

/// Texts are split into words and padded to the text of the most words.
pub fn words_padded_to_longest() -> Graph {
    Graph {
        name: "words".into(),
        node: vec![node("StringSplit", &["x"], &["w", "n"]).string("delimiter", " ")],
        initializer: vec![],
        input: vec![value("x", STRING, &["batch"])],
        output: vec![value("w", STRING, &["batch", "words"]), value("n", INT64, &["batch"])],
    }
}

/// Embeddings of ids, whose magnitude grows with the id, are quantised with one scale for all rows.
pub fn embedding_dynamically_quantized() -> Graph {
    let table: Vec<f32> =
        (0..TABLE_ROWS).flat_map(|id| [0.3, -0.7, 1.1, -0.2].map(|x| x * (1 + id) as f32 / 20.0)).collect();
    Graph {
        name: "embedding".into(),
        node: vec![
            node("Gather", &["table", "x"], &["e"]),
            node("DynamicQuantizeLinear", &["e"], &["q", "s", "z"]),
            node("DequantizeLinear", &["q", "s", "z"], &["y"]),
        ],
        initializer: vec![floats("table", &[TABLE_ROWS, 4], &table)],
        input: vec![value("x", INT64, &["batch", "length"])],
        output: vec![value("y", FLOAT, &["batch", "length", "4"])],
    }
}

/// Each row less the one eight rows before.
pub fn lag_of_eight_rows() -> Graph {
    Graph {
        name: "lag".into(),
        node: vec![
            node("Pad", &["x", "pads"], &["p"]),
            node("Slice", &["p", "zero", "end", "zero"], &["q"]),
            node("Sub", &["x", "q"], &["y"]),
        ],
        initializer: vec![
            integers("pads", &[4], &[8, 0, 0, 0]),
            integers("zero", &[1], &[0]),
            integers("end", &[1], &[-8]),
        ],
        input: vec![value("x", FLOAT, &["batch", "4"])],
        output: vec![value("y", FLOAT, &["batch", "4"])],
    }
}

/// A linear layer whose axis 0 is open and has other names in input and output, as converters of classical models write it.
pub fn linear() -> Graph {
    let weights: Vec<f32> = (0..12).map(|index| index as f32 / 7.0 - 0.8).collect();
    Graph {
        name: "linear".into(),
        node: vec![node("MatMul", &["x", "w"], &["y"])],
        initializer: vec![floats("w", &[4, 3], &weights)],
        input: vec![value("x", FLOAT, &["unk__1", "4"])],
        output: vec![value("y", FLOAT, &["unk__2", "3"])],
    }
}

/// [batch,4] as [batch,2,2], by the model's own shape.
pub fn reshaped_by_its_own_shape() -> Graph {
    Graph {
        name: "reshaped".into(),
        node: vec![
            node("Shape", &["x"], &["s"]).int("start", 0).int("end", 1),
            node("Concat", &["s", "rest"], &["t"]).int("axis", 0),
            node("Reshape", &["x", "t"], &["r"]),
            node("Softmax", &["r"], &["y"]).int("axis", 2),
        ],
        initializer: vec![integers("rest", &[2], &[2, 2])],
        input: vec![value("x", FLOAT, &["batch", "4"])],
        output: vec![value("y", FLOAT, &["batch", "2", "2"])],
    }
}

/// `y = a + b`, FP32, with these axes.
pub fn sum(a: &[&str], b: &[&str], y: &[&str]) -> Graph {
    Graph {
        name: "sum".into(),
        node: vec![node("Add", &["a", "b"], &["y"])],
        initializer: vec![],
        input: vec![value("a", FLOAT, a), value("b", FLOAT, b)],
        output: vec![value("y", FLOAT, y)],
    }
}

/// `y = a + b`, FP32 [batch,time], where both have as many columns, and otherwise a softmax of that over the rows.
pub fn sum_where_lengths_agree() -> Graph {
    let output = |name: &str| vec![value(name, FLOAT, &["batch", "time"])];
    let sum = Graph {
        name: "sum".into(),
        node: vec![node("Add", &["a", "b"], &["s"])],
        output: output("s"),
        ..Graph::default()
    };
    let shares = Graph {
        name: "shares".into(),
        node: vec![node("Add", &["a", "b"], &["t"]), node("Softmax", &["t"], &["u"]).int("axis", 0)],
        output: output("u"),
        ..Graph::default()
    };
    let length = |of: &str, named: &str| node("Shape", &[of], &[named]).int("start", 1).int("end", 2);
    Graph {
        name: "lengths".into(),
        node: vec![
            length("a", "one"),
            length("b", "other"),
            node("Equal", &["one", "other"], &["agree"]),
            node("If", &["agree"], &["y"]).graph("then_branch", sum).graph("else_branch", shares),
        ],
        initializer: vec![],
        input: ["a", "b"].map(|name| value(name, FLOAT, &["batch", "time"])).into(),
        output: output("y"),
    }
}

/// Softmax over rows of 20: [batch,time,4] as an export views it that has written down the 5 time steps of its example.
pub fn viewed_as_its_example() -> Graph {
    Graph {
        name: "viewed".into(),
        node: vec![
            node("Shape", &["x"], &["rows"]).int("start", 0).int("end", 1),
            node("Concat", &["rows", "twenty"], &["target"]).int("axis", 0),
            node("Reshape", &["x", "target"], &["r"]),
            node("Softmax", &["r"], &["y"]).int("axis", 1),
        ],
        initializer: vec![integers("twenty", &[1], &[20])],
        input: vec![value("x", FLOAT, &["batch", "time", "4"])],
        output: vec![value("y", FLOAT, &["batch", "20"])],
    }
}

/// `y = x` taken at positions times the second extent of `z`: row 0 for all, where that extent is 0 and the Reshape copies it.
pub fn rows_by_an_extent() -> Graph {
    Graph {
        name: "extent".into(),
        node: vec![
            node("Shape", &["z"], &["shape"]),
            node("Gather", &["shape", "first"], &["rows"]),
            node("Gather", &["shape", "second"], &["extent"]),
            node("Mul", &["rows", "extent"], &["product"]),
            node("Concat", &["product", "rest"], &["target"]).int("axis", 0),
            node("Reshape", &["x", "target"], &["pieces"]),
            node("Squeeze", &["rows", "first"], &["last"]),
            node("Range", &["zero", "last", "one"], &["positions"]),
            node("Mul", &["positions", "extent"], &["indices"]),
            node("Gather", &["pieces", "indices"], &["y"]),
        ],
        initializer: vec![
            integers("first", &[1], &[0]),
            integers("second", &[1], &[1]),
            integers("rest", &[1], &[-1]),
            integers("zero", &[], &[0]),
            integers("one", &[], &[1]),
        ],
        input: vec![value("x", FLOAT, &["batch", "12"]), value("z", FLOAT, &["batch", "length"])],
        output: vec![value("y", FLOAT, &["batch", "width"])],
    }
}

/// The first piece of a sequence that `x`, FP32 [batch,2], is cut into along `axis`: columns or rows. `y` is `x` less that.
/// The proof knows no sequences.
pub fn first_of_sequence(axis: i64) -> Graph {
    Graph {
        name: "sequence".into(),
        node: vec![
            node("SplitToSequence", &["x"], &["pieces"]).int("axis", axis),
            node("SequenceAt", &["pieces", "zero"], &["piece"]),
            node("Sub", &["x", "piece"], &["y"]),
        ],
        initializer: vec![integers("zero", &[], &[0])],
        input: vec![value("x", FLOAT, &["batch", "2"])],
        output: vec![value("y", FLOAT, &["batch", "2"])],
    }
}
