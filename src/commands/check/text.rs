//! Findings of `onnxd check` as text for people.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal},
};

use super::report::{Served, VersionReport, shape};
use crate::{
    config::rounded,
    engine::RowProof,
    tensor::{Signature, TensorSpec},
};

/// Nodes to list on the path from the responsible node to an output.
const MAX_CHAIN: usize = 8;

/// Labels to list of an output.
const MAX_LISTED: usize = 6;

/// A model that would not serve, whatever its versions are.
pub(super) fn problem(model: &str, why: &str) -> String {
    let mut page = Page::new(&format!("model {model}"), Err(()));
    page.line("error", why);
    page.text
}

/// A file that looks like a model and would not be served at all.
pub(super) fn unserved(why: &str) -> String {
    let mut page = Page::new("what matches no layout", Err(()));
    page.line("error", why);
    page.text
}

/// One version.
pub(super) fn version(checked: &VersionReport<'_>) -> String {
    let title = format!("{} version {}", checked.model, checked.version);
    let mut page = Page::new(&title, checked.outcome.as_ref().map(drop).map_err(drop));
    let size = rounded(checked.source.fingerprint.size());
    page.line("files", &format!("{} ({size})", checked.source.path.display()));
    if let Some(header) = &checked.header {
        let sets = header.operator_sets.iter().map(|set| format!("{} {}", set.domain(), set.version));
        let by = header.producer().map(|producer| format!(", by {producer}")).unwrap_or_default();
        let sets = sets.collect::<Vec<_>>().join(", ");
        page.line("format", &format!("IR version {}, operator sets {sets}{by}", header.ir_version));
    }
    match &checked.outcome {
        Ok(served) => page.served(served, checked),
        Err(why) => {
            page.line("error", why);
            checked.warning.iter().for_each(|warning| page.line("warning", warning));
        }
    }
    page.text
}

struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn new(title: &str, outcome: Result<(), ()>) -> Self {
        let colour = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut page = Page { text: String::new(), colour };
        let (colour, word) = if outcome.is_ok() { ("32", "would serve") } else { ("31", "WOULD NOT SERVE") };
        let title = plain(title);
        let word = page.coloured(colour, word);
        let _ = writeln!(page.text, "{title}: {word}");
        page
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.into() }
    }

    fn line(&mut self, label: &str, text: &str) {
        // Padded before it is coloured: the colour codes would count as width.
        let padded = format!("{label:<10}");
        let padded = match label {
            "warning" => self.coloured("33", &padded),
            "error" => self.coloured("31", &padded),
            _ => padded,
        };
        let _ = writeln!(self.text, "  {padded}  {}", plain(text));
    }

    fn served(&mut self, served: &Served, checked: &VersionReport<'_>) {
        let has_folder = checked.source.folder.is_some();
        let Served { version, found, warnings, example } = served;
        self.signature(&version.signature);
        self.line("device", &version.derived.device_text());
        if let Some(graphs) = version.derived.graphs_text() {
            self.line("graphs", &graphs);
        }
        self.line("batching", &version.derived.batching_text());
        self.rows(&version.derived.row_proof);
        let row = found.row.map(|row| format!("{:.3} ms for a row", row.as_secs_f64() * 1000.0));
        let unprobed = || match &found.probe_error {
            Some(why) => format!("no made-up inputs could be run: {why}"),
            None => "no made-up inputs could be run".into(),
        };
        self.line("probe", &row.unwrap_or_else(unprobed));
        self.line("memory", &format!("a run may hold {}", rounded(found.max_run_memory as u64)));
        self.line("threads", &format!("{} for a run: {}", version.derived.intra_op_threads, found.threads_why));
        self.line("in place", &version.derived.in_place_text());
        self.line("isolation", &version.derived.isolation_text());
        self.line("instances", &version.derived.instances.to_string());
        if let Some(verified) = &found.manifest {
            self.line("manifest", &format!("SHA256SUMS holds for {} files", verified.files));
        }
        match found.test_cases.passed.as_slice() {
            [] if has_folder => self.line("tests", "none: put requests with their answers into tests/*.json"),
            [] => self.line("tests", "none: only a version with a folder of its own can have them"),
            passed => {
                self.line("tests", &format!("{} passed", passed.len()));
                for (file, description) in passed {
                    let name = file.file_name().unwrap_or_default().to_string_lossy();
                    let description = description.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
                    self.line("", &format!("{name}{description}"));
                }
            }
        }
        for warning in warnings.iter().map(String::as_str).chain(checked.warning) {
            self.line("warning", warning);
        }
        match example {
            Ok(example) => self.line("try", &example.command),
            Err(why) => self.line("try", why),
        }
    }

    /// The verdict on the rows of a batch, with the path of nodes from the responsible one to an output.
    fn rows(&mut self, proof: &RowProof) {
        let (verdict, finding) = match proof {
            RowProof::Proven => return self.line("rows", "proven to be independent of each other"),
            RowProof::Mixes(finding) => ("mix", finding),
            RowProof::Unproven(finding) => ("not proven to be independent", finding),
        };
        self.line("rows", &format!("{verdict}: {finding}"));
        for (index, node) in finding.chain.iter().enumerate().skip(1) {
            let rest = finding.chain.len() - index;
            if index > MAX_CHAIN && rest > 1 {
                self.line("", &format!("-> {} more nodes -> {}", rest - 1, finding.chain[finding.chain.len() - 1]));
                return;
            }
            self.line("", &format!("-> {node}"));
        }
    }

    fn signature(&mut self, signature: &Signature) {
        let all = signature.all_inputs().chain(&signature.outputs);
        let width = all.map(|spec| plain(&spec.name).chars().count()).max().unwrap_or(0).min(40);
        let optional = signature.inputs.len();
        for (index, spec) in signature.all_inputs().enumerate() {
            let note = if index < optional { "" } else { " optional" };
            self.tensor(if index == 0 { "inputs" } else { "" }, spec, width, note);
        }
        for (index, spec) in signature.outputs.iter().enumerate() {
            self.tensor(if index == 0 { "outputs" } else { "" }, spec, width, &labels(&spec.labels));
        }
    }

    fn tensor(&mut self, label: &str, spec: &TensorSpec, width: usize, note: &str) {
        let name = plain(&spec.name);
        self.line(label, &format!("{name:<width$}  {:<6}  {}{note}", spec.datatype.name(), shape(spec)));
    }
}

fn labels(labels: &[String]) -> String {
    let more =
        if labels.len() > MAX_LISTED { format!(" and {} more", labels.len() - MAX_LISTED) } else { String::new() };
    let listed: Vec<_> = labels.iter().take(MAX_LISTED).map(String::as_str).collect();
    if labels.is_empty() { String::new() } else { format!(" labels: {}{more}", listed.join(", ")) }
}

/// Escapes text for a terminal: a model's name must not move the cursor.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if character.is_control() => plain.extend(character.escape_default()),
            character => plain.push(character),
        }
    }
    plain
}
