//! Formats the answer to an inference: a table for people, or JSON.

use bytes::Bytes;
use http::response::Parts;
use std::{
    fmt::{Display, Write as _},
    io::{self, IsTerminal},
};

use super::headers::{JSON_LENGTH, ROUTING_REASON};
use crate::{
    json::{Reader, TensorObject, once, write_elements},
    tensor::{BytesElements, Datatype, Shape, Tensor},
    terminal::escape,
};

/// Rows that are printed on a terminal.
const TERMINAL_ROWS: usize = 40;

/// A single row of more columns than this is easier to read downwards.
const WIDE: usize = 8;

/// An answer.
#[derive(Default)]
pub(super) struct InferAnswer {
    model: Option<String>,
    version: Option<String>,
    outputs: Vec<InferOutput>,
}

struct InferOutput {
    name: String,
    shape: Vec<usize>,
    elements: Vec<String>,
    /// Names along the last axis, if they are known.
    classes: Vec<String>,
}

/// The JSON of an answer.
///
/// # Errors
/// For people: the answer has binary tensors, or is no text.
pub(super) fn json_of((parts, body): (Parts, Bytes)) -> Result<String, String> {
    if parts.headers.contains_key(JSON_LENGTH) {
        return Err("the request asks for outputs in binary, which can't be printed: leave binary_data out".into());
    }
    String::from_utf8(body.into()).map_err(|_| "the server's answer is no text".into())
}

impl InferAnswer {
    /// Reads an answer.
    ///
    /// # Errors
    /// For people: the server does not keep to the protocol.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        Self::parse(json).map_err(|why| format!("the server's answer can't be understood: {why}"))
    }

    /// The version that has answered, if its outputs may have class names.
    pub(super) fn version_with_classes(&self) -> Option<&str> {
        let has_columns = |output: &InferOutput| output.shape.len() == 2 && output.shape[1] > 1;
        self.version.as_deref().filter(|_| self.outputs.iter().any(has_columns))
    }

    /// Names columns by their classes, if there are as many names as columns.
    pub(super) fn name_classes(&mut self, labels: impl Fn(&str) -> Vec<String>) {
        for output in self.outputs.iter_mut().filter(|output| output.shape.len() == 2) {
            let labels = labels(&output.name);
            if labels.len() == output.shape[1] {
                output.classes = labels.iter().map(|label| escape(label)).collect();
            }
        }
    }

    /// The answer for people: a row of the table is a row of the request. A terminal is given as much as fits on it.
    pub(super) fn table(&self, reason: Option<&str>) -> String {
        let terminal = io::stdout().is_terminal();
        let size = if terminal { terminal_size::terminal_size() } else { None };
        let limits = size.map(|(terminal_size::Width(width), _)| (usize::from(width), TERMINAL_ROWS));
        let text = |text: &Option<String>| escape(text.as_deref().unwrap_or_default());
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{} version {}{reason}\n{}", text(&self.model), text(&self.version), tables(&self.outputs, limits))
    }

    fn parse(json: &str) -> Result<Self, String> {
        let mut answer = InferAnswer::default();
        let text = |reader: &mut Reader<'_>| reader.string().map(Into::into);
        Reader::new(json).object(|reader, key| match key {
            "model_name" => once(&mut answer.model, key, reader, text),
            "model_version" => once(&mut answer.version, key, reader, text),
            "outputs" => reader.array(|reader| {
                answer.outputs.push(InferOutput::read(reader)?);
                Ok(())
            }),
            _ => reader.skip(),
        })?;
        Ok(answer)
    }
}

impl InferOutput {
    fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let mut output = TensorObject::read(reader, |reader, _| reader.skip())?;
        let name = output.name.take().ok_or("an output has no name")?;
        let wrong = |why: &dyn Display| format!("output '{name}': {why}");
        let datatype =
            output.datatype.as_deref().and_then(Datatype::from_name).ok_or_else(|| wrong(&"unknown datatype"))?;
        let shape = Shape::from_wire(output.shape.as_deref().unwrap_or_default()).map_err(|error| wrong(&error))?;
        let elements = output.elements(datatype).map_err(|why| wrong(&why))?.ok_or_else(|| wrong(&"it has no data"))?;
        let tensor = elements.into_tensor(shape.clone()).map_err(|error| wrong(&error))?;
        Ok(InferOutput { shape: shape.extents().into(), elements: texts(&tensor), name, classes: Vec::new() })
    }

    fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Columns of the output, each with its heading.
    fn columns(&self) -> Vec<Vec<String>> {
        let inner = self.shape.get(1..).unwrap_or_default();
        let width = inner.iter().product();
        let heading = |column: usize| {
            if width == 1 {
                return self.name.clone();
            }
            if let Some(class) = self.classes.get(column) {
                return format!("{}[{class}]", self.name);
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
            [heading(column)].into_iter().chain(cells.map(|cell| escape(cell))).collect()
        };
        (0..width).map(column).collect()
    }
}

/// Each element as text.
fn texts(tensor: &Tensor) -> Vec<String> {
    if tensor.datatype() == Datatype::Bytes {
        return BytesElements::new(tensor.data())
            .map(|element| String::from_utf8_lossy(element).into_owned())
            .collect();
    }
    let mut json = Vec::new();
    write_elements(&mut json, tensor);
    let json = String::from_utf8_lossy(&json);
    let elements = json.trim_matches(['[', ']']).split(',').map(str::to_owned);
    elements.filter(|element| !element.is_empty()).collect()
}

/// Reason why that version has answered, if the answer has one.
pub(super) fn reason((parts, _): &(Parts, Bytes)) -> Option<String> {
    let reason = parts.headers.get(ROUTING_REASON)?.to_str().ok()?;
    Some(escape(reason))
}

/// One table where all outputs have the same rows, else one for each.
fn tables(outputs: &[InferOutput], limits: Option<(usize, usize)>) -> String {
    let same = outputs.windows(2).all(|pair| pair[0].rows() == pair[1].rows());
    let groups: Vec<&[InferOutput]> = if same { vec![outputs] } else { outputs.chunks(1).collect() };
    let draw = |group: &&[InferOutput]| {
        format!("\n{}", draw(&group.iter().flat_map(InferOutput::columns).collect::<Vec<_>>(), limits))
    };
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

    fn output(name: &str, shape: &[usize], elements: &[&str]) -> InferOutput {
        let elements = elements.iter().map(|text| (*text).to_owned()).collect();
        InferOutput { name: name.into(), shape: shape.into(), elements, classes: Vec::new() }
    }

    #[test]
    fn outputs_of_the_same_rows_share_a_table() {
        let label = output("label", &[2], &["cat", "a\nb"]);
        let scores = output("scores", &[2, 2], &["0.25", "NaN", "10.0", "1e30"]);
        let expected = "\nlabel  scores[0]  scores[1]\ncat         0.25        NaN\na\\nb        10.0       1e30\n";
        assert_eq!(tables(&[label, scores], None), expected);
        let other = [output("a", &[1], &["1"]), output("b", &[], &["2"]), output("c", &[0, 3], &[])];
        assert_eq!(tables(&other, None), "\na\n1\n\nb\n2\n\nc[0]  c[1]  c[2]\n");
    }

    #[test]
    fn terminal_table_shows_the_rows_that_fit() {
        let elements: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        let elements: Vec<_> = elements.iter().map(String::as_str).collect();
        let text = tables(&[output("x", &[100, 3], &elements)], Some((12, 4)));
        assert_eq!(
            text,
            "\nx[0]  x[1]\n   0     1\n   3     4\n   6     7\n... 97 more rows; --json or a pipe shows all\n... 1 more columns; --json or a pipe shows all\n"
        );
        let wide = tables(&[output("x", &[1, 10, 30], &elements)], Some((80, 3)));
        assert_eq!(wide, "\nx[0,0]  0\nx[0,1]  1\nx[0,2]  2\n... 297 more rows; --json or a pipe shows all\n");
    }
}
