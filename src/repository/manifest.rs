//! `SHA256SUMS` in a version's folder, in the format of `sha256sum`: what the files are, so that one that was damaged or
//! swapped on its way is not served.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use super::model::Source;
use crate::{error::Failure, host::files::Roots};

const MANIFEST: &str = "SHA256SUMS";

/// Bytes of a manifest at most.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A manifest that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Files that it lists, each with the contents that it says.
    pub files: usize,
    /// Files of the version that it does not list, by their paths in its folder.
    pub unlisted: Vec<PathBuf>,
}

impl Source {
    /// Holds the files against the manifest, if there is one. Only a version with a folder of its own can have one.
    ///
    /// # Errors
    /// A file is not what the manifest says, or the manifest is wrong; the message names the file, what was expected and what
    /// came.
    pub fn verify(&self) -> Result<Option<Verified>, Failure> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let manifest = folder.join(MANIFEST);
        let text = match self.path.roots().read_text(&manifest, MAX_MANIFEST_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !manifest.is_symlink() => return Ok(None),
            Err(error) => return Err(Failure::unreadable(&error).at(&manifest)),
        };
        self.hold(folder, &text).map(Some).map_err(|failure| failure.at(&manifest))
    }

    fn hold(&self, folder: &Path, text: &str) -> Result<Verified, Failure> {
        let lines = parse(text).map_err(Failure::lasting)?;
        let model = self.path.strip_prefix(folder).unwrap_or(&self.path);
        let listed: BTreeSet<&Path> = lines.iter().map(|line| line.path.as_path()).collect();
        if !listed.contains(model) {
            return Err(Failure::lasting(format!(
                "it does not list {}: expected the line that `sha256sum {0}` prints",
                model.display()
            )));
        }
        for line in &lines {
            let path = folder.join(&line.path);
            let named = |failure: Failure| Failure {
                why: format!("line {} lists {}: {}", line.number, line.path.display(), failure.why),
                ..failure
            };
            let got = hash(&path, self.path.roots()).map_err(|error| named(Failure::unreadable(&error)))?;
            if got != line.hash {
                return Err(Failure::lasting(format!(
                    "{} is not the file that line {} lists: expected SHA-256 {}, got {got}",
                    line.path.display(),
                    line.number,
                    line.hash
                )));
            }
        }
        let files = self.fingerprint.files().filter_map(|path| path.strip_prefix(folder).ok());
        let unlisted = files.filter(|path| !listed.contains(path) && *path != Path::new(MANIFEST));
        Ok(Verified { files: listed.len(), unlisted: unlisted.map(Path::to_owned).collect() })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ManifestLine {
    number: usize,
    /// In lower case.
    hash: String,
    /// Inside the folder.
    path: PathBuf,
}

/// The lines of a manifest. Empty ones and those that begin with # mean nothing, as to `sha256sum --check`.
fn parse(text: &str) -> Result<Vec<ManifestLine>, String> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| parse_line(number, line).map_err(|why| format!("line {number} {why}"))).collect()
}

fn parse_line(number: usize, line: &str) -> Result<ManifestLine, String> {
    let malformed = || {
        let shown: String = line.chars().take(100).collect();
        format!("is not `HASH  path` with 64 hexadecimal digits, as sha256sum prints it; got {shown:?}")
    };
    let (hash, path) = line.split_at_checked(64).ok_or_else(malformed)?;
    // Two spaces, or a space and the mark of binary mode.
    let path = path.strip_prefix("  ").or_else(|| path.strip_prefix(" *")).filter(|path| !path.is_empty());
    let path = Path::new(path.filter(|_| hash.bytes().all(|byte| byte.is_ascii_hexdigit())).ok_or_else(malformed)?);
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => inside.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(format!("lists {}: expected a path inside the version's folder", path.display()));
            }
        }
    }
    Ok(ManifestLine { number, hash: hash.to_ascii_lowercase(), path: inside })
}

/// The SHA-256 of a file, which is never in memory as a whole.
fn hash(path: &Path, roots: &Roots) -> io::Result<String> {
    let (mut file, _) = roots.open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";

    #[test]
    fn manifest_parses_sha256sum_lines() {
        let text = format!("# made by hand\n{HASH}  model.onnx\r\n\n{HASH} *./weights/a  b.bin\n");
        let lines = parse(&text).unwrap();
        let paths: Vec<_> = lines.iter().map(|line| (line.number, line.path.to_str().unwrap())).collect();
        assert_eq!(paths, [(2, "model.onnx"), (4, "weights/a  b.bin")]);
        assert_eq!(lines[0].hash, HASH.to_ascii_lowercase());
        for (line, says) in [
            (format!("{HASH} model.onnx"), "HASH  path"),
            (format!("{HASH}  "), "HASH  path"),
            (HASH[1..].to_owned() + "  model.onnx", "64 hexadecimal digits"),
            (format!("SHA256 (model.onnx) = {HASH}"), "HASH  path"),
            (format!("{HASH}  ../model.onnx"), "inside the version's folder"),
            (format!("{HASH}  /model.onnx"), "inside the version's folder"),
            ("é".repeat(63), "HASH  path"),
        ] {
            let said = parse(&format!("\n{line}")).unwrap_err();
            assert!(said.starts_with("line 2 ") && said.contains(says), "{line}: {said}");
        }
    }

    proptest! {
        #[test]
        fn manifest_parser_survives_any_text(text in "(?s).{0,200}") {
            let _ = parse(&text);
        }
    }
}
