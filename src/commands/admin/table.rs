//! Tables of text: aligned, plain, and with colours where a terminal shows them.

use std::fmt::Write as _;

use crate::{commands::output::is_coloured, terminal::escape};

/// Gap between columns.
const GAP: &str = "  ";

/// A table.
pub(super) struct TextTable {
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
}

struct Heading {
    text: &'static str,
    /// The column is aligned to the right, as numbers are.
    right: bool,
}

impl TextTable {
    /// A table with these headings. Columns whose heading begins with `>` are aligned to the right.
    pub(super) fn new(headings: &[&'static str]) -> Self {
        let heading = |text: &&'static str| match text.strip_prefix('>') {
            Some(text) => Heading { text, right: true },
            None => Heading { text, right: false },
        };
        TextTable { headings: headings.iter().map(heading).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| escape(&cell)).collect());
    }

    /// The text of the table; empty if it has no rows.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if self.rows.is_empty() {
            return text;
        }
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| length(&row[column]));
            cells.chain([length(self.headings[column].text)]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.headings.len()).map(width).collect();
        let coloured = is_coloured();
        let headings: Vec<_> = self.headings.iter().map(|heading| heading.text).collect();
        self.line(&mut text, &headings, &widths, coloured);
        for row in &self.rows {
            self.line(&mut text, &row.iter().map(String::as_str).collect::<Vec<_>>(), &widths, coloured);
        }
        text
    }

    fn line(&self, text: &mut String, cells: &[&str], widths: &[usize], coloured: bool) {
        let mut line = String::new();
        for ((cell, width), heading) in cells.iter().zip(widths).zip(&self.headings) {
            let room = " ".repeat(width - length(cell));
            let shown = if coloured { painted(cell) } else { (*cell).to_owned() };
            let _ = if heading.right { write!(line, "{room}{shown}{GAP}") } else { write!(line, "{shown}{room}{GAP}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Colours a cell that holds a state.
pub(super) fn painted(cell: &str) -> String {
    let colour = match cell {
        "READY" => 32,
        "LOADING" | "RETIRING" => 33,
        "FAILED" => 31,
        "UNLOADED" | "GONE" => 2,
        _ => return cell.to_owned(),
    };
    format!("\x1b[{colour}m{cell}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = TextTable::new(&["MODEL", ">VERSION", "STATE"]);
        assert_eq!(table.text(), "");
        table.row(vec!["größe".into(), "12".into(), "READY".into()]);
        table.row(vec!["a\nb".into(), "3".into(), String::new()]);
        assert_eq!(table.text(), "MODEL  VERSION  STATE\ngröße       12  READY\na\\nb         3\n");
    }
}
