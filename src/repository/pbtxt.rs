//! A model's `config.pbtxt`, which Triton reads and this server does not: its settings are named, since what they say does not hold.

use std::{io, path::Path};

use super::fingerprint::FileState;
use crate::host::files::Roots;

pub(super) const PBTXT_FILE: &str = "config.pbtxt";

/// Bytes of the file that are read at most.
const MAX_BYTES: u64 = 1 << 20;

/// Keys that only describe the model: what they say is found in the model file.
const DESCRIPTIONS: [&str; 5] = ["name", "platform", "backend", "input", "output"];

/// Keys that have a counterpart in `config.toml`, or are put otherwise.
const COUNTERPARTS: [(&str, &str); 11] = [
    ("version_policy", "versions"),
    ("max_batch_size", "max_batch_size"),
    ("dynamic_batching", "max_queue_delay, max_queue_size and priority_levels"),
    ("instance_group", "instances and device"),
    ("optimization", "device"),
    ("parameters", "intra_op_threads and provider_options"),
    ("default_model_filename", "no key: rename the file to model.onnx"),
    ("cc_model_filenames", "no key: rename the file to model.onnx"),
    ("model_warmup", "no key: a load runs the model with made-up inputs and test cases"),
    ("ensemble_scheduling", "nothing: ensembles are not served"),
    ("sequence_batching", "nothing: models with a state between requests are not served"),
];

/// A `config.pbtxt` that is there and not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredConfig {
    state: Option<FileState>,
    warning: String,
}

impl IgnoredConfig {
    /// Reads the settings of the file that do not hold. Nothing is read where it is as it was `before`.
    pub(super) fn read(path: &Path, roots: &Roots, before: Option<&IgnoredConfig>) -> Self {
        let state = FileState::take(path);
        match before.filter(|before| before.state == state) {
            Some(before) => before.clone(),
            None => IgnoredConfig { state, warning: warn(path, roots.read_text(path, MAX_BYTES)) },
        }
    }

    /// For people.
    pub(super) fn warning(&self) -> &str {
        &self.warning
    }
}

fn warn(path: &Path, text: io::Result<String>) -> String {
    let path = path.display();
    let keys = match text {
        Ok(text) => keys(&text),
        Err(error) => {
            return format!("{path} is ignored, and can't be read: {error}; settings belong into config.toml");
        }
    };
    let settings: Vec<String> =
        keys.iter().filter(|key| !DESCRIPTIONS.contains(&&***key)).map(|key| named(key)).collect();
    if settings.is_empty() {
        return format!("{path} is ignored, and holds no settings; remove it, or write settings into config.toml");
    }
    format!(
        "{path} is ignored, and its settings do not hold: {}; write those that matter into config.toml beside it \
         (onnxd config --defaults --model)",
        settings.join(", ")
    )
}

/// A key, with what stands for it.
fn named(key: &str) -> String {
    match COUNTERPARTS.iter().find(|(known, _)| *known == key) {
        Some((_, counterpart)) => format!("{key} (config.toml: {counterpart})"),
        None => key.to_owned(),
    }
}

/// The keys at the top level of protobuf's text format, each once, in their order: words before `:`, `{` or `[` outside of braces,
/// texts and comments.
fn keys(text: &str) -> Vec<String> {
    let (mut keys, mut word, mut depth) = (Vec::<String>::new(), String::new(), 0_usize);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '#' => drop(characters.find(|character| *character == '\n')),
            quote @ ('"' | '\'') => {
                while let Some(character) = characters.next() {
                    match character {
                        '\\' => drop(characters.next()),
                        character if character == quote => break,
                        _ => {}
                    }
                }
                word.clear();
            }
            ':' | '{' | '[' | '<' => {
                if depth == 0 && !word.is_empty() && !keys.contains(&word) {
                    keys.push(std::mem::take(&mut word));
                }
                word.clear();
                depth += usize::from(character != ':');
            }
            '}' | ']' | '>' => {
                depth = depth.saturating_sub(1);
                word.clear();
            }
            character if character.is_ascii_alphanumeric() || character == '_' => {
                // Between a word and its colon there may be spaces, and before a key there may be a value.
                word.push(character);
            }
            // A value that is a word, such as KIND_CPU, ends before the next key.
            character if character.is_whitespace() => {
                let next = characters.as_str().trim_start().chars().next();
                if !matches!(next, Some(':' | '{' | '[' | '<')) {
                    word.clear();
                }
            }
            _ => word.clear(),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_of_the_top_level_are_found() {
        let text = r#"
            # version_policy: { all {} }
            name: "a \" { name2: 1"
            platform : 'onnxruntime_onnx' max_batch_size: 8
            input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
            output { name: "y" data_type: TYPE_FP32 dims: 1 }
            output { name: "z" }
            version_policy: { specific { versions: [1] } }
            instance_group [{ count: 2 kind: KIND_CPU }], default_model_filename: "m.onnx"
            optimization < graph { level: 1 } >
            dynamic_batching { }"#;
        let expected = [
            "name",
            "platform",
            "max_batch_size",
            "input",
            "output",
            "version_policy",
            "instance_group",
            "default_model_filename",
            "optimization",
            "dynamic_batching",
        ];
        assert_eq!(keys(text), expected);
        let said = warn(Path::new("m/config.pbtxt"), Ok(text.into()));
        for part in
            ["m/config.pbtxt is ignored", "version_policy (config.toml: versions)", "instance_group", "do not hold"]
        {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("platform"), "{said}");
        let said = warn(Path::new("m/config.pbtxt"), Ok("name: \"m\"".into()));
        assert!(said.contains("holds no settings"), "{said}");
    }

    proptest! {
        #[test]
        fn pbtxt_parser_survives_any_text(text in "(?s).{0,200}") {
            let _ = keys(&text);
        }
    }
}
