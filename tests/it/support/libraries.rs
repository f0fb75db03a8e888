//! Libraries of NVIDIA's, as far as they are asked, made here: most machines have no GPU.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A driver with two GPUs: its NVML, in a folder that LD_LIBRARY_PATH is to name.
pub fn driver(folder: &Path) {
    compile(include_str!("nvml.c"), folder, "libnvidia-ml.so.1");
}

/// Makes a library of its text.
pub fn compile(text: &str, folder: &Path, name: &str) -> PathBuf {
    let (source, library) = (folder.join("source.c"), folder.join(name));
    std::fs::write(&source, text).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg(format!("-Wl,-soname,{name}"));
    assert!(gcc.status().unwrap().success(), "gcc does not make {name}");
    library
}
