//! The libraries of CUDA that ONNX Runtime's provider needs, made by gcc: see `cuda.c`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
};

const SOURCE: &str = include_str!("cuda.c");

/// Libraries that the provider's library names, and those that it opens later.
const LIBRARIES: [&str; 9] = [
    "libcuda.so.1",
    "libcudart.so.13",
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcurand.so.10",
    "libcudnn.so.9",
    "libcudnn_graph.so.9",
    "libcufft.so.12",
    "libnvrtc.so.13",
];

/// Makes them for a provider's library.
pub fn make(folder: &Path, provider: &Path) {
    let undefined = succeeded(Command::new("nm").args(["-D", "--undefined-only"]).arg(provider));
    let undefined = String::from_utf8(undefined.stdout).unwrap();
    let functions: BTreeSet<&str> = undefined
        .lines()
        .filter_map(|line| line.split_whitespace().next_back())
        .map(|symbol| symbol.split('@').next().unwrap_or(symbol))
        .filter(|name| name.starts_with("cu") || name.starts_with("__cuda"))
        .filter(|name| !SOURCE.contains(&format!("{name}(")))
        .collect();
    assert!(functions.len() > 50, "{undefined}");
    let mut source = SOURCE.to_owned();
    for name in functions {
        writeln!(source, "long {name}() {{ return 0; }}").unwrap();
    }
    fs::write(folder.join("cuda.c"), source).unwrap();
    for library in LIBRARIES {
        // The provider asks for functions of the library's version, which is its name, but for the driver's.
        let version = if library == "libcuda.so.1" { "" } else { library };
        fs::write(folder.join("versions"), format!("{version} {{ global: *; }};\n")).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.current_dir(folder).args(["-w", "-shared", "-fPIC", "-fno-builtin", "-Wl,--version-script=versions"]);
        succeeded(gcc.args([&format!("-Wl,-soname,{library}"), "-o", library, "cuda.c"]));
    }
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
