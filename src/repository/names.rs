//! Names of files in a repository.

use std::path::Path;

pub(super) const MODEL_FILE: &str = "model.onnx";
pub(super) const CONFIG_FILE: &str = "config.toml";

/// The name of a file or folder, unless it is hidden or not text.
pub(super) fn visible_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| !name.starts_with('.'))
}

pub(super) fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}
