//! What the user gives, as tensors that the model takes.

use serde_json::{Map, Value};
use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::Path,
};

use super::{
    element::{Element, Spec},
    npy::{self, Array},
};
use crate::config::document::nearest;

/// A tensor to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

/// A file or stdin with what it holds, and the input that it is for, if the user says so.
pub(super) struct Source {
    input: Option<String>,
    file: String,
    content: Content,
}

enum Content {
    Json(Value),
    /// Each row with its line.
    Csv(Vec<(u64, Vec<String>)>),
    Npy(Array),
    Npz(Vec<(String, Array)>),
}

impl Source {
    /// Reads what `[NAME=]FILE` name; nothing named is stdin.
    pub(super) fn read_all(inputs: &[String]) -> Result<Vec<Self>, String> {
        if inputs.is_empty() && io::stdin().is_terminal() {
            return Err("there is no input: name a FILE (JSON, CSV or NPY), or pipe it in".into());
        }
        let stdin = ["-".to_owned()];
        let inputs = if inputs.is_empty() { &stdin } else { inputs };
        let sources: Vec<_> = inputs.iter().map(|input| Source::read(input)).collect::<Result<_, _>>()?;
        if sources.len() > 1 && sources.iter().any(|source| source.input.is_none()) {
            return Err("of several files each needs the input that it is for: NAME=FILE".into());
        }
        Ok(sources)
    }

    fn read(input: &str) -> Result<Self, String> {
        // Names of inputs and of files may hold '=': a file that is there is meant.
        let named = input.split_once('=').filter(|(name, _)| !name.is_empty() && !Path::new(input).exists());
        let (input, file) = named.map_or((None, input), |(name, file)| (Some(name.to_owned()), file));
        let mut bytes = Vec::new();
        let read = match file {
            "-" => io::stdin().lock().read_to_end(&mut bytes).map(|_| ()),
            path => fs::read(path).map(|read| bytes = read),
        };
        let file = if file == "-" { "stdin" } else { file };
        read.map_err(|error| format!("{file} can't be read: {error}"))?;
        let content = Content::read(file, &bytes).map_err(|why| format!("{file}: {why}"))?;
        Ok(Source { input, file: file.into(), content })
    }
}

impl Content {
    /// What it is, is told by how it begins; a name that ends in .csv or .json is believed.
    fn read(file: &str, bytes: &[u8]) -> Result<Self, String> {
        if bytes.starts_with(npy::MAGIC) {
            return Array::parse(bytes).map(Content::Npy);
        }
        if bytes.starts_with(npy::ZIP_MAGIC) {
            return npy::archive(bytes).map(Content::Npz);
        }
        let not_text = |_| "it is neither NPY, NPZ nor text (JSON or CSV in UTF-8)".to_owned();
        let text = std::str::from_utf8(bytes).map_err(not_text)?.trim_start_matches('\u{feff}');
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
        match (extension, text.trim_start().as_bytes().first()) {
            (_, None) => Err("it is empty".into()),
            (Some("json"), _) | (None, Some(b'{' | b'[')) => json(text),
            (Some("csv"), _) => csv(text),
            (_, Some(b'{' | b'[')) => json(text),
            _ => csv(text),
        }
    }
}

fn json(text: &str) -> Result<Content, String> {
    serde_json::from_str(text).map(Content::Json).map_err(|error| {
        let hint =
            if text.contains("NaN") || text.contains("Infinity") { "; write NaN and Infinity in quotes" } else { "" };
        format!("not valid JSON: {error}{hint}")
    })
}

fn csv(text: &str) -> Result<Content, String> {
    // The reader counts lines right only without carriage returns.
    let text = text.replace("\r\n", "\n");
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let mut rows: Vec<(u64, Vec<String>)> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("not valid CSV: {error}"))?;
        let line = record.position().map_or(0, csv::Position::line);
        if let Some((first, row)) = rows.first().filter(|(_, row)| row.len() != record.len()) {
            return Err(format!("line {line} has {} columns, line {first} has {}", record.len(), row.len()));
        }
        rows.push((line, record.iter().map(str::to_owned).collect()));
    }
    Ok(Content::Csv(rows))
}

/// The whole request in the protocol's form, where that is what was given.
pub(super) fn whole_request(sources: &[Source]) -> Option<Map<String, Value>> {
    match sources {
        [Source { input: None, content: Content::Json(Value::Object(request)), .. }] => {
            let inputs = request.get("inputs")?.as_array()?;
            inputs.iter().all(|input| input.get("name").is_some()).then(|| request.clone())
        }
        _ => None,
    }
}

/// The tensors for all inputs of the model.
///
/// # Errors
/// For people: what was given does not suit the model.
pub(super) fn tensors<'s>(specs: &'s [Spec], sources: Vec<Source>) -> Result<Vec<(&'s Spec, Tensor)>, String> {
    let mut found: Vec<(&'s Spec, Tensor)> = Vec::new();
    for Source { input, file, content } in sources {
        let at = |why: String| format!("{file}: {why}");
        let mut add = |spec: &'s Spec, tensor| found.push((spec, tensor));
        match (input, content) {
            (Some(name), content) => {
                let spec = named(specs, &name)?;
                add(spec, tensor(spec, content).map_err(at)?);
            }
            (None, Content::Json(Value::Object(inputs))) => {
                for (name, value) in inputs {
                    let spec = named(specs, &name).map_err(at)?;
                    add(spec, tensor(spec, Content::Json(value)).map_err(at)?);
                }
            }
            (None, Content::Csv(rows)) if has_columns(specs, &rows) => {
                for (spec, tensor) in columns(specs, &rows).map_err(at)? {
                    add(spec, tensor);
                }
            }
            // A lone array has the name that NumPy made up.
            (None, Content::Npz(arrays)) if specs.len() > 1 || arrays.len() > 1 => {
                for (name, array) in arrays {
                    let spec = named(specs, &name).map_err(at)?;
                    add(spec, tensor(spec, Content::Npy(array)).map_err(at)?);
                }
            }
            (None, content) => {
                let [spec] = specs else { return Err(at(several(specs))) };
                add(spec, tensor(spec, content).map_err(at)?);
            }
        }
    }
    for spec in specs {
        match found.iter().filter(|(other, _)| other.name == spec.name).count() {
            0 => return Err(format!("input '{}' is missing; the model takes {}", spec.name, list(specs))),
            1 => {}
            _ => return Err(format!("input '{}' is given twice", spec.name)),
        }
    }
    Ok(found)
}

fn named<'s>(specs: &'s [Spec], name: &str) -> Result<&'s Spec, String> {
    specs.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let meant = nearest(name, &names).map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
        format!("the model has no input '{name}'{meant}; it takes {}", list(specs))
    })
}

fn list(specs: &[Spec]) -> String {
    let spec = |spec: &Spec| format!("'{}' ({} {:?})", spec.name, spec.datatype, spec.shape);
    specs.iter().map(spec).collect::<Vec<_>>().join(", ")
}

fn several(specs: &[Spec]) -> String {
    format!(
        "the model takes {}: give JSON {{\"NAME\": [...], ...}}, CSV with a column named after each, or NAME=FILE for each",
        list(specs)
    )
}

/// The tensor for one input.
fn tensor(spec: &Spec, content: Content) -> Result<Tensor, String> {
    let about = |why: String| format!("input '{}': {why}", spec.name);
    match content {
        Content::Json(value) => nested(spec, &value).map_err(about),
        Content::Csv(rows) => table(spec, &rows),
        Content::Npy(array) => array_tensor(spec, array).map_err(about),
        Content::Npz(mut arrays) => match (arrays.pop(), arrays.len()) {
            (Some((_, array)), 0) => array_tensor(spec, array).map_err(about),
            _ => Err(about("an archive of one array is expected for one input".into())),
        },
    }
}

/// One row may be given without the axis of the batch.
fn with_batch_axis(spec: &Spec, mut shape: Vec<u64>) -> Vec<u64> {
    if shape.len() + 1 == spec.shape.len() && matches!(spec.shape[0], -1 | 1) {
        shape.insert(0, 1);
    }
    shape
}

fn array_tensor(spec: &Spec, array: Array) -> Result<Tensor, String> {
    let shape = with_batch_axis(spec, array.shape.clone());
    if array.datatype == spec.datatype && array.datatype != "BYTES" {
        return Ok(Tensor { shape, data: array.data });
    }
    let mut data = Vec::new();
    for (index, element) in array.elements().enumerate() {
        element.push(&spec.datatype, &mut data).map_err(|why| format!("element {index}: {why}"))?;
    }
    Ok(Tensor { shape, data })
}

/// The tensor of a nested JSON array.
fn nested(spec: &Spec, value: &Value) -> Result<Tensor, String> {
    let mut shape = Vec::new();
    let mut first = value;
    while let Value::Array(elements) = first {
        shape.push(elements.len() as u64);
        let Some(next) = elements.first() else { break };
        first = next;
    }
    let mut data = Vec::new();
    flatten(spec, value, &shape, "data", &mut data)?;
    Ok(Tensor { shape: with_batch_axis(spec, shape), data })
}

fn flatten(spec: &Spec, value: &Value, shape: &[u64], path: &str, data: &mut Vec<u8>) -> Result<(), String> {
    let element = match value {
        Value::Array(elements) => {
            let Some((extent, inner)) = shape.split_first() else {
                return Err(format!("{path} is an array, where others are single values"));
            };
            if elements.len() as u64 != *extent {
                return Err(format!("{path} has {} elements, the first of its kind has {extent}", elements.len()));
            }
            for (index, element) in elements.iter().enumerate() {
                flatten(spec, element, inner, &format!("{path}[{index}]"), data)?;
            }
            return Ok(());
        }
        Value::Bool(value) => Element::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Element::Integer(number.into()),
            (None, Some(number)) => Element::Integer(number.into()),
            (None, None) => Element::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Element::Bytes(text.as_bytes().into()),
        Value::Null => return Err(format!("{path} is null")),
        Value::Object(_) => return Err(format!("{path} is an object, where an array or a value is expected")),
    };
    if !shape.is_empty() {
        return Err(format!("{path} is a single value, where others are arrays"));
    }
    element.push(&spec.datatype, data).map_err(|why| format!("{path}: {why}"))
}

/// Whether the first row names a column for each input.
fn has_columns(specs: &[Spec], rows: &[(u64, Vec<String>)]) -> bool {
    rows.first().is_some_and(|(_, header)| specs.iter().all(|spec| header.contains(&spec.name)))
}

/// Each input from the column of its name, as models that scikit-learn exports for data frames have them.
fn columns<'s>(specs: &'s [Spec], rows: &[(u64, Vec<String>)]) -> Result<Vec<(&'s Spec, Tensor)>, String> {
    let Some(((line, header), rows)) = rows.split_first() else { return Err("it is empty".into()) };
    let mut found = Vec::new();
    for (column, name) in header.iter().enumerate() {
        let spec = named(specs, name).map_err(|why| format!("line {line}, column {}: {why}", column + 1))?;
        let data = cells(spec, rows, column..column + 1, header)?;
        let mut shape = vec![1; spec.shape.len().max(1)];
        shape[0] = rows.len() as u64;
        found.push((spec, Tensor { shape, data }));
    }
    Ok(found)
}

/// One input from all columns; a first row that is no row of values is a header.
fn table(spec: &Spec, rows: &[(u64, Vec<String>)]) -> Result<Tensor, String> {
    let is_value = |cell: &String| {
        cell.is_empty() || spec.datatype == "BYTES" || Element::Text(cell).push(&spec.datatype, &mut Vec::new()).is_ok()
    };
    // A cell that is wrong is no header: that has no value at all.
    let header = match rows.split_first() {
        Some(((_, first), _))
            if first.contains(&spec.name)
                || first.iter().any(|cell| !is_value(cell) && cell.parse::<f64>().is_err()) =>
        {
            Some(first)
        }
        _ => None,
    };
    let values = if header.is_some() { &rows[1..] } else { rows };
    let count = rows.first().map_or(0, |(_, first)| first.len());
    let data = cells(spec, values, 0..count, header.unwrap_or(&Vec::new()))?;
    let (rows, columns) = (values.len() as u64, count as u64);
    let inner = spec.shape.get(1..).unwrap_or_default();
    let extents: Option<Vec<u64>> = inner.iter().map(|extent| u64::try_from(*extent).ok()).collect();
    let fitting = extents.filter(|extents| extents.iter().product::<u64>() == columns);
    let shape = match (spec.shape.len(), fitting) {
        (1, _) if columns == 1 => vec![rows],
        (1, _) if rows == 1 => vec![columns],
        (_, Some(extents)) => [vec![rows], extents].concat(),
        _ => vec![rows, columns],
    };
    Ok(Tensor { shape, data })
}

fn cells(
    spec: &Spec,
    rows: &[(u64, Vec<String>)],
    columns: std::ops::Range<usize>,
    header: &[String],
) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    for (line, row) in rows {
        for column in columns.clone() {
            let told = |why: String| {
                let name = header.get(column).map(|name| format!(" '{name}'")).unwrap_or_default();
                format!("line {line}, column {}{name}: {why}", column + 1)
            };
            Element::Text(&row[column]).push(&spec.datatype, &mut data).map_err(told)?;
        }
    }
    Ok(data)
}
