//! Every datatype, rank and extent comes back as it went, whichever way it travels.

use bytes::Bytes;
use onnxd::api::proto::{InferTensorContents, ModelInferRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::support::{
    client::{float_bytes, get, infer, inference, input, int64_bytes, post, post_with, with_binary},
    embedded::Embedded,
    onnx::{self, BOOL, FLOAT, INT64, node, value},
};
use onnxd::api::proto::grpc_inference_service_client::GrpcInferenceServiceClient;

/// Elements in every form that they travel in.
struct Elements {
    datatype: &'static str,
    raw: Vec<u8>,
    /// `None` where the protocol has none.
    contents: Option<InferTensorContents>,
    json: Value,
}

/// The extremes of every datatype, as far as JSON has numbers for them.
fn extremes() -> Vec<Elements> {
    macro_rules! elements {
        ($datatype:literal, $field:ident, $values:expr) => {{
            let values = $values;
            Elements {
                datatype: $datatype,
                raw: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                contents: Some(InferTensorContents {
                    $field: values.iter().map(|&value| value.into()).collect(),
                    ..InferTensorContents::default()
                }),
                // As the shortest text, which for FP32 is another one than for the same value in FP64.
                json: serde_json::from_str(&format!("{values:?}")).unwrap(),
            }
        }};
    }
    let bools = Elements {
        datatype: "BOOL",
        raw: vec![1, 0, 1],
        contents: Some(InferTensorContents {
            bool_contents: vec![true, false, true],
            ..InferTensorContents::default()
        }),
        json: json!([true, false, true]),
    };
    // Any bytes: none, text, quotes, NUL, what is no UTF-8, and many.
    let bytes: [&[u8]; 6] = [b"", "Grüße 😀".as_bytes(), b"\"\\\n", b"a\0b\0", b"\xff\xfe\0\xc3", &[b'x'; 70_000]];
    let text = |element: &&[u8]| str::from_utf8(element).map_or_else(|_| json!({ "b64": "//4Aww==" }), Value::from);
    let strings = Elements {
        datatype: "BYTES",
        raw: bytes.iter().flat_map(|element| [&(element.len() as u32).to_le_bytes(), *element].concat()).collect(),
        contents: Some(InferTensorContents {
            bytes_contents: bytes.iter().map(|element| Bytes::copy_from_slice(element)).collect(),
            ..InferTensorContents::default()
        }),
        json: bytes.iter().map(text).collect(),
    };
    macro_rules! halves {
        ($datatype:literal, $half:ty) => {{
            let values =
                [<$half>::MIN, <$half>::MAX, <$half>::MIN_POSITIVE, <$half>::from_bits(1), <$half>::from_f32(-0.1)];
            Elements {
                datatype: $datatype,
                raw: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                contents: None,
                json: serde_json::from_str(&format!("{:?}", values.map(|value| value.to_f32()))).unwrap(),
            }
        }};
    }
    // The smallest normal and subnormal numbers, and one that only just needs all its digits.
    let fp32 = [f32::MIN, f32::MAX, f32::MIN_POSITIVE, 1e-45, -0.0, 0.1, 16_777_217.0];
    let fp64 = [f64::MIN, f64::MAX, f64::MIN_POSITIVE, 5e-324, -0.0, 0.1, 9_007_199_254_740_993.0];
    vec![
        bools,
        strings,
        halves!("FP16", half::f16),
        halves!("BF16", half::bf16),
        elements!("UINT8", uint_contents, [u8::MIN, u8::MAX, 1]),
        elements!("UINT16", uint_contents, [u16::MIN, u16::MAX, 1]),
        elements!("UINT32", uint_contents, [u32::MIN, u32::MAX, 1]),
        elements!("UINT64", uint64_contents, [u64::MIN, u64::MAX, 1]),
        elements!("INT8", int_contents, [i8::MIN, i8::MAX, -1]),
        elements!("INT16", int_contents, [i16::MIN, i16::MAX, -1]),
        elements!("INT32", int_contents, [i32::MIN, i32::MAX, -1]),
        elements!("INT64", int64_contents, [i64::MIN, i64::MAX, -1]),
        elements!("FP32", fp32_contents, fp32),
        elements!("FP64", fp64_contents, fp64),
    ]
}

/// Sends `x` to a model whose `y` is the same, in every form, and expects it back in every form.
async fn expect_back(
    server: &Embedded,
    client: &GrpcInferenceServiceClient<Channel>,
    model: &str,
    shape: &[i64],
    elements: &Elements,
) {
    let Elements { datatype, raw, contents, json } = elements;
    let mut request = ModelInferRequest {
        model_name: model.into(),
        inputs: vec![input("x", datatype, shape)],
        raw_input_contents: vec![Bytes::from(raw.clone())],
        ..ModelInferRequest::default()
    };
    let mut typed = request.clone();
    typed.raw_input_contents.clear();
    typed.inputs[0].contents = contents.clone().map(Box::new);
    for (form, request) in [("raw", &mut request), ("typed", &mut typed)] {
        if form == "typed" && contents.is_none() {
            continue;
        }
        let answer = infer(client, request.clone()).await.unwrap_or_else(|status| panic!("{model} {form}: {status}"));
        let output = &answer.outputs[0];
        assert_eq!((&*output.datatype, &*output.shape), (*datatype, shape), "{model} {form}");
        assert_eq!(answer.raw_output_contents, [raw], "{model} {form}");
    }

    let path = format!("/v2/models/{model}/infer");
    let input = json!({ "name": "x", "datatype": datatype, "shape": shape, "data": json });
    let answer = post(server.http, &path, json!({ "inputs": [input] }).to_string()).await;
    assert_eq!(answer.status, 200, "{model}: {:?}", answer.body);
    let flat = if json.is_array() { json.clone() } else { json!([json]) };
    let output = json!({ "name": "y", "datatype": datatype, "shape": shape, "data": flatten(&flat) });
    assert_eq!(answer.json()["outputs"], json!([output]), "{model}");

    let size = json!({ "binary_data_size": raw.len() });
    let input = json!({ "name": "x", "datatype": datatype, "shape": shape, "parameters": size });
    let request = json!({ "inputs": [input], "parameters": { "binary_data_output": true } });
    let (body, headers) = with_binary(&request, raw);
    let answer = post_with(server.http, &path, &headers, body).await;
    assert_eq!(answer.status, 200, "{model}: {:?}", answer.body);
    let (json, data) = answer.binary();
    let output = json!({ "name": "y", "datatype": datatype, "shape": shape, "parameters": size });
    assert_eq!((&json["outputs"], &data[..]), (&json!([output]), &raw[..]), "{model}");
}

/// Answers are flat, however requests nest.
fn flatten(json: &Value) -> Vec<Value> {
    match json {
        Value::Array(items) => items.iter().flat_map(flatten).collect(),
        other => vec![other.clone()],
    }
}

fn fp32(values: &[f32], json: Value) -> Elements {
    let contents = InferTensorContents { fp32_contents: values.into(), ..InferTensorContents::default() };
    Elements { datatype: "FP32", raw: float_bytes(values), contents: Some(contents), json }
}

#[tokio::test(flavor = "multi_thread")]
async fn datatypes_round_trip_in_every_form() {
    let repository = TempDir::new().unwrap();
    for (name, elem_type, _) in onnx::ELEMENT_TYPES {
        onnx::identity(elem_type, &["batch"]).save(&repository.path().join(format!("{name}.onnx")));
    }
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;
    let all = extremes();
    assert_eq!(all.len(), onnx::ELEMENT_TYPES.len());
    for elements in &all {
        let shape = [elements.json.as_array().unwrap().len() as i64];
        expect_back(&server, &client, elements.datatype, &shape, elements).await;
    }

    // Numbers that JSON does not have go out as Python's clients read them. They come in as those write them, or in quotes.
    let wide = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let narrow = wide.map(|value| value as f32);
    for (datatype, raw) in
        [("FP32", float_bytes(&narrow)), ("FP64", wide.iter().flat_map(|value| value.to_le_bytes()).collect())]
    {
        let parameters = json!({ "binary_data_size": raw.len() });
        let request =
            json!({ "inputs": [{ "name": "x", "datatype": datatype, "shape": [3], "parameters": parameters }] });
        let (body, headers) = with_binary(&request, &raw);
        let answer = post_with(server.http, &format!("/v2/models/{datatype}/infer"), &headers, body).await;
        let body = std::str::from_utf8(&answer.body).unwrap();
        assert!(body.ends_with("\"data\":[NaN,Infinity,-Infinity]}]}"), "{body}");
        for tokens in ["[NaN, Infinity, -Infinity]", r#"["NaN", "Infinity", "-Infinity"]"#] {
            let input = format!(r#"{{"name": "x", "datatype": "{datatype}", "shape": [3], "data": {tokens}}}"#);
            let request = format!(r#"{{"inputs": [{input}]}}"#);
            let answer = post(server.http, &format!("/v2/models/{datatype}/infer"), request).await;
            assert_eq!(str::from_utf8(&answer.body), Ok(body), "{tokens}");
        }
    }
}

/// A raw binary request for BYTES is one element, without the length that stands in front elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn raw_body_is_one_bytes_element() {
    let repository = TempDir::new().unwrap();
    onnx::identity(onnx::STRING, &["batch"]).save(&repository.path().join("echo.onnx"));
    let server = Embedded::start(repository.path()).await;
    let headers = [("inference-header-content-length", "0".to_owned())];
    let answer = post_with(server.http, "/v2/models/echo/infer", &headers, b"a\0\xff".to_vec()).await;
    let (json, data) = answer.binary();
    assert_eq!((&json["outputs"][0]["shape"], &data[..]), (&json!([1]), &b"\x03\0\0\0a\0\xff"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn ranks_and_extents_round_trip() {
    let repository = TempDir::new().unwrap();
    for (name, dims) in
        [("scalar", &[][..]), ("batched", &["batch", "n"]), ("open", &["n", "m"]), ("fixed", &["2", "3"])]
    {
        let mut graph = onnx::identity(FLOAT, dims);
        if name == "open" {
            // Axis 0 has another name in the output, so it is not the batch.
            graph.output = vec![value("y", FLOAT, &["k", "m"])];
        }
        graph.save(&repository.path().join(format!("{name}.onnx")));
    }
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;

    expect_back(&server, &client, "scalar", &[], &fp32(&[1.5], json!(1.5))).await;
    expect_back(&server, &client, "scalar", &[], &fp32(&[1.5], json!([1.5]))).await;
    expect_back(
        &server,
        &client,
        "fixed",
        &[2, 3],
        &fp32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], json!([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])),
    )
    .await;
    for model in ["batched", "open"] {
        expect_back(&server, &client, model, &[2, 1], &fp32(&[1.0, 2.0], json!([[1.0], [2.0]]))).await;
        for (shape, json) in [([0, 3], json!([])), ([3, 0], json!([[], [], []])), ([0, 0], json!([]))] {
            expect_back(&server, &client, model, &shape, &fp32(&[], json)).await;
        }
    }
    for (model, shape, count, says) in [
        ("scalar", &[1][..], 1, "expected shape [], got [1]"),
        ("fixed", &[3, 2], 6, "expected shape [2,3], got [3,2]"),
        ("fixed", &[1, 2, 3], 6, "expected shape [2,3], got [1,2,3]"),
        ("fixed", &[0, 3], 0, "expected shape [2,3], got [0,3]"),
    ] {
        let request = ModelInferRequest {
            model_name: model.into(),
            inputs: vec![input("x", "FP32", shape)],
            raw_input_contents: vec![float_bytes(&vec![0.0; count]).into()],
            ..ModelInferRequest::default()
        };
        let status = infer(&client, request).await.unwrap_err();
        assert!(
            status.code() == tonic::Code::InvalidArgument && status.message().contains(says),
            "{model}: {status:?}"
        );
    }

    // More than fits in a message by the defaults of gRPC's libraries.
    let large: Vec<f32> = (0..1_200_000).map(|index| index as f32).collect();
    let request = ModelInferRequest {
        model_name: "batched".into(),
        inputs: vec![input("x", "FP32", &[2, 600_000])],
        raw_input_contents: vec![float_bytes(&large).into()],
        ..ModelInferRequest::default()
    };
    assert!(infer(&client, request).await.unwrap().raw_output_contents == [float_bytes(&large)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_with_mixed_or_no_inputs_answer() {
    let repository = TempDir::new().unwrap();
    onnx::Graph {
        name: "mixed".into(),
        node: vec![
            node("Identity", &["truth"], &["same truth"]),
            node("Identity", &["count"], &["same count"]),
            node("Identity", &["number"], &["same number"]),
        ],
        initializer: vec![],
        input: vec![
            value("number", FLOAT, &[]),
            value("truth", BOOL, &["batch", "2"]),
            value("count", INT64, &["batch"]),
        ],
        output: vec![
            value("same truth", BOOL, &["batch", "2"]),
            value("same count", INT64, &["batch"]),
            value("same number", FLOAT, &[]),
        ],
    }
    .save(&repository.path().join("mixed.onnx"));
    onnx::Graph {
        name: "constant".into(),
        node: vec![node("Identity", &["number"], &["y"])],
        initializer: vec![onnx::floats("number", &[2], &[0.5, 1.5])],
        input: vec![],
        output: vec![value("y", FLOAT, &["2"])],
    }
    .save(&repository.path().join("constant.onnx"));
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;

    let request = ModelInferRequest {
        model_name: "mixed".into(),
        inputs: vec![input("count", "INT64", &[3]), input("truth", "BOOL", &[3, 2]), input("number", "FP32", &[])],
        raw_input_contents: vec![
            int64_bytes(&[5, 6, 7]).into(),
            vec![1, 0, 0, 1, 1, 1].into(),
            float_bytes(&[0.5]).into(),
        ],
        ..ModelInferRequest::default()
    };
    let answer = infer(&client, request).await.unwrap();
    let reported: Vec<_> =
        answer.outputs.iter().map(|output| (&*output.name, &*output.datatype, &*output.shape)).collect();
    assert_eq!(
        reported,
        [("same truth", "BOOL", &[3, 2][..]), ("same count", "INT64", &[3]), ("same number", "FP32", &[])]
    );
    assert_eq!(answer.raw_output_contents, [vec![1, 0, 0, 1, 1, 1], int64_bytes(&[5, 6, 7]), float_bytes(&[0.5])]);

    let request = json!({ "inputs": [
        { "name": "truth", "datatype": "BOOL", "shape": [1, 2], "data": [false, true] },
        { "name": "number", "datatype": "FP32", "shape": [], "data": [0.5] },
        { "name": "count", "datatype": "INT64", "shape": [1], "data": [-5] },
    ], "outputs": [{ "name": "same number" }, { "name": "same truth" }] });
    let answer = post(server.http, "/v2/models/mixed/infer", request.to_string()).await;
    let expected = json!([
        { "name": "same number", "datatype": "FP32", "shape": [], "data": [0.5] },
        { "name": "same truth", "datatype": "BOOL", "shape": [1, 2], "data": [false, true] },
    ]);
    assert_eq!(answer.json()["outputs"], expected);

    let request = ModelInferRequest { model_name: "constant".into(), ..ModelInferRequest::default() };
    let answer = infer(&client, request).await.unwrap();
    assert_eq!(answer.raw_output_contents, [float_bytes(&[0.5, 1.5])]);
    let answer = post(server.http, "/v2/models/constant/infer", "{\"inputs\":[]}").await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([0.5, 1.5]));
}

/// A model need not say how many axes an input has.
#[tokio::test(flavor = "multi_thread")]
async fn undeclared_shape_accepts_any_rank() {
    let repository = TempDir::new().unwrap();
    let mut graph = onnx::identity(FLOAT, &[]);
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        info.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape = None;
    }
    graph.save(&repository.path().join("any.onnx"));
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;
    expect_back(&server, &client, "any", &[], &fp32(&[1.5], json!(1.5))).await;
    expect_back(&server, &client, "any", &[2], &fp32(&[1.5, 2.5], json!([1.5, 2.5]))).await;
    expect_back(&server, &client, "any", &[1, 2, 1], &fp32(&[1.5, 2.5], json!([[[1.5], [2.5]]]))).await;
    let metadata = get(server.http, "/v2/models/any").await.json();
    assert_eq!(metadata["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1] }]));
    let batching = metadata["properties"]["batching"].as_str().unwrap();
    assert!(batching.contains("'x' declares no shape"), "{batching}");
}

/// ONNX Runtime does not hold requests to the names of axes; where a run fails, they are the likely reason.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_disagree_are_the_clients_fault() {
    let repository = TempDir::new().unwrap();
    let mut graph = onnx::pair();
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        *info = value(&info.name, FLOAT, &["1", "length"]);
    }
    graph.save(&repository.path().join("pair.onnx"));
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;
    let request = |lengths: [i64; 2]| ModelInferRequest {
        model_name: "pair".into(),
        inputs: vec![input("a", "FP32", &[1, lengths[0]]), input("b", "FP32", &[1, lengths[1]])],
        raw_input_contents: lengths.map(|length| float_bytes(&vec![1.0; length as usize]).into()).into(),
        ..ModelInferRequest::default()
    };
    // It has been broadcast: the names promise more than ONNX Runtime asks for.
    let answer = infer(&client, request([3, 1])).await.unwrap();
    assert_eq!(answer.raw_output_contents[0], float_bytes(&[2.0; 3]));
    let status = infer(&client, request([3, 2])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("axis 1 of 'a' is 3, but axis 1 of 'b' is 2"), "{status:?}");
}

/// An input that is an initializer too may be given; its rows are nobody's, so such a request runs alone.
#[tokio::test(flavor = "multi_thread")]
async fn optional_inputs_make_their_requests_run_alone() {
    let repository = TempDir::new().unwrap();
    let mut graph = onnx::add(1.0);
    graph.input.push(value("number", FLOAT, &["1"]));
    graph.save(&repository.path().join("add/1/model.onnx"));
    std::fs::write(repository.path().join("add/config.toml"), "max_batch_size = 4").unwrap();
    let server = Embedded::start(repository.path()).await;
    let client = inference(&server).await;
    let request = |rows: usize, number: Option<f32>| {
        let mut request = ModelInferRequest {
            model_name: "add".into(),
            inputs: vec![input("x", "FP32", &[rows as i64, 2])],
            raw_input_contents: vec![float_bytes(&vec![1.0; rows * 2]).into()],
            ..ModelInferRequest::default()
        };
        if let Some(number) = number {
            request.inputs.insert(0, input("number", "FP32", &[1]));
            request.raw_input_contents.insert(0, float_bytes(&[number]).into());
        }
        request
    };
    let requests = (0..32).map(|index| request(1, (index % 2 == 0).then_some(index as f32)));
    let answers = requests.enumerate().map(|(index, request)| {
        let client = client.clone();
        tokio::spawn(async move { (index, infer(&client, request).await.unwrap()) })
    });
    for answer in answers.collect::<Vec<_>>() {
        let (index, answer) = answer.await.unwrap();
        let expected = if index % 2 == 0 { index as f32 + 1.0 } else { 2.0 };
        assert_eq!(answer.raw_output_contents[0], float_bytes(&[expected; 2]), "{index}");
    }
    assert!(infer(&client, request(9, None)).await.is_ok());
    for (request, says) in [
        (request(9, Some(1.0)), "at most 4 rows"),
        (
            {
                let mut twice = request(1, Some(1.0));
                twice.inputs.push(input("number", "FP32", &[1]));
                twice.raw_input_contents.push(float_bytes(&[1.0]).into());
                twice
            },
            "'number' already exists",
        ),
        (
            {
                let mut wrong = request(1, Some(1.0));
                wrong.inputs[0] = input("number", "INT32", &[1]);
                wrong
            },
            "expected datatype FP32, got INT32",
        ),
    ] {
        let status = infer(&client, request).await.unwrap_err();
        assert!(status.message().contains(says), "{status:?}");
    }
    let metadata = get(server.http, "/v2/models/add").await.json();
    assert_eq!(metadata["inputs"][1], json!({ "name": "number", "datatype": "FP32", "shape": [1] }));
    assert_eq!(metadata["properties"]["optional_inputs"], "[\"number\"]");
    assert_eq!(metadata["properties"]["batching"], "on: up to 4 rows");
}
