//! Prints an answer.

use bytes::Bytes;
use http::response::Parts;
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
};

use super::{JSON_LENGTH, element};

/// Rows that a terminal is given.
const TERMINAL_ROWS: usize = 40;

/// A single row of more columns than this is easier to read downwards.
const WIDE: usize = 8;

/// An answer.
pub(super) struct Answer {
    id: Option<String>,
    model: String,
    version: String,
    outputs: Vec<Output>,
}

struct Output {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    elements: Vec<String>,
}

impl Answer {
    /// Reads the answer: JSON, with binary tensors behind it.
    ///
    /// # Errors
    /// For people: the server does not keep to the protocol.
    pub(super) fn read((parts, mut body): (Parts, Bytes)) -> Result<Self, String> {
        let wrong = |why: String| format!("the server's answer can't be understood: {why}");
        let length = parts.headers.get(JSON_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let json = body.split_to(length.unwrap_or(body.len()).min(body.len()));
        let json: Value = serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut outputs = Vec::new();
        for output in json["outputs"].as_array().map(Vec::as_slice).unwrap_or_default() {
            outputs.push(Output::read(output, &mut body).map_err(wrong)?);
        }
        Ok(Answer {
            id: text(&json["id"]),
            model: text(&json["model_name"]).unwrap_or_default(),
            version: text(&json["model_version"]).unwrap_or_default(),
            outputs,
        })
    }

    /// The answer in the protocol's JSON, on one line.
    pub(super) fn json(&self) -> String {
        let mut text = String::from("{");
        if let Some(id) = &self.id {
            let _ = write!(text, "\"id\":{},", quoted(id));
        }
        let (model, version) = (quoted(&self.model), quoted(&self.version));
        let _ = write!(text, "\"model_name\":{model},\"model_version\":{version},\"outputs\":[");
        for (index, output) in self.outputs.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (name, datatype) = (quoted(&output.name), quoted(&output.datatype));
            let shape = output.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let element = |text: &String| if output.datatype == "BYTES" { quoted(text) } else { text.clone() };
            let data = output.elements.iter().map(element).collect::<Vec<_>>().join(",");
            let _ = write!(
                text,
                "{comma}{{\"name\":{name},\"datatype\":{datatype},\"shape\":[{shape}],\"data\":[{data}]}}"
            );
        }
        text.push_str("]}\n");
        text
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

impl Output {
    fn read(output: &Value, binary: &mut Bytes) -> Result<Self, String> {
        let name = output["name"].as_str().ok_or("an output has no name")?.to_owned();
        let wrong = |why: &str| format!("output '{name}': {why}");
        let datatype = output["datatype"].as_str().ok_or_else(|| wrong("it has no datatype"))?.to_owned();
        let extent = |extent: &Value| extent.as_u64().and_then(|extent| usize::try_from(extent).ok());
        let shape = output["shape"].as_array().and_then(|shape| shape.iter().map(extent).collect::<Option<Vec<_>>>());
        let shape = shape.ok_or_else(|| wrong("it has no shape"))?;
        let elements = match (output["parameters"]["binary_data_size"].as_u64(), &output["data"]) {
            (Some(size), _) => {
                let size = usize::try_from(size).ok().filter(|size| *size <= binary.len());
                let data = binary.split_to(size.ok_or_else(|| wrong("its binary data is cut short"))?);
                element::texts(&datatype, &data).map_err(|why| wrong(&why))?
            }
            (None, data) => {
                let mut elements = Vec::new();
                leaves(data, &mut elements);
                elements
            }
        };
        let expected = shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
        if expected != Some(elements.len()) {
            return Err(wrong(&format!("shape {shape:?} does not fit {} elements", elements.len())));
        }
        Ok(Output { name, datatype, shape, elements })
    }

    fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Its columns, each with its heading.
    fn columns(&self) -> Vec<Vec<String>> {
        let inner = self.shape.get(1..).unwrap_or_default();
        let width = inner.iter().product();
        let heading = |column: usize| {
            if width == 1 {
                return self.name.clone();
            }
            let mut index = Vec::new();
            let mut rest = column;
            for extent in inner.iter().rev() {
                index.insert(0, (rest % extent).to_string());
                rest /= extent;
            }
            format!("{}[{}]", self.name, index.join(","))
        };
        let column = |column| {
            let cells = self.elements.iter().skip(column).step_by(width);
            [heading(column)].into_iter().chain(cells.map(|cell| printable(cell))).collect()
        };
        (0..width).map(column).collect()
    }
}

/// A string of a model must not move the cursor, nor break the line.
fn printable(text: &str) -> String {
    if text.contains(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

fn leaves(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| leaves(element, into)),
        Value::String(text) => into.push(text.clone()),
        other => into.push(other.to_string()),
    }
}

/// The answer for people: a row of the table is a row of the request. A terminal is given as much as fits on it.
pub(super) fn table(answer: &Answer) -> String {
    let terminal = io::stdout().is_terminal();
    let size = if terminal { terminal_size::terminal_size() } else { None };
    let limits = size.map(|(terminal_size::Width(width), _)| (usize::from(width), TERMINAL_ROWS));
    format!("{} version {}\n{}", answer.model, answer.version, tables(&answer.outputs, limits))
}

/// One table where all outputs have the same rows, else one for each.
fn tables(outputs: &[Output], limits: Option<(usize, usize)>) -> String {
    let same = outputs.windows(2).all(|pair| pair[0].rows() == pair[1].rows());
    let groups: Vec<&[Output]> = if same { vec![outputs] } else { outputs.chunks(1).collect() };
    let draw =
        |group: &&[Output]| format!("\n{}", draw(&group.iter().flat_map(Output::columns).collect::<Vec<_>>(), limits));
    groups.iter().map(draw).collect()
}

fn draw(columns: &[Vec<String>], limits: Option<(usize, usize)>) -> String {
    let downwards = columns.len() > WIDE && columns.iter().all(|column| column.len() == 2);
    let turned: Vec<Vec<String>>;
    let columns = if downwards {
        turned = (0..2).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect();
        &turned
    } else {
        columns
    };
    let (width, rows) = limits.unwrap_or((usize::MAX, usize::MAX));
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let shown = if height > rows { rows } else { height };
    // Names on the left, numbers on the right.
    let widths: Vec<_> = columns
        .iter()
        .map(|column| column.iter().take(shown).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut fitting = 0;
    let mut used = 0;
    while fitting < columns.len() && (fitting == 0 || used + widths[fitting] <= width) {
        used += widths[fitting] + 2;
        fitting += 1;
    }
    let mut text = String::new();
    for row in 0..shown {
        let mut line = String::new();
        for (column, width) in columns.iter().zip(&widths).take(fitting) {
            let cell = column.get(row).map_or("", String::as_str);
            let number = column.last().is_some_and(|last| last.parse::<f64>().is_ok() || last.ends_with("Infinity"));
            let _ = if number { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let left = [(height - shown, "rows"), (columns.len() - fitting, "columns")];
    for (count, what) in left.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(text, "... {count} more {what}; --json or a pipe shows all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, datatype: &str, shape: &[usize], elements: &[&str]) -> Output {
        let elements = elements.iter().map(|text| (*text).to_owned()).collect();
        Output { name: name.into(), datatype: datatype.into(), shape: shape.into(), elements }
    }

    #[test]
    fn outputs_of_the_same_rows_share_a_table() {
        let label = output("label", "BYTES", &[2], &["cat", "a\nb"]);
        let scores = output("scores", "FP32", &[2, 2], &["0.25", "NaN", "10.0", "1e30"]);
        let expected = "\nlabel  scores[0]  scores[1]\ncat         0.25        NaN\na\\nb        10.0       1e30\n";
        assert_eq!(tables(&[label, scores], None), expected);
        let other =
            [output("a", "INT64", &[1], &["1"]), output("b", "INT64", &[], &["2"]), output("c", "INT64", &[0, 3], &[])];
        assert_eq!(tables(&other, None), "\na\n1\n\nb\n2\n\nc[0]  c[1]  c[2]\n");
    }

    #[test]
    fn a_terminal_is_given_what_fits() {
        let elements: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        let elements: Vec<_> = elements.iter().map(String::as_str).collect();
        let text = tables(&[output("x", "INT64", &[100, 3], &elements)], Some((12, 4)));
        assert_eq!(
            text,
            "\nx[0]  x[1]\n   0     1\n   3     4\n   6     7\n... 97 more rows; --json or a pipe shows all\n... 1 more columns; --json or a pipe shows all\n"
        );
        let wide = tables(&[output("x", "INT64", &[1, 10, 30], &elements)], Some((80, 3)));
        assert_eq!(wide, "\nx[0,0]  0\nx[0,1]  1\nx[0,2]  2\n... 297 more rows; --json or a pipe shows all\n");
    }
}
