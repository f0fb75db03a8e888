//! The model repository: a folder, read as it is now.
//!
//! `DIR/<model>/<version>/model.onnx` (Triton's layout), `DIR/<model>/<version>.onnx`, or `DIR/<model>.onnx` (version 1); a
//! model's folder may hold a `config.toml`, also beside its file. A file or folder that looks like a model and
//! matches none of these is named by [`Repository::unserved`]. The registry judges the files.

mod cases;
mod fingerprint;
mod inspect;
mod layout;
mod manifest;
mod model;
mod names;
mod pbtxt;
mod recognise;
mod root;
mod scan;

pub use fingerprint::Fingerprint;
pub use manifest::Verified;
pub use model::{RepositoryModel, Scan, Source};
pub use pbtxt::IgnoredConfig;
pub use root::Repository;
