//! A sample of ONNX's own node tests, over HTTP and gRPC: `tests/soak/node_tests.py` by hand runs them all.

use std::{path::Path, process::Command};

use crate::support::python;

const REQUIREMENTS: &str = include_str!("../soak/requirements.txt");

#[test]
fn node_tests_of_onnx_answer_bit_for_bit() {
    let test = "node_tests_of_onnx_answer_bit_for_bit";
    let Some(packages) = python::packages_of(test, REQUIREMENTS) else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/node_tests.py");
    let mut command = Command::new("python3");
    command.arg("-S").arg(script).args(["--binary", env!("CARGO_BIN_EXE_onnxd"), "--sample", "100", "--seed", "1"]);
    // The script fails where an answer differs or is missing.
    let printed = python::python(test, &packages, &mut command);
    let last = printed.lines().last().unwrap_or_default();
    let equal: usize = last.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    assert!(equal >= 80 && last.ends_with(", 0 failed"), "{printed}");
}
