//! The default state folder.

use sha2::{Digest, Sha256};
use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Parent of the state folder of a service without a home.
const SYSTEM: &str = "/var/lib";

/// Hexadecimal digits of the hash in the name.
const DIGITS: usize = 16;

/// The folder for the state of a repository: named after it, in `$XDG_STATE_HOME`, else `~/.local/state`, else `/var/lib`.
/// `variable` reads the environment.
pub fn default_folder(repository: &Path, variable: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    // A path that can't be followed now is known by how it is written.
    let path = fs::canonicalize(repository).or_else(|_| std::path::absolute(repository));
    let path: PathBuf = path.unwrap_or_else(|_| repository.to_owned()).components().collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hash: String =
        Sha256::digest(path.as_os_str().as_bytes()).iter().map(|byte| format!("{byte:02x}")).take(DIGITS / 2).collect();
    // Relative ones are to be ignored, says the XDG Base Directory Specification.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.unwrap_or_else(|| SYSTEM.into()).join("onnxd").join(format!("{name}-{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_folder_is_unique_per_repository() {
        let place = |repository: &str, variables: &[(&str, &str)]| {
            let variable =
                |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).into());
            default_folder(Path::new(repository), &variable).to_str().unwrap().to_owned()
        };
        let models = place("/srv/models", &[("XDG_STATE_HOME", "/state"), ("HOME", "/home/a")]);
        let hash = models.strip_prefix("/state/onnxd/models-").unwrap();
        assert_eq!(hash.len(), DIGITS);
        assert_eq!(
            place("/srv/models/", &[("XDG_STATE_HOME", "state"), ("HOME", "/home/a")]),
            format!("/home/a/.local/state/onnxd/models-{hash}")
        );
        assert_eq!(place("/srv/models", &[("HOME", "")]), format!("/var/lib/onnxd/models-{hash}"));
        assert_ne!(place("/other/models", &[]), place("/srv/models", &[]));
    }
}
