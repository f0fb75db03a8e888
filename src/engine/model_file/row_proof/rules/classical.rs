//! Operators of classical machine learning (`ai.onnx.ml`), and of texts.

use super::{
    super::{
        super::onnx::FLOAT,
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    Op, Ruled, SymbolicShape, elementwise, mixes, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    match op.node.operator.as_str() {
        // It is made an Identity before the model is loaded.
        "ZipMap" => elementwise::pass(op, symbols),
        "LabelEncoder" | "CategoryMapper" | "Binarizer" => {
            // It is not worth following which type the new labels have.
            elementwise::mapped(op, symbols)
        }
        "OneHotEncoder" => {
            let (rows, shape) = (op.rows(0)?, op.shape(0)?);
            let categories = labels(op, ["cats_strings", "cats_int64s"]).unwrap_or_else(|| symbols.extent());
            let extents = shape.iter().cloned().chain([categories]).collect();
            Ok(vec![Value::rows(rows.clone(), FLOAT, Some(extents))])
        }
        "ArrayFeatureExtractor" => feature_extractor(op, symbols).map(|value| vec![value]),
        "FeatureVectorizer" => {
            let mut first = None;
            for index in 0..op.inputs.len() {
                let rows = feature_rows(op, index)?;
                match first.get_or_insert(rows) {
                    same if *same == rows => {}
                    _ => return unproven("its inputs have different numbers of entries for a row"),
                }
            }
            let Some(rows) = first else { return unproven("it has no inputs") };
            let extents = [op.shape(0)?[0].clone(), symbols.extent()];
            Ok(vec![Value::rows(rows.clone(), FLOAT, Some(extents.into()))])
        }
        "Imputer" | "Normalizer" | "Scaler" => {
            feature_rows(op, 0)?;
            let element = if op.node.operator == "Imputer" { op.element(0) } else { FLOAT };
            Ok(vec![Value { element, ..op.required(0)?.computed() }])
        }
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => {
            let (rows, count) = (feature_rows(op, 0)?, op.shape(0)?[0].clone());
            let labels = Value::rows(rows.clone(), 0, Some([count.clone()].into()));
            let names = ["classlabels_strings", "classlabels_int64s", "classlabels_ints"];
            // Of vector machines the scores may be those of pairs of classes.
            let classes = self::labels(op, names).filter(|_| op.node.operator != "SVMClassifier");
            let classes = classes.unwrap_or_else(|| symbols.extent());
            let scores = Value::rows(rows.clone(), FLOAT, Some([count, classes].into()));
            Ok(vec![labels, scores])
        }
        "LinearRegressor" | "SVMRegressor" | "TreeEnsembleRegressor" | "TreeEnsemble" => {
            let (rows, count) = (feature_rows(op, 0)?, op.shape(0)?[0].clone());
            let targets = match op.integer("n_targets", op.integer("targets", 0)) {
                targets @ 1.. => Extent::Number(targets),
                _ if op.node.operator == "TreeEnsemble" => symbols.extent(),
                _ => Extent::ONE,
            };
            Ok(vec![Value::rows(rows.clone(), FLOAT, Some([count, targets].into()))])
        }
        operator => unproven(format!("nothing is known of the operator {operator} of ai.onnx.ml")),
    }
}

/// The number of labels that an attribute lists.
fn labels<const N: usize>(op: &Op<'_>, names: [&str; N]) -> Option<Extent> {
    let listed = |name| op.attribute(name).map(|labels| labels.strings.len() + labels.integers.len());
    names.into_iter().find_map(listed).map(|count| Extent::Number(count as i64))
}

/// Entries along the last axis, of a table or of each row; indices are a list, whatever their shape is.
fn feature_extractor(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (table, indices) = (op.required(0)?, op.required(1)?);
    let (shape, index_shape) = (op.shape(0)?, op.shape(1)?);
    let last = shape.len().saturating_sub(1);
    let count = symbols.product(&**index_shape);
    // A list gives a matrix of one row.
    let ahead = if shape.len() == 1 { vec![Extent::ONE] } else { shape[..last].to_vec() };
    let axis = ahead.len();
    let extents: SymbolicShape = ahead.into_iter().chain([count]).collect();
    match (&table.flow, &indices.flow) {
        (Flow::Rows(rows), Flow::Constant) if rows.axis != last => {
            Ok(Value::rows(rows.clone(), table.element, Some(extents)))
        }
        (Flow::Constant, Flow::Rows(rows)) => {
            let outer = symbols.product(index_shape[..rows.axis].iter().chain([&rows.outer]));
            let inner = symbols.product([&rows.inner].into_iter().chain(&index_shape[rows.axis + 1..]));
            Ok(Value::rows(Rows { axis, outer, inner }, table.element, Some(extents)))
        }
        (Flow::Constant, Flow::Constant) => Ok(Value::constant(table.element, Some(extents))),
        (Flow::Rows(_), Flow::Constant | Flow::Rows(_)) => {
            mixes(format!("it picks entries of all rows of '{}'", op.name(0)))
        }
        _ => unproven(format!("which entries of '{}' are picked is not known", op.name(0))),
    }
}

/// The rows of a matrix of features. A vector would count as one row, whatever its extent is.
fn feature_rows<'a>(op: &'a Op<'_>, index: usize) -> Ruled<&'a Rows> {
    let (rows, rank) = (op.rows(index)?, op.shape(index)?.len());
    match (rank, rows.axis) {
        (2, 0) => Ok(rows),
        (1, _) => mixes(format!("it takes '{}', which has one axis, for a single row", op.name(index))),
        _ => unproven(format!("'{}' does not hold the rows along axis 0 of 2", op.name(index))),
    }
}

/// Operators that count, split and filter words.
pub(super) fn text(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    match op.node.operator.as_str() {
        "TfIdfVectorizer" => {
            let shape = op.shape(0)?;
            let Some(count) = shape.first().cloned() else { return unproven(format!("'{}' is a scalar", op.name(0))) };
            let counted = [count, symbols.extent()].into();
            let rows = match &op.required(0)?.flow {
                // Words that are no words of the vocabulary are not counted.
                Flow::Padded(rows, padding)
                    if *rows == Rows::along(0) && shape.len() == 2 && !is_counted(op, padding) =>
                {
                    rows
                }
                Flow::Padded(..) => return mixes(format!("it counts what '{}' is padded with", op.name(0))),
                _ => feature_rows(op, 0)?,
            };
            Ok(vec![Value::rows(rows.clone(), FLOAT, Some(counted))])
        }
        "StringNormalizer" if op.attribute("stopwords").is_none_or(|words| words.strings.is_empty()) => {
            elementwise::mapped(op, symbols)
        }
        "StringNormalizer" => {
            mixes(format!("it drops words from '{}', so that others move to their places", op.name(0)))
        }
        _ => mixes(format!("it pads the words of all rows of '{}' to the longest", op.name(0))),
    }
}

/// True if a vectorizer's vocabulary holds a word.
fn is_counted(op: &Op<'_>, word: &[u8]) -> bool {
    let words = op.attribute("pool_strings").map(|pool| &pool.strings);
    words.is_none_or(|words| words.iter().any(|other| other == word))
}

/// Cuts texts into words along a new axis, which is as long as the text with the most.
pub(super) fn tokenizer(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    let padding = op.attribute("pad_value").map(|padding| padding.string.as_slice().into());
    let Some(padding) = padding else { return mixes("Tokenizer pads the words of all rows to the longest") };
    let extents = shape.iter().cloned().chain([symbols.extent()]).collect();
    Ok(vec![Value::of(Flow::Padded(rows.clone(), padding), Some(extents), op.element(0))])
}
