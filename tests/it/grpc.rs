//! The Open Inference Protocol over gRPC.

use bytes::Bytes;
use onnxd::api::proto::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest,
    ServerMetadataRequest, ServerReadyRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferRequestedOutputTensor,
};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{
    client::{float_bytes, floats, infer, inference, input, metric, raw_request},
    embedded::Embedded,
    onnx,
};

/// A request that changes a good one, and what must be said about it.
struct Wrong {
    what: &'static str,
    change: fn(&mut ModelInferRequest),
    code: Code,
    says: &'static [&'static str],
}

const INVALID: Code = Code::InvalidArgument;

#[rustfmt::skip]
const WRONG: &[Wrong] = &[
    Wrong { what: "unknown model", change: |r| r.model_name = "nobody".into(), code: Code::NotFound, says: &["'nobody'"] },
    Wrong { what: "unknown version", change: |r| r.model_version = "7".into(), code: Code::NotFound, says: &["'pair'", "7", "versions are: 1"] },
    Wrong { what: "unknown alias", change: |r| r.model_version = "abc".into(), code: Code::NotFound, says: &["'pair'", "no alias 'abc'", "aliases are: none"] },
    Wrong { what: "neither version nor alias", change: |r| r.model_version = "a b".into(), code: INVALID, says: &["'pair'", "'a b'", "an integer > 0, or an alias"] },
    Wrong { what: "version 0", change: |r| r.model_version = "0".into(), code: INVALID, says: &["'pair'", "'0'", "an integer > 0"] },
    Wrong { what: "negative version", change: |r| r.model_version = "-1".into(), code: INVALID, says: &["'pair'", "'-1'", "an integer > 0"] },
    Wrong { what: "signed version", change: |r| r.model_version = "+1".into(), code: INVALID, says: &["'pair'", "'+1'", "an integer > 0"] },
    Wrong { what: "huge version", change: |r| r.model_version = "99999999999999999999".into(), code: INVALID, says: &["'pair'", "99999999999999999999"] },

    Wrong { what: "unknown input", change: |r| r.inputs[0].name = "c".into(), code: INVALID, says: &["'pair'", "'c'", "'a', 'b'"] },
    Wrong { what: "missing input", change: |r| drop((r.inputs.pop(), r.raw_input_contents.pop())), code: INVALID, says: &["'pair'", "expected 2", "got 1", "missing 'b'"] },
    Wrong { what: "no inputs", change: |r| { r.inputs.clear(); r.raw_input_contents.clear() }, code: INVALID, says: &["'pair'", "expected 2", "got 0", "missing 'a', 'b'"] },
    Wrong { what: "extra input", change: |r| add_input(r, "c"), code: INVALID, says: &["'pair'", "'c'", "'a', 'b'"] },
    Wrong { what: "input twice", change: |r| add_input(r, "a"), code: INVALID, says: &["'pair'", "'a'", "already"] },

    Wrong { what: "wrong datatype", change: |r| r.inputs[0].datatype = "INT32".into(), code: INVALID, says: &["'pair'", "'a'", "expected datatype FP32", "got INT32"] },
    Wrong { what: "unknown datatype", change: |r| r.inputs[0].datatype = "FP23".into(), code: INVALID, says: &["'pair'", "'a'", "'FP23'", "FP32"] },
    Wrong { what: "no datatype", change: |r| r.inputs[0].datatype.clear(), code: INVALID, says: &["'pair'", "'a'", "''", "FP32"] },
    Wrong { what: "wrong rank", change: |r| r.inputs[0].shape = vec![2], code: INVALID, says: &["'pair'", "'a'", "expected shape [-1,2]", "got [2]"] },
    Wrong { what: "wrong dimension", change: |r| r.inputs[0].shape = vec![2, 1], code: INVALID, says: &["'pair'", "'a'", "expected shape [-1,2]", "got [2,1]"] },
    Wrong { what: "negative dimension", change: |r| r.inputs[0].shape = vec![-1, 2], code: INVALID, says: &["'pair'", "'a'", "[-1, 2]", "negative"] },
    Wrong { what: "too many elements", change: |r| r.inputs[0].shape = vec![i64::MAX, 2, 2], code: INVALID, says: &["'pair'", "'a'", "9223372036854775807", "memory"] },
    Wrong { what: "too many bytes", change: |r| r.inputs[0].shape = vec![1 << 61, 2], code: INVALID, says: &["'pair'", "'a'", "2305843009213693952", "memory"] },
    Wrong { what: "more rows than data", change: |r| r.inputs[0].shape = vec![1 << 40, 2], code: INVALID, says: &["'pair'", "'a'", "[1099511627776,2]", "got 8 bytes"] },
    Wrong { what: "too few bytes", change: |r| r.raw_input_contents[1] = Bytes::from(vec![0; 7]), code: INVALID, says: &["'pair'", "'b'", "[1,2] of FP32", "8 bytes", "got 7 bytes"] },
    Wrong { what: "too many bytes given", change: |r| r.raw_input_contents[1] = Bytes::from(vec![0; 16]), code: INVALID, says: &["'pair'", "'b'", "[1,2] of FP32", "8 bytes", "got 16 bytes"] },
    Wrong { what: "different batch sizes", change: |r| { r.inputs[1].shape = vec![2, 2]; r.raw_input_contents[1] = Bytes::from(vec![0; 16]) }, code: INVALID, says: &["'pair'", "'b'", "batch size", "is 2", "'a' has 1"] },
    Wrong { what: "byte 2 for BOOL", change: |r| single(r, "BOOL", 1, &[0, 2]), code: INVALID, says: &["'BOOL'", "'x'", "0 or 1", "got 2"] },

    Wrong { what: "fewer raw contents than inputs", change: |r| drop(r.raw_input_contents.pop()), code: INVALID, says: &["'pair'", "raw_input_contents", "2 inputs", "got 1"] },
    Wrong { what: "more raw contents than inputs", change: |r| r.raw_input_contents.push(Bytes::new()), code: INVALID, says: &["'pair'", "raw_input_contents", "2 inputs", "got 3"] },
    Wrong { what: "raw and typed", change: |r| r.inputs[1].contents = Some(Box::new(InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() })), code: INVALID, says: &["'pair'", "'b'", "contents", "raw_input_contents"] },
    Wrong { what: "no data", change: |r| r.raw_input_contents.clear(), code: INVALID, says: &["'pair'", "'a'", "no data"] },
    Wrong { what: "wrong contents field", change: |r| typed(r, "FP32", InferTensorContents { int_contents: vec![1, 2], ..Default::default() }), code: INVALID, says: &["'FP32'", "'x'", "FP32 elements must stand in fp32_contents", "got int_contents"] },
    Wrong { what: "two contents fields", change: |r| typed(r, "FP32", InferTensorContents { fp32_contents: vec![1.0, 2.0], int64_contents: vec![1], ..Default::default() }), code: INVALID, says: &["'FP32'", "'x'", "fp32_contents", "got int64_contents"] },
    Wrong { what: "too few typed elements", change: |r| typed(r, "INT64", InferTensorContents { int64_contents: vec![1], ..Default::default() }), code: INVALID, says: &["'INT64'", "'x'", "[1,2] of INT64", "got 8 bytes"] },
    Wrong { what: "UINT8 too large", change: |r| typed(r, "UINT8", InferTensorContents { uint_contents: vec![255, 256], ..Default::default() }), code: INVALID, says: &["'UINT8'", "'x'", "element 1 is 256"] },
    Wrong { what: "INT8 too small", change: |r| typed(r, "INT8", InferTensorContents { int_contents: vec![-129, 0], ..Default::default() }), code: INVALID, says: &["'INT8'", "'x'", "element 0 is -129"] },
    Wrong { what: "INT16 too large", change: |r| typed(r, "INT16", InferTensorContents { int_contents: vec![0, 32768], ..Default::default() }), code: INVALID, says: &["'INT16'", "'x'", "element 1 is 32768"] },
    Wrong { what: "UINT16 too large", change: |r| typed(r, "UINT16", InferTensorContents { uint_contents: vec![0, 65536], ..Default::default() }), code: INVALID, says: &["'UINT16'", "'x'", "element 1 is 65536"] },
    Wrong { what: "typed FP16", change: |r| typed(r, "FP16", InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() }), code: INVALID, says: &["'FP16'", "'x'", "no contents for FP16", "raw_input_contents"] },
    Wrong { what: "too few bytes for BF16", change: |r| single(r, "BF16", 1, &[0; 3]), code: INVALID, says: &["'BF16'", "'x'", "[1,2] of BF16", "4 bytes", "got 3 bytes"] },
    Wrong { what: "too few elements of BYTES", change: |r| single(r, "BYTES", 1, &[1, 0, 0, 0, b'a']), code: INVALID, says: &["'BYTES'", "'x'", "[1,2] of BYTES", "2 elements", "got 1 elements"] },
    Wrong { what: "too many elements of BYTES", change: |r| single(r, "BYTES", 1, &[0; 12]), code: INVALID, says: &["'BYTES'", "'x'", "2 elements", "got 3 elements"] },
    Wrong { what: "a length of BYTES cut short", change: |r| single(r, "BYTES", 1, &[1, 0, 0, 0, b'a', 5, 0, 0]), code: INVALID, says: &["'BYTES'", "'x'", "element 1", "4 bytes", "got 3 bytes"] },
    Wrong { what: "an element of BYTES cut short", change: |r| single(r, "BYTES", 1, &[1, 0, 0, 0, b'a', 5, 0, 0, 0, b'b']), code: INVALID, says: &["'BYTES'", "'x'", "element 1", "takes 5 bytes", "got 1 bytes"] },
    Wrong { what: "an element of BYTES of 4 GiB", change: |r| single(r, "BYTES", 1, &[255, 255, 255, 255, b'b']), code: INVALID, says: &["'BYTES'", "'x'", "element 0", "takes 4294967295 bytes", "got 1 bytes"] },
    Wrong { what: "too few typed elements of BYTES", change: |r| typed(r, "BYTES", InferTensorContents { bytes_contents: vec![Bytes::from_static(b"a")], ..Default::default() }), code: INVALID, says: &["'BYTES'", "'x'", "2 elements", "got 1 elements"] },
    Wrong { what: "rows of nothing without end", change: |r| { r.inputs[0].shape = vec![1 << 40, 0]; r.raw_input_contents[0] = Bytes::new() }, code: INVALID, says: &["'pair'", "'a'", "[1099511627776,0]", "at most 65536"] },

    Wrong { what: "unknown output", change: |r| want(r, &["product"], None), code: INVALID, says: &["'pair'", "'product'", "'sum', 'difference'"] },
    Wrong { what: "output twice", change: |r| want(r, &["sum", "sum"], None), code: INVALID, says: &["'pair'", "'sum'", "twice"] },
    Wrong { what: "classification", change: |r| want(r, &["sum"], Some(("classification", ParameterChoice::Int64Param(2)))), code: Code::Unimplemented, says: &["'pair'", "'sum'", "classification"] },
    Wrong { what: "output in shared memory", change: |r| want(r, &["sum"], Some(("shared_memory_region", ParameterChoice::StringParam("here".into())))), code: Code::Unimplemented, says: &["'pair'", "'sum'", "shared memory"] },
    Wrong { what: "input in shared memory", change: |r| { r.raw_input_contents.pop(); set(&mut r.inputs[1].parameters, "shared_memory_region", ParameterChoice::StringParam("here".into())) }, code: Code::Unimplemented, says: &["'pair'", "'b'", "shared memory"] },
    Wrong { what: "a sequence by number", change: |r| set(&mut r.parameters, "sequence_id", ParameterChoice::Int64Param(42)), code: Code::Unimplemented, says: &["'pair'", "sequence_id"] },
    Wrong { what: "a sequence by name", change: |r| set(&mut r.parameters, "sequence_id", ParameterChoice::StringParam("s".into())), code: Code::Unimplemented, says: &["'pair'", "sequence_id"] },
    Wrong { what: "a sequence's start", change: |r| set(&mut r.parameters, "sequence_start", ParameterChoice::BoolParam(true)), code: Code::Unimplemented, says: &["'pair'", "sequence_start"] },
    Wrong { what: "negative timeout", change: |r| set(&mut r.parameters, "timeout", ParameterChoice::Int64Param(-5)), code: INVALID, says: &["'pair'", "'timeout'", "at least 0", "got -5"] },
    Wrong { what: "timeout in words", change: |r| set(&mut r.parameters, "timeout", ParameterChoice::StringParam("soon".into())), code: INVALID, says: &["'pair'", "'timeout'", "integer", "got 'soon'"] },
];

/// `sum` and `difference` of [1,2] and [3,5].
fn good() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "pair".into(),
        inputs: ["a", "b"].map(|name| input(name, "FP32", &[1, 2])).into(),
        raw_input_contents: [[1.0, 2.0], [3.0, 5.0]].map(|row| float_bytes(&row).into()).into(),
        ..ModelInferRequest::default()
    }
}

fn add_input(request: &mut ModelInferRequest, name: &str) {
    request.inputs.push(input(name, "FP32", &[1, 2]));
    request.raw_input_contents.push(float_bytes(&[0.0, 0.0]).into());
}

/// The request for one of the identities, which are named by their datatype.
fn single(request: &mut ModelInferRequest, datatype: &str, rows: i64, raw: &'static [u8]) {
    *request = ModelInferRequest {
        model_name: datatype.into(),
        inputs: vec![input("x", datatype, &[rows, 2])],
        raw_input_contents: vec![Bytes::from_static(raw)],
        ..ModelInferRequest::default()
    };
}

fn typed(request: &mut ModelInferRequest, datatype: &str, contents: InferTensorContents) {
    single(request, datatype, 1, &[]);
    request.raw_input_contents.clear();
    request.inputs[0].contents = Some(Box::new(contents));
}

fn want(request: &mut ModelInferRequest, outputs: &[&str], parameter: Option<(&str, ParameterChoice)>) {
    for name in outputs {
        let mut output = InferRequestedOutputTensor { name: name.to_string(), ..InferRequestedOutputTensor::default() };
        if let Some((name, value)) = parameter.clone() {
            set(&mut output.parameters, name, value);
        }
        request.outputs.push(output);
    }
}

fn set(parameters: &mut std::collections::BTreeMap<String, InferParameter>, name: &str, value: ParameterChoice) {
    let value = InferParameter { parameter_choice: Some(value) };
    parameters.insert(name.into(), value);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_report_the_cause() {
    let repository = TempDir::new().unwrap();
    onnx::pair().save(&repository.path().join("pair/1/model.onnx"));
    for (name, elem_type, _) in onnx::ELEMENT_TYPES {
        onnx::identity(elem_type, &["batch", "2"]).save(&repository.path().join(format!("{name}.onnx")));
    }
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;
    let mut complaints = Vec::new();
    for Wrong { what, change, code, says } in WRONG {
        let mut request = good();
        change(&mut request);
        match infer(&client, request).await {
            Ok(answer) => complaints.push(format!("{what}: answered with {answer:?}")),
            Err(status) => {
                let unsaid: Vec<_> = says.iter().filter(|part| !status.message().contains(**part)).collect();
                if status.code() != *code || !unsaid.is_empty() {
                    complaints.push(format!("{what}: expected {code:?} with {says:?}, got {status:?}"));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    // All were refused before they ran, and counted; what is right still works.
    let refused = metric(&server, "onnxd_unrouted_requests_total", &[]).await
        + metric(&server, "nv_inference_request_failure", &["reason=\"OTHER\""]).await;
    assert_eq!(refused, WRONG.len() as f64);
    assert_eq!(metric(&server, "onnxd_rows_total", &[]).await, 0.0);
    assert_eq!(floats(&infer(&client, good()).await.unwrap()), [4.0, 7.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_name_the_model_and_version() {
    let repository = TempDir::new().unwrap();
    for version in [1, 2, 10] {
        onnx::pair().save(&repository.path().join(format!("pair/{version}/model.onnx")));
    }
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;

    let answer = infer(&client, good()).await.unwrap();
    assert_eq!((&*answer.model_name, &*answer.model_version, &*answer.id), ("pair", "10", ""));
    let outputs: Vec<_> =
        answer.outputs.iter().map(|output| (&*output.name, &*output.datatype, &*output.shape)).collect();
    assert_eq!(outputs, [("sum", "FP32", &[1, 2][..]), ("difference", "FP32", &[1, 2][..])]);
    let raw: Vec<_> = answer.raw_output_contents.iter().map(|raw| raw.to_vec()).collect();
    assert_eq!(raw, [float_bytes(&[4.0, 7.0]), float_bytes(&[-2.0, -3.0])]);

    let mut request = good();
    request.id = "my request \u{1f980}".into();
    request.model_version = "2".into();
    // By name, not by position; what the server does not know is not its business.
    request.inputs.reverse();
    request.raw_input_contents.reverse();
    set(&mut request.parameters, "priority", ParameterChoice::Uint64Param(1));
    set(&mut request.parameters, "mine", ParameterChoice::DoubleParam(0.5));
    set(&mut request.parameters, "timeout", ParameterChoice::Uint64Param(u64::MAX));
    want(&mut request, &["difference", "sum"], None);
    let answer = infer(&client, request).await.unwrap();
    assert_eq!((&*answer.model_version, &*answer.id), ("2", "my request \u{1f980}"));
    assert_eq!(answer.outputs.iter().map(|output| &*output.name).collect::<Vec<_>>(), ["difference", "sum"]);
    assert_eq!(floats(&answer), [-2.0, -3.0]);

    let mut request = good();
    want(&mut request, &["difference"], None);
    let answer = infer(&client, request).await.unwrap();
    assert_eq!((answer.outputs.len(), floats(&answer)), (1, vec![-2.0, -3.0]));

    let mut request = good();
    request.raw_input_contents.clear();
    for (input, row) in request.inputs.iter_mut().zip([[1.0, 2.0], [3.0, 5.0]]) {
        input.contents =
            Some(Box::new(InferTensorContents { fp32_contents: row.into(), ..InferTensorContents::default() }));
    }
    let answer = infer(&client, request).await.unwrap();
    assert_eq!(floats(&answer), [4.0, 7.0]);
    assert!(answer.outputs.iter().all(|output| output.contents.is_none()), "clients read raw contents");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_lists_models_versions_and_tensors() {
    let repository = TempDir::new().unwrap();
    for version in [1, 3] {
        onnx::pair().save(&repository.path().join(format!("pair/{version}/model.onnx")));
    }
    onnx::across_rows().save(&repository.path().join("across_rows.onnx"));
    let server = Embedded::start(repository.path()).await;
    let mut client = inference(&server).await;

    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let metadata = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((&*metadata.name, &*metadata.version), ("onnxd", env!("CARGO_PKG_VERSION")));
    assert_eq!(metadata.extensions, ["binary_tensor_data", "parameters"]);

    let request = |name: &str, version: &str| ModelMetadataRequest { name: name.into(), version: version.into() };
    let metadata = client.model_metadata(request("pair", "")).await.unwrap().into_inner();
    assert_eq!((&*metadata.name, &*metadata.platform), ("pair", "onnxruntime_onnx"));
    assert_eq!(metadata.versions, ["1", "3"]);
    let reported = |tensors: &[onnxd::api::proto::model_metadata_response::TensorMetadata]| -> Vec<_> {
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.datatype.clone(), tensor.shape.clone())).collect()
    };
    let fp32 = |name: &str| (name.to_string(), "FP32".to_string(), vec![-1, 2]);
    assert_eq!(reported(&metadata.inputs), ["a", "b"].map(fp32));
    assert_eq!(reported(&metadata.outputs), ["sum", "difference"].map(fp32));
    assert_eq!(metadata.properties["batching"], "on: up to 64 rows");

    let metadata = client.model_metadata(request("across_rows", "1")).await.unwrap().into_inner();
    assert!(
        metadata.properties["batching"].starts_with("off: rows of a batch would influence each other"),
        "{metadata:?}"
    );

    for (name, version, code, says) in [
        ("nobody", "", Code::NotFound, "'nobody'"),
        ("pair", "2", Code::NotFound, "versions are: 1, 3"),
        ("pair", "two", Code::NotFound, "no alias 'two'"),
        ("pair", "-2", INVALID, "'-2'"),
    ] {
        let status = client.model_metadata(request(name, version)).await.unwrap_err();
        assert!(status.code() == code && status.message().contains(says), "{name} {version}: {status:?}");
        let ready = ModelReadyRequest { name: name.into(), version: version.into() };
        match client.model_ready(ready).await {
            Ok(answer) => assert!(code == Code::NotFound && !answer.into_inner().ready, "{name} {version}"),
            Err(status) => assert!(status.code() == code && status.message().contains(says), "{status:?}"),
        }
    }
}

/// Messages travel in headers, of which clients take only so much.
#[tokio::test(flavor = "multi_thread")]
async fn long_errors_are_cut() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add.onnx"));
    let server = Embedded::start(repository.path()).await;
    let name = "\u{20ac}".repeat(100_000);
    let request = raw_request("add", &name, "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
    let status = infer(&inference(&server).await, request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("unexpected inference input '\u{20ac}"), "{status:?}");
    assert!(status.message().len() < 2100, "{}", status.message().len());
}
