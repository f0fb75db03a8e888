//! Converts the user's files (JSON, CSV, NPY, NPZ) to the tensors that the model takes.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::Path,
};

use super::{
    element::{Element, InputSpec},
    npy::{self, Array},
};
use crate::{
    config::document::nearest,
    json::{Elements, Reader, ValueKind},
    tensor::{Datatype, Shape, Tensor},
};

/// A file or stdin with its content, and the input that it is for, if the user names one.
pub(super) struct InputSource {
    input: Option<String>,
    file: String,
    content: Content,
}

enum Content {
    /// One JSON value, with nothing behind it.
    Json(String),
    /// Rows, each with its line number.
    Csv(Vec<(u64, Vec<String>)>),
    Npy(Array),
    Npz(Vec<(String, Array)>),
}

impl InputSource {
    /// Reads the files that `[NAME=]FILE` arguments name; without any, stdin.
    pub(super) fn read_all(inputs: &[String]) -> Result<Vec<Self>, String> {
        if inputs.is_empty() && io::stdin().is_terminal() {
            return Err("there is no input: name a FILE (JSON, CSV or NPY), or pipe it in".into());
        }
        let stdin = ["-".to_owned()];
        let inputs = if inputs.is_empty() { &stdin } else { inputs };
        let sources: Vec<_> = inputs.iter().map(|input| InputSource::read(input)).collect::<Result<_, _>>()?;
        if sources.len() > 1 && sources.iter().any(|source| source.input.is_none()) {
            return Err("of several files each needs the input that it is for: NAME=FILE".into());
        }
        Ok(sources)
    }

    fn read(input: &str) -> Result<Self, String> {
        // Names of inputs and of files may hold '='. If a file of the whole name exists, that file is meant.
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
        Ok(InputSource { input, file: file.into(), content })
    }
}

impl Content {
    /// Detects the format by the first bytes of the file, and parses it. A name that ends in .csv or .json decides between
    /// these two.
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
    let mut reader = Reader::new(text);
    let end = |mut reader: Reader<'_>| {
        if reader.is_at_end() { Ok(()) } else { Err(reader.error("expected nothing more")) }
    };
    reader.skip().and_then(|()| end(reader)).map_err(|why| format!("not valid JSON: {why}"))?;
    Ok(Content::Json(text.to_owned()))
}

fn csv(text: &str) -> Result<Content, String> {
    // The CSV reader counts lines correctly only without carriage returns.
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

/// The input, if it is a whole request in the protocol's form: `inputs` is an array of objects.
pub(super) fn whole_request(sources: &[InputSource]) -> Option<&str> {
    let [InputSource { input: None, content: Content::Json(text), .. }] = sources else { return None };
    let mut whole = false;
    let read = Reader::new(text).object(|reader, key| {
        if key != "inputs" || reader.peek()? != ValueKind::Array {
            return reader.skip();
        }
        whole = true;
        reader.array(|reader| {
            whole &= reader.peek()? == ValueKind::Object;
            reader.skip()
        })
    });
    (read.is_ok() && whole).then_some(text)
}

/// The tensors for all inputs of the model; those that are optional may be left out.
///
/// # Errors
/// For people: the input does not suit the model.
pub(super) fn tensors<'s>(
    specs: &'s [InputSpec],
    sources: Vec<InputSource>,
) -> Result<Vec<(&'s InputSpec, Tensor)>, String> {
    let mut found: Vec<(&'s InputSpec, Tensor)> = Vec::new();
    let required: Vec<&InputSpec> = specs.iter().filter(|spec| !spec.is_optional).collect();
    for InputSource { input, file, content } in sources {
        let at = |why: String| format!("{file}: {why}");
        let mut add = |spec: &'s InputSpec, tensor| found.push((spec, tensor));
        match (input, content) {
            (Some(name), content) => {
                let spec = named(specs, &name)?;
                add(spec, tensor(spec, content).map_err(at)?);
            }
            (None, Content::Json(text)) if text.trim_start().starts_with('{') => {
                let mut reader = Reader::new(&text);
                let read = reader.object(|reader, name| {
                    let spec = named(specs, name)?;
                    add(spec, nested(spec, reader)?);
                    Ok(())
                });
                read.map_err(at)?;
            }
            (None, Content::Csv(rows)) if has_columns(specs, &rows) => {
                for (spec, tensor) in columns(specs, &rows).map_err(at)? {
                    add(spec, tensor);
                }
            }
            // A lone array has the name that NumPy made up.
            (None, Content::Npz(arrays))
                if required.len() > 1
                    || arrays.len() > 1
                    || arrays.iter().all(|(name, _)| specs.iter().any(|spec| spec.name == *name)) =>
            {
                for (name, array) in arrays {
                    let spec = named(specs, &name).map_err(at)?;
                    add(spec, tensor(spec, Content::Npy(array)).map_err(at)?);
                }
            }
            (None, Content::Csv(rows)) if required.len() > 1 => return Err(at(columns_missing(specs, &rows))),
            (None, content) => {
                let alone = match (specs, &*required) {
                    ([spec], _) | (_, &[spec]) => spec,
                    _ => return Err(at(several(specs))),
                };
                add(alone, tensor(alone, content).map_err(at)?);
            }
        }
    }
    for spec in specs {
        match found.iter().filter(|(other, _)| other.name == spec.name).count() {
            0 if spec.is_optional => {}
            0 => return Err(format!("input '{}' is missing; the model takes {}", spec.name, list(specs))),
            1 => {}
            _ => return Err(format!("input '{}' is given twice", spec.name)),
        }
    }
    Ok(found)
}

fn named<'s>(specs: &'s [InputSpec], name: &str) -> Result<&'s InputSpec, String> {
    specs.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let meant = nearest(name, &names).map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
        format!("the model has no input '{name}'{meant}; it takes {}", list(specs))
    })
}

fn list(specs: &[InputSpec]) -> String {
    let spec = |spec: &InputSpec| {
        let optional = if spec.is_optional { ", optional" } else { "" };
        format!("'{}' ({} {:?}{optional})", spec.name, spec.datatype, spec.shape)
    };
    specs.iter().map(spec).collect::<Vec<_>>().join(", ")
}

/// Error about the columns of a file that is to have one for each input.
fn columns_missing(specs: &[InputSpec], rows: &[(u64, Vec<String>)]) -> String {
    let Some((line, header)) = rows.first() else { return several(specs) };
    let is_known = |name: &String| specs.iter().any(|spec| spec.name == *name);
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let unknown: Vec<&String> = header.iter().filter(|name| !is_known(name)).collect();
    if unknown.len() == header.len() && !unknown.iter().any(|name| nearest(name, &names).is_some()) {
        return format!("line {line} names no input; {}", several(specs));
    }
    let missing = specs.iter().filter(|spec| !spec.is_optional && !header.contains(&spec.name));
    let missing: Vec<_> = missing.map(|spec| format!("'{}'", spec.name)).collect();
    let unknown = unknown.into_iter().map(|name| match nearest(name, &names) {
        Some(near) => format!(", and column '{name}' is no input (did you mean '{near}'?)"),
        None => format!(", and column '{name}' is no input"),
    });
    format!(
        "line {line} has no column for {}{}; the model takes {}",
        missing.join(", "),
        unknown.collect::<String>(),
        list(specs)
    )
}

/// The columns of a row that are too many or too few for one input, by name where there is a header.
fn wrong_columns(spec: &InputSpec, count: usize, header: Option<&Vec<String>>) -> Option<String> {
    let inner: Option<Vec<usize>> = spec.shape.get(1..)?.iter().map(|extent| usize::try_from(*extent).ok()).collect();
    let expected = inner.map(|inner| inner.iter().product::<usize>()).filter(|expected| *expected != count)?;
    let name = |index: usize| header.map(|header| format!(" ('{}')", header[index])).unwrap_or_default();
    let more = match count.checked_sub(expected) {
        Some(1..) => format!("; column {}{} is the first that is too many", expected + 1, name(expected)),
        _ => String::new(),
    };
    let (datatype, shape) = (spec.datatype, &spec.shape);
    Some(format!("input '{}' ({datatype} {shape:?}) takes {expected} columns, got {count}{more}", spec.name))
}

fn several(specs: &[InputSpec]) -> String {
    format!(
        "the model takes {}: give JSON {{\"NAME\": [...], ...}}, CSV with a column named after each, or NAME=FILE for each",
        list(specs)
    )
}

/// The tensor for one input.
fn tensor(spec: &InputSpec, content: Content) -> Result<Tensor, String> {
    let about = |why: String| format!("input '{}': {why}", spec.name);
    match content {
        Content::Json(text) => nested(spec, &mut Reader::new(&text)),
        Content::Csv(rows) => table(spec, &rows),
        Content::Npy(array) => array_tensor(spec, array).map_err(about),
        Content::Npz(mut arrays) => match (arrays.pop(), arrays.len()) {
            (Some((_, array)), 0) => array_tensor(spec, array).map_err(about),
            _ => Err(about("an archive of one array is expected for one input".into())),
        },
    }
}

/// One row may be given without the axis of the batch.
fn with_batch_axis(spec: &InputSpec, mut shape: Vec<usize>) -> Shape {
    if shape.len() + 1 == spec.shape.len() && matches!(spec.shape[0], -1 | 1) {
        shape.insert(0, 1);
    }
    Shape::new(shape)
}

fn array_tensor(spec: &InputSpec, array: Array) -> Result<Tensor, String> {
    let shape = with_batch_axis(spec, array.shape.clone());
    let data = if array.datatype == spec.datatype && array.datatype != Datatype::Bytes {
        array.data
    } else {
        let mut data = Vec::new();
        for (index, element) in array.elements().enumerate() {
            element.push(spec.datatype, &mut data).map_err(|why| format!("element {index}: {why}"))?;
        }
        data
    };
    Tensor::new(spec.datatype, shape, data.into()).map_err(|error| error.to_string())
}

/// The tensor of a nested JSON array, whose shape is that of the nesting.
fn nested(spec: &InputSpec, reader: &mut Reader<'_>) -> Result<Tensor, String> {
    let about = |why: String| format!("input '{}': {why}", spec.name);
    let (mut shape, mut depth) = (Vec::new(), None);
    extents(&mut reader.clone(), 0, &mut shape, &mut depth).map_err(about)?;
    let shape = with_batch_axis(spec, shape.into_iter().flatten().collect());
    let expected = shape.elements().unwrap_or(0);
    let elements = Elements::read(reader, spec.datatype, expected).map_err(about)?;
    elements.into_tensor(shape).map_err(|error| about(error.to_string()))
}

/// Finds the extents of nested arrays, which must be the same everywhere, and how deep the values stand.
fn extents(
    reader: &mut Reader<'_>,
    depth: usize,
    shape: &mut Vec<Option<usize>>,
    values: &mut Option<usize>,
) -> Result<(), String> {
    let before = reader.clone();
    if reader.peek()? != ValueKind::Array {
        let first = *values.get_or_insert(depth);
        if first != depth {
            let what = format!("expected values inside {first} arrays as the first is, got one inside {depth}");
            return Err(before.error(what));
        }
        return reader.skip();
    }
    if shape.len() == depth {
        shape.push(None);
    }
    let mut count = 0;
    reader.array(|reader| {
        count += 1;
        extents(reader, depth + 1, shape, values)
    })?;
    let first = *shape[depth].get_or_insert(count);
    if first != count {
        return Err(before.error(format!("expected {first} elements as in the array before, got {count}")));
    }
    Ok(())
}

/// True if the first row names a column for each required input.
fn has_columns(specs: &[InputSpec], rows: &[(u64, Vec<String>)]) -> bool {
    rows.first().is_some_and(|(_, header)| {
        let mut required = specs.iter().filter(|spec| !spec.is_optional).peekable();
        required.peek().is_some() && required.all(|spec| header.contains(&spec.name))
    })
}

/// Reads each input from the column of its name, as for models that scikit-learn exports for data frames.
fn columns<'s>(specs: &'s [InputSpec], rows: &[(u64, Vec<String>)]) -> Result<Vec<(&'s InputSpec, Tensor)>, String> {
    let Some(((line, header), rows)) = rows.split_first() else { return Err("it is empty".into()) };
    let mut found = Vec::new();
    for (column, name) in header.iter().enumerate() {
        let spec = named(specs, name).map_err(|why| format!("line {line}, column {}: {why}", column + 1))?;
        let data = cells(spec, rows, column..column + 1, header)?;
        let mut shape = vec![1; spec.shape.len().max(1)];
        shape[0] = rows.len();
        let tensor = Tensor::new(spec.datatype, Shape::new(shape), data.into());
        found.push((spec, tensor.map_err(|error| error.to_string())?));
    }
    Ok(found)
}

/// Reads one input from all columns. A first row that is no row of values is a header.
fn table(spec: &InputSpec, rows: &[(u64, Vec<String>)]) -> Result<Tensor, String> {
    let is_value = |cell: &String| {
        spec.datatype == Datatype::Bytes
            || cell.parse::<f64>().is_ok()
            || Element::Text(cell).push(spec.datatype, &mut Vec::new()).is_ok()
    };
    // A header has no value at all, so a row with one wrong cell is no header. Treated as a header, it would be left out
    // unnoticed.
    let names_only = |cells: &[String]| {
        let mut filled = cells.iter().filter(|cell| !cell.is_empty()).peekable();
        filled.peek().is_some() && !filled.any(is_value)
    };
    let header = match rows.split_first() {
        Some(((line, first), rest)) if first.contains(&spec.name) || names_only(first) => {
            if rest.is_empty() {
                let (datatype, got) = (spec.datatype, &first[0]);
                return Err(format!(
                    "line {line}: expected rows of {datatype}, got a header alone, which begins with '{got}'"
                ));
            }
            Some(first)
        }
        _ => None,
    };
    let values = if header.is_some() { &rows[1..] } else { rows };
    let count = rows.first().map_or(0, |(_, first)| first.len());
    // One row of an input with one axis is a line of values, or a column of them.
    if spec.shape.len() > 1
        && let Some(wrong) = wrong_columns(spec, count, header)
    {
        return Err(wrong);
    }
    let data = cells(spec, values, 0..count, header.unwrap_or(&Vec::new()))?;
    let (rows, columns) = (values.len(), count);
    let inner = spec.shape.get(1..).unwrap_or_default();
    let extents: Option<Vec<usize>> = inner.iter().map(|extent| usize::try_from(*extent).ok()).collect();
    let fitting = extents.filter(|extents| extents.iter().product::<usize>() == columns);
    let shape = match (spec.shape.len(), fitting) {
        (1, _) if columns == 1 => vec![rows],
        (1, _) if rows == 1 => vec![columns],
        (_, Some(extents)) => [vec![rows], extents].concat(),
        _ => vec![rows, columns],
    };
    Tensor::new(spec.datatype, Shape::new(shape), data.into()).map_err(|error| error.to_string())
}

fn cells(
    spec: &InputSpec,
    rows: &[(u64, Vec<String>)],
    columns: std::ops::Range<usize>,
    header: &[String],
) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    for (line, row) in rows {
        for column in columns.clone() {
            let message = |why: String| {
                let name = header.get(column).map(|name| format!(" '{name}'")).unwrap_or_default();
                format!("line {line}, column {}{name}: {why}", column + 1)
            };
            Element::Text(&row[column]).push(spec.datatype, &mut data).map_err(message)?;
        }
    }
    Ok(data)
}
