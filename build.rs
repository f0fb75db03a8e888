//! Compiles the protocol definitions (in Rust: no protoc is needed) and brings ONNX Runtime into the user's cache.

#[path = "build/onnx_runtime.rs"]
mod onnx_runtime;

use std::{env, error::Error, fs, path::PathBuf};

/// The definitions of each port, and the file for what its gRPC reflection serves.
const PORTS: [(&str, &[&str]); 2] = [
    ("descriptors.bin", &["inference.proto", "health.proto"]),
    ("admin_descriptors.bin", &["admin.proto", "health.proto"]),
];

const ALL: [&str; 3] = ["inference.proto", "health.proto", "admin.proto"];

/// Its messages are the JSON of the admin API too.
const ADMIN: &str = "onnxd.admin.v1";

fn main() -> Result<(), Box<dyn Error>> {
    compile_protos()?;
    onnx_runtime::fetch_for_target();
    Ok(())
}

fn compile_protos() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (name, files) in PORTS {
        fs::write(out.join(name), prost::Message::encode_to_vec(&protox::compile(files, ["proto"])?))?;
    }
    let descriptors = protox::compile(ALL, ["proto"])?;
    let package = format!(".{ADMIN}");
    let mut builder = tonic_prost_build::configure()
        .type_attribute(&package, "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]")
        .btree_map(&package);
    let admin = descriptors.file.iter().filter(|file| file.package() == ADMIN);
    for request in admin.flat_map(|file| &file.message_type).filter(|message| message.name().ends_with("Request")) {
        // An unknown field of a request is its sender's mistake. In an answer it is something that a newer server reports.
        builder = builder.message_attribute(format!("{package}.{}", request.name()), "#[serde(deny_unknown_fields)]");
    }
    builder
        // Tensors stay slices of the message that they came in.
        .build_transport(false)
        .bytes(".inference")
        // Most messages don't use this field, and take no room for it: lists of such messages begin with room for four.
        .boxed(".inference.ModelInferRequest.InferInputTensor.contents")
        .btree_map(".inference")
        .compile_fds(descriptors)?;
    Ok(())
}
