//! Writer of Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use super::histogram::HistogramSnapshot;

/// A metric family: its name, type and help, and the function that writes its series.
pub(super) struct Family<T> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    write: Write<T>,
}

/// Function that writes the series of a thing.
type Write<T> = fn(&mut Series<'_>, &T);

impl<T> Family<T> {
    pub(super) const fn counter(name: &'static str, help: &'static str, write: Write<T>) -> Self {
        Family { name, kind: "counter", help, write }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str, write: Write<T>) -> Self {
        Family { name, kind: "gauge", help, write }
    }

    pub(super) const fn histogram(name: &'static str, help: &'static str, write: Write<T>) -> Self {
        Family { name, kind: "histogram", help, write }
    }

    /// A summary without quantiles.
    pub(super) const fn summary(name: &'static str, help: &'static str, write: Write<T>) -> Self {
        Family { name, kind: "summary", help, write }
    }
}

/// A text that is passed on piece by piece, so that it never exists as a whole.
pub(super) struct Text<'a> {
    piece: String,
    give: &'a mut dyn FnMut(&str),
}

/// Bytes of a piece: written in less than a tenth of a millisecond.
const PIECE: usize = 64 << 10;

impl<'a> Text<'a> {
    pub(super) fn new(give: &'a mut dyn FnMut(&str)) -> Self {
        Text { piece: String::with_capacity(PIECE + PIECE / 8), give }
    }

    /// Writes families of things, each with its labels.
    pub(super) fn write<T>(&mut self, families: &[Family<T>], things: &[(String, &T)]) {
        for Family { name, kind, help, write } in families {
            // Writing into memory can't fail.
            let _ = write!(self.piece, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, thing) in things {
                write(&mut Series { text: &mut self.piece, name, labels }, thing);
                if self.piece.len() >= PIECE {
                    self.give();
                }
            }
        }
    }

    /// Passes on the text that has been written.
    pub(super) fn give(&mut self) {
        (self.give)(&self.piece);
        self.piece.clear();
    }
}

/// The series of one thing in a family.
pub(super) struct Series<'a> {
    text: &'a mut String,
    name: &'static str,
    labels: &'a str,
}

impl Series<'_> {
    pub(super) fn value(&mut self, value: impl Number) {
        self.line("", None, value);
    }

    pub(super) fn optional(&mut self, value: Option<impl Number>) {
        if let Some(value) = value {
            self.value(value);
        }
    }

    /// Writes a series with one more label.
    pub(super) fn labelled(&mut self, label: &str, is: &str, value: impl Number) {
        self.line("", Some((label, is)), value);
    }

    pub(super) fn histogram(&mut self, histogram: &HistogramSnapshot) {
        for (bound, cumulative) in histogram.cumulative() {
            self.line("_bucket", Some(("le", bound)), cumulative);
        }
        self.summary(histogram);
    }

    pub(super) fn summary(&mut self, histogram: &HistogramSnapshot) {
        self.line("_sum", None, histogram.sum_in_units());
        self.line("_count", None, histogram.count());
    }

    fn line(&mut self, suffix: &str, label: Option<(&str, &str)>, value: impl Number) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        if !self.labels.is_empty() || label.is_some() {
            text.push('{');
            text.push_str(self.labels);
            if let Some((label, is)) = label {
                if !self.labels.is_empty() {
                    text.push(',');
                }
                for part in [label, "=\"", is, "\""] {
                    text.push_str(part);
                }
            }
            text.push('}');
        }
        text.push(' ');
        value.write(text);
        text.push('\n');
    }
}

/// A number in the text format.
pub(super) trait Number {
    fn write(self, text: &mut String);
}

impl Number for u64 {
    fn write(self, text: &mut String) {
        text.push_str(itoa::Buffer::new().format(self));
    }
}

impl Number for bool {
    fn write(self, text: &mut String) {
        text.push(if self { '1' } else { '0' });
    }
}

impl Number for f64 {
    fn write(self, text: &mut String) {
        // Writing into memory can't fail.
        let _ = match self {
            f64::INFINITY => write!(text, "+Inf"),
            _ => write!(text, "{self}"),
        };
    }
}

/// Labels as written between the braces. Values may contain any character.
pub(super) fn labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (label, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(label);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

/// The labels of a version.
pub(super) fn version_labels(model: &str, version: u64) -> String {
    labels([("model", model), ("version", itoa::Buffer::new().format(version))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_follow_the_prometheus_text_format() {
        let families = [Family::<f64>::gauge("a_seconds", "What it is.", |series, value| {
            series.value(*value);
            series.labelled("code", "ok", 7_u64);
        })];
        let mut text = String::new();
        let named = version_labels("odd \"one\" \\ of\nlines", 3);
        let mut give = |piece: &str| text.push_str(piece);
        let mut written = Text::new(&mut give);
        written.write(&families, &[(String::new(), &0.00005), (named, &f64::INFINITY)]);
        written.give();
        let expected = r#"# HELP a_seconds What it is.
# TYPE a_seconds gauge
a_seconds 0.00005
a_seconds{code="ok"} 7
a_seconds{model="odd \"one\" \\ of\nlines",version="3"} +Inf
a_seconds{model="odd \"one\" \\ of\nlines",version="3",code="ok"} 7
"#;
        assert_eq!(text, expected);
    }
}
