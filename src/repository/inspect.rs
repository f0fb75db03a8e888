//! First checks of a model file. A file that is no model at all gets a better message than ONNX Runtime's. ONNX Runtime does
//! not get such a file: it would wait for a pipe and read any number of bytes.

use std::{fs, io::Read, path::Path};

use super::{
    model::Source,
    names::MODEL_FILE,
    recognise::{HEAD, Seems, by_name, recognise},
};
use crate::{error::Failure, host::files::Roots};

/// Bytes that a protobuf message, which a model file is, can have.
const MAX_MODEL_FILE_BYTES: u64 = (1 << 31) - 1;

/// Entries of a folder that are listed where the model file is missing.
const MAX_LISTED: usize = 8;

impl Source {
    /// Checks that the model file may be a model.
    ///
    /// # Errors
    /// It is something else. The message has the path, and what it is.
    pub fn inspect(&self) -> Result<(), Failure> {
        self.inspect_file().map_err(|failure| failure.at(&self.path))
    }

    fn inspect_file(&self) -> Result<(), Failure> {
        let (file, metadata) = match self.path.roots().open(&self.path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(self.missing()),
            Err(error) => return Err(Failure::unreadable(&error)),
        };
        let size = metadata.len();
        if size == 0 {
            return Err(Failure::lasting("it is empty, expected an ONNX model: was it copied or exported to its end?"));
        }
        let mut head = Vec::with_capacity(HEAD);
        file.take(HEAD as u64).read_to_end(&mut head).map_err(|error| Failure::unreadable(&error))?;
        if let Some(seems) = recognise(&head, size) {
            return Err(Failure::lasting(seems.to_string()));
        }
        if size > MAX_MODEL_FILE_BYTES {
            return Err(Failure::lasting(format!(
                "an ONNX file has {MAX_MODEL_FILE_BYTES} bytes at most, got {size}: save the weights beside it \
                 (onnx.save(model, path, save_as_external_data=True))"
            )));
        }
        Ok(())
    }

    /// The failure for a missing model file, which names what is there instead.
    fn missing(&self) -> Failure {
        if let Ok(target) = fs::read_link(&self.path) {
            return Failure::lasting(format!("it is a link to {}, which is not there", target.display()));
        }
        let Some(folder) = &self.folder else {
            return Failure::lasting("there is no such file");
        };
        let mut names: Vec<String> = match fs::read_dir(folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
            Err(error) => return Failure::unreadable(&error).at(folder),
        };
        names.sort();
        if names.is_empty() {
            return Failure::lasting("there is no such file: its folder is empty");
        }
        let mut models = names.iter().filter(|name| name.ends_with(".onnx"));
        let advice = match (models.next(), models.next()) {
            (Some(model), None) => format!("; rename {model} to {MODEL_FILE}"),
            (None, _) => match names
                .iter()
                .find_map(|name| by_name(name).or_else(|| seems(&folder.join(name), self.path.roots())))
            {
                Some(other) if !other.what().starts_with("text") => {
                    format!("; only ONNX models are served: {}", other.advice())
                }
                _ => String::new(),
            },
            _ => String::new(),
        };
        let more = names.len().saturating_sub(MAX_LISTED);
        let listed: Vec<String> =
            names.into_iter().take(MAX_LISTED).map(|name| described(folder, name, self.path.roots())).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Failure::lasting(format!("there is no such file: its folder holds {}{more}{advice}", listed.join(", ")))
    }
}

/// A name, with what the file seems to be.
fn described(folder: &Path, name: String, roots: &Roots) -> String {
    match seems(&folder.join(&name), roots).filter(|seems| !seems.what().starts_with("text")).or_else(|| by_name(&name))
    {
        Some(seems) => format!("{name} ({})", seems.what()),
        None => name,
    }
}

fn seems(path: &Path, roots: &Roots) -> Option<Seems> {
    let (file, metadata) = roots.open(path).ok()?;
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head).ok()?;
    recognise(&head, metadata.len())
}
