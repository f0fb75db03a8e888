//! A small count of the operator fuzzer's requests; `tests/soak/operators.py` by hand sends thousands.

use std::{path::Path, process::Command};

use crate::support::python;

const REQUIREMENTS: &str = include_str!("../../soak/requirements.txt");

/// Operators of every kind: elementwise, shapes by values, strings, sequences in time, ONNX's and Microsoft's.
const SAMPLE: &str = "Add,ArgMax,BatchNormalization,Clip,Compress,Conv,CumSum,Expand,Gather,GatherND,Gemm,LSTM,MatMul,\
    NonMaxSuppression,OneHot,Pad,QuantizeLinear,Range,ReduceSum,Resize,ScatterND,Slice,Softmax,Split,StringNormalizer,Tile,\
    TopK,Unique,Where,ai.onnx.ml:LabelEncoder,com.microsoft:FusedMatMul,com.microsoft:QLinearAdd";

/// Models of [`SAMPLE`] have inputs of undeclared rank in part, which some operators die of: those are left out.
fn fuzz(test: &str, arguments: &[&str]) {
    let Some(packages) = python::packages_of(test, REQUIREMENTS) else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/operators.py");
    let mut command = Command::new("python3");
    command.arg("-S").arg(script).args(["--binary", env!("CARGO_BIN_EXE_onnxd")]).args(arguments);
    let printed = python::python(test, &packages, &mut command);
    assert!(printed.contains("the server ended 0 times"), "{printed}");
}

#[test]
fn operators_survive_hostile_requests() {
    fuzz("operators_survive_hostile_requests", &["--requests", "12", "--operators", SAMPLE]);
}

#[test]
fn requests_without_elements_end_nothing() {
    let deadly = "Unique: no elements,LSTM: no elements,GRU: no elements,RNN: no elements,Attention: no heads";
    fuzz("requests_without_elements_end_nothing", &["--deadly", "--operators", deadly]);
}

/// Values and ranks can't be refused by shape: such models have to run in a process of their own.
#[test]
fn deadly_requests_end_no_server() {
    fuzz("deadly_requests_end_no_server", &["--deadly"]);
}
