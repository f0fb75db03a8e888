//! Files of weights beside a model file: which ones the model names, and their contents.

mod locations;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use crate::{error::Failure, host::files::ModelPath};
pub(super) use locations::locations;

/// A file of weights, in memory.
#[derive(Debug, Clone)]
pub(super) struct WeightsFile {
    /// Every name that the model has for it. ONNX Runtime takes `./w.bin` for `w.bin`, and refuses a name that is given twice.
    pub(super) names: Vec<PathBuf>,
    /// Its contents.
    pub(super) contents: Arc<[u8]>,
}

/// Paths of the files that hold the weights of a model, whether they are there or not. A file that is no model names none, and
/// names that lead out of the model's folder are left out: its load reports them.
///
/// # Errors
/// The model file can't be read.
pub fn weights_files(model: &ModelPath) -> io::Result<BTreeSet<PathBuf>> {
    let (file, _) = model.roots().open(model)?;
    let named = locations(&mut BufReader::new(file))?;
    Ok(named.iter().filter_map(|location| Some(model.folder().join(inside(location)?))).collect())
}

/// Reads the files of weights that a model names, each once.
///
/// # Errors
/// For people: a file can't be read, or lies outside the model's folder.
pub(super) fn read(model: &ModelPath, locations: &BTreeSet<String>) -> Result<Vec<WeightsFile>, Failure> {
    let mut files: Vec<((u64, u64), WeightsFile)> = Vec::new();
    for location in locations {
        let of = |failure: Failure| Failure { why: format!("its weights in '{location}' {}", failure.why), ..failure };
        let (file, identity) = open(model, location).map_err(of)?;
        let name: PathBuf = Path::new(location).components().filter(|part| *part != Component::CurDir).collect();
        if let Some((_, known)) = files.iter_mut().find(|(other, _)| *other == identity) {
            if !known.names.contains(&name) {
                known.names.push(name);
            }
            continue;
        }
        let contents = read_in_pieces(&file).map_err(|error| of(unreadable(model, location, &error)))?;
        files.push((identity, WeightsFile { names: vec![name], contents: contents.into() }));
    }
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// Opens a file of weights, and says which one it is. Its name must lead nowhere but into the model's folder, and the file must
/// lie where the files of the model may: a model may come from anywhere, and is not to read what it likes.
fn open(model: &ModelPath, location: &str) -> Result<(File, (u64, u64)), Failure> {
    let Some(inside) = inside(location) else {
        return Err(Failure::lasting(format!(
            "lie outside the model's folder {}: put the file beside the model and name it by a relative path",
            model.folder().display()
        )));
    };
    let opened = model.roots().open(&model.folder().join(inside));
    let (file, metadata) = opened.map_err(|error| unreadable(model, location, &error))?;
    Ok((file, (metadata.dev(), metadata.ino())))
}

fn unreadable(model: &ModelPath, location: &str, error: &io::Error) -> Failure {
    let path = model.folder().join(location);
    let why = format!("can't be read from {}: {error}; they belong beside the model", path.display());
    // Weights may be on their way; what is no file, or lies elsewhere, stays so.
    if error.kind() == io::ErrorKind::InvalidInput { Failure::lasting(why) } else { Failure::passing(why) }
}

/// Path within the model's folder that a name of a file of weights stands for; `None` where it leads out at some point, or names
/// no file. `w/../w.bin` is `w.bin`, whatever `w` is.
fn inside(location: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(location).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (path != Path::new("")).then_some(path)
}

/// Bytes of a file that are read by one call. Another thread gets the CPU only between such calls where the kernel is not
/// preemptible.
const PIECE: u64 = 256 << 10;

/// Reads a file in pieces, so that requests don't wait for long.
pub(super) fn read_in_pieces(file: &File) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    contents.try_reserve_exact(usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX))?;
    while file.take(PIECE).read_to_end(&mut contents)? > 0 {}
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weights_stay_in_the_folder() {
        for (location, expected) in [
            ("w.bin", "w.bin"),
            ("./w.bin", "w.bin"),
            ("w/x.bin", "w/x.bin"),
            ("w/../x.bin", "x.bin"),
            ("a/b/../../x.bin", "x.bin"),
        ] {
            assert_eq!(inside(location), Some(expected.into()), "{location}");
        }
        for outside in ["", ".", "w/..", "../w.bin", "w/../../x.bin", "/etc/passwd", "w/../../m/w.bin"] {
            assert_eq!(inside(outside), None, "{outside}");
        }
    }
}
