//! Compiles the protocol definitions (in Rust: no protoc is needed) and brings ONNX Runtime into the user's cache.

#[path = "build/onnx_runtime.rs"]
mod onnx_runtime;

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 2] = ["inference.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    compile_protos()?;
    onnx_runtime::fetch_for_target();
    Ok(())
}

fn compile_protos() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The descriptors are what gRPC reflection serves.
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        // Tensors stay slices of the message that they came in.
        .build_transport(false)
        .bytes(".inference")
        // What most messages have no use for takes no room in those: lists of such messages begin with room for four.
        .boxed(".inference.ModelInferRequest.InferInputTensor.contents")
        .btree_map(".inference")
        .compile_fds(descriptors)?;
    Ok(())
}
