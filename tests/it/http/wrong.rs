//! Wrong requests over HTTP, and the messages about them.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::{INFER, good, good_binary, repository};
use crate::support::{
    client::{metric, post, send, with_binary},
    embedded::Embedded,
    onnx,
};

/// A request that changes a good one, and what must be said about it.
struct Wrong {
    what: &'static str,
    change: fn(&mut Call),
    status: u16,
    says: &'static [&'static str],
}

/// A request, not yet sent.
struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    json: Value,
    /// Takes the place of the JSON.
    body: Option<Vec<u8>>,
}

#[rustfmt::skip]
const WRONG: &[Wrong] = &[
    Wrong { what: "unknown model", change: |c| c.to("/v2/models/nobody/infer"), status: 404, says: &["'nobody'"] },
    Wrong { what: "unknown version", change: |c| c.to("/v2/models/pair/versions/7/infer"), status: 404, says: &["'pair'", "7", "versions are: 1"] },
    Wrong { what: "unknown alias", change: |c| c.to("/v2/models/pair/versions/abc/infer"), status: 404, says: &["'pair'", "no alias 'abc'", "aliases are: none"] },
    Wrong { what: "neither version nor alias", change: |c| c.to("/v2/models/pair/versions/a%20b/infer"), status: 400, says: &["'pair'", "'a b'", "an integer > 0, or an alias"] },
    Wrong { what: "version 0", change: |c| c.to("/v2/models/pair/versions/0/infer"), status: 400, says: &["'pair'", "'0'", "an integer > 0"] },
    Wrong { what: "negative version", change: |c| c.to("/v2/models/pair/versions/-1/infer"), status: 400, says: &["'pair'", "'-1'", "an integer > 0"] },

    Wrong { what: "unknown input", change: |c| c.json["inputs"][0]["name"] = json!("c"), status: 400, says: &["'pair'", "'c'", "'a', 'b'"] },
    Wrong { what: "missing input", change: |c| drop(c.inputs().pop()), status: 400, says: &["'pair'", "expected 2", "got 1", "missing 'b'"] },
    Wrong { what: "no inputs", change: |c| c.inputs().clear(), status: 400, says: &["'pair'", "expected 2", "got 0", "missing 'a', 'b'"] },
    Wrong { what: "extra input", change: |c| c.add_input("c"), status: 400, says: &["'pair'", "'c'", "'a', 'b'"] },
    Wrong { what: "input twice", change: |c| c.add_input("a"), status: 400, says: &["'pair'", "'a'", "already"] },

    Wrong { what: "wrong datatype", change: |c| c.json["inputs"][0]["datatype"] = json!("INT32"), status: 400, says: &["'pair'", "'a'", "expected datatype FP32", "got INT32"] },
    Wrong { what: "unknown datatype", change: |c| c.json["inputs"][0]["datatype"] = json!("FP23"), status: 400, says: &["'pair'", "'a'", "'FP23'", "FP32"] },
    Wrong { what: "wrong rank", change: |c| c.json["inputs"][0]["shape"] = json!([2]), status: 400, says: &["'pair'", "'a'", "expected shape [-1,2]", "got [2]"] },
    Wrong { what: "wrong dimension", change: |c| c.json["inputs"][0]["shape"] = json!([2, 1]), status: 400, says: &["'pair'", "'a'", "expected shape [-1,2]", "got [2,1]"] },
    Wrong { what: "negative dimension", change: |c| c.json["inputs"][0]["shape"] = json!([-1, 2]), status: 400, says: &["'pair'", "'a'", "[-1, 2]", "negative"] },
    Wrong { what: "too many elements", change: |c| c.json["inputs"][0]["shape"] = json!([i64::MAX, 2, 2]), status: 400, says: &["'pair'", "'a'", "9223372036854775807", "memory"] },
    Wrong { what: "more rows than data", change: |c| c.json["inputs"][0]["shape"] = json!([1u64 << 40, 2]), status: 400, says: &["'pair'", "'a'", "2199023255552 elements", "data has 2"] },
    Wrong { what: "a dimension beyond 64 bits", change: |c| c.json["inputs"][0]["shape"] = json!([u64::MAX]), status: 400, says: &["'pair'", "18446744073709551615"] },
    Wrong { what: "different batch sizes", change: |c| { c.json["inputs"][1]["shape"] = json!([2, 2]); c.json["inputs"][1]["data"] = json!([1, 2, 3, 4]) }, status: 400, says: &["'pair'", "'b'", "batch size", "is 2", "'a' has 1"] },

    Wrong { what: "too few elements", change: |c| c.json["inputs"][0]["data"] = json!([1]), status: 400, says: &["'pair'", "'a'", "2 elements", "data has 1"] },
    Wrong { what: "ragged rows", change: |c| c.json["inputs"][0]["data"] = json!([[1, 2], [3]]), status: 400, says: &["'pair'", "'a'", "expected 2 elements as in the array before, got 1"] },
    Wrong { what: "an element that is text", change: |c| c.json["inputs"][0]["data"] = json!([1, "two"]), status: 400, says: &["'pair'", "'a'", "FP32", "\"two\""] },
    Wrong { what: "an element that is null", change: |c| c.json["inputs"][0]["data"] = json!([1, null]), status: 400, says: &["'pair'", "'a'", "FP32", "null"] },
    Wrong { what: "NaN as null", change: |c| c.json["inputs"][0]["data"] = json!([1, null]), status: 400, says: &["'pair'", "got null (a missing one is sent as NaN)"] },
    Wrong { what: "values beside arrays", change: |c| c.json["inputs"][0]["data"] = json!([1, [2]]), status: 400, says: &["'pair'", "'a'", "inside 1 arrays as the first is, got one inside 2"] },
    Wrong { what: "an element too large for FP32", change: |c| c.json["inputs"][0]["data"] = json!([1, 1e39]), status: 400, says: &["'pair'", "'a'", "does not fit FP32"] },
    Wrong { what: "an object for data", change: |c| c.json["inputs"][0]["data"] = json!({ "a": 1 }), status: 400, says: &["'pair'", "'a'", "FP32", "got an object"] },
    Wrong { what: "a fraction for INT32", change: |c| c.single("INT32", json!([1, 2.5])), status: 400, says: &["'INT32'", "'x'", "INT32", "2.5"] },
    Wrong { what: "UINT8 too large", change: |c| c.single("UINT8", json!([255, 256])), status: 400, says: &["'UINT8'", "'x'", "256 does not fit UINT8"] },
    Wrong { what: "INT8 too small", change: |c| c.single("INT8", json!([-129, 0])), status: 400, says: &["'INT8'", "'x'", "-129 does not fit INT8"] },
    Wrong { what: "UINT64 below 0", change: |c| c.single("UINT64", json!([-1, 0])), status: 400, says: &["'UINT64'", "'x'", "-1 does not fit UINT64"] },
    Wrong { what: "a number for BOOL", change: |c| c.single("BOOL", json!([true, 1])), status: 400, says: &["'BOOL'", "'x'", "true or false", "got 1"] },
    Wrong { what: "BOOL for a number", change: |c| c.single("INT32", json!([true, 1])), status: 400, says: &["'INT32'", "'x'", "INT32", "true"] },
    Wrong { what: "data nested too deeply", change: |c| c.body = Some(nested(10_000)), status: 400, says: &["'pair'", "`inputs`", "`data`", "more than 128 arrays"] },

    Wrong { what: "NaN for INT32", change: |c| c.elements("INT32", "[1, NaN]"), status: 400, says: &["'INT32'", "'x'", "whole number", "got NaN"] },
    Wrong { what: "another word for NaN", change: |c| c.elements("FP32", "[1, nan]"), status: 400, says: &["'FP32'", "not a valid JSON request", "got nan"] },
    Wrong { what: "another word in quotes", change: |c| c.elements("FP32", r#"[1, "inf"]"#), status: 400, says: &["'FP32'", "'x'", "a number", "\"inf\""] },
    Wrong { what: "FP16 too large", change: |c| c.elements("FP16", "[1, 65520]"), status: 400, says: &["'FP16'", "'x'", "65520 does not fit FP16"] },
    Wrong { what: "BF16 too large", change: |c| c.elements("BF16", "[1, 3.4e38]"), status: 400, says: &["'BF16'", "'x'", "3.4e38 does not fit BF16"] },
    Wrong { what: "FP64 too large", change: |c| c.elements("FP64", "[1, 1e400]"), status: 400, says: &["'FP64'", "'x'", "1e400 does not fit FP64"] },
    Wrong { what: "a leading zero", change: |c| c.elements("FP32", "[1, 02]"), status: 400, says: &["'FP32'", "not a valid JSON request", "column"] },
    Wrong { what: "a bare point", change: |c| c.elements("FP32", "[1, 2.]"), status: 400, says: &["'FP32'", "not a valid JSON request", "a digit"] },
    Wrong { what: "hexadecimal", change: |c| c.elements("INT32", "[1, 0x10]"), status: 400, says: &["'INT32'", "not a valid JSON request", "x10"] },
    Wrong { what: "a comma too many", change: |c| c.elements("FP32", "[1, 2,]"), status: 400, says: &["'FP32'", "not a valid JSON request", "got ']'"] },
    Wrong { what: "a comma too few", change: |c| c.elements("FP32", "[1 2]"), status: 400, says: &["'FP32'", "not a valid JSON request", "a comma", "got 2"] },
    Wrong { what: "a number for BYTES", change: |c| c.elements("BYTES", r#"["a", 1]"#), status: 400, says: &["'BYTES'", "'x'", "a string", "got 1"] },
    Wrong { what: "half a character", change: |c| c.elements("BYTES", r#"["a", "\ud800"]"#), status: 400, says: &["'BYTES'", "not a valid JSON request", "\\ud800 is half of a surrogate pair", "b64"] },
    Wrong { what: "the other half of a character", change: |c| c.elements("BYTES", r#"["a", "\udc80"]"#), status: 400, says: &["'BYTES'", "\\udc80 is half of a surrogate pair", "b64"] },
    Wrong { what: "base64 of URLs", change: |c| c.elements("BYTES", r#"["a", {"b64": "_-8="}]"#), status: 400, says: &["'BYTES'", "'x'", "'b64' is no base64", "not that of URLs"] },
    Wrong { what: "no base64", change: |c| c.elements("BYTES", r#"["a", {"b64": "?"}]"#), status: 400, says: &["'BYTES'", "'x'", "'b64' is no base64"] },
    Wrong { what: "an object for BYTES", change: |c| c.elements("BYTES", r#"["a", {"b": "a"}]"#), status: 400, says: &["'BYTES'", "'x'", "'b64'", "got 'b'"] },
    Wrong { what: "too few elements of BYTES", change: |c| c.elements("BYTES", r#"["a"]"#), status: 400, says: &["'BYTES'", "'x'", "2 elements", "data has 1"] },
    Wrong { what: "BYTES cut short", change: |c| { c.single("BYTES", json!(null)); c.json["inputs"][0]["parameters"] = json!({ "binary_data_size": 6 }); c.behind(&[0, 0, 0, 0, 9, 0]) }, status: 400, says: &["'BYTES'", "'x'", "element 1", "got 2 bytes"] },
    Wrong { what: "a raw request for two elements of BYTES", change: |c| { c.to("/v2/models/BYTES/infer"); c.raw(12) }, status: 400, says: &["'BYTES'", "'x'", "2 elements", "got 1"] },
    Wrong { what: "a key twice", change: |c| c.body = Some(good().to_string().replacen("\"name\"", "\"name\":\"a\",\"name\"", 1).into()), status: 400, says: &["'pair'", "not a valid JSON request", "`name`", "twice"] },
    Wrong { what: "a parameter twice", change: |c| c.body = Some(good().to_string().replacen('{', "{\"parameters\":{\"timeout\":1,\"timeout\":0},", 1).into()), status: 400, says: &["'pair'", "not a valid JSON request", "`parameters`", "`timeout`", "twice"] },
    Wrong { what: "no name", change: |c| drop(c.input(1).remove("name")), status: 400, says: &["'pair'", "`inputs[1]`", "`name`"] },
    Wrong { what: "no shape", change: |c| drop(c.input(1).remove("shape")), status: 400, says: &["'pair'", "`inputs[1]`", "`shape`"] },
    Wrong { what: "no datatype", change: |c| drop(c.input(1).remove("datatype")), status: 400, says: &["'pair'", "`inputs[1]`", "`datatype`"] },
    Wrong { what: "an output without a name", change: |c| c.json["outputs"] = json!([{}]), status: 400, says: &["'pair'", "not a valid JSON request", "`name`"] },
    Wrong { what: "axes without end", change: |c| c.json["inputs"][0]["shape"] = json!(vec![1; 2000]), status: 400, says: &["'pair'", "not a valid JSON request", "1024 axes"] },
    Wrong { what: "rows of nothing without end", change: |c| { c.json["inputs"][0]["shape"] = json!([1u64 << 40, 0]); c.json["inputs"][0]["data"] = json!([]) }, status: 400, says: &["'pair'", "'a'", "[1099511627776,0]", "at most 65536"] },

    Wrong { what: "no JSON", change: |c| c.body = Some(b"\xff\xfe{}".into()), status: 400, says: &["'pair'", "not a valid JSON request"] },
    Wrong { what: "no body", change: |c| c.body = Some(vec![]), status: 400, says: &["'pair'", "not a valid JSON request", "EOF"] },
    Wrong { what: "half a body", change: |c| c.body = Some(good().to_string().as_bytes()[..40].into()), status: 400, says: &["'pair'", "not a valid JSON request", "EOF"] },
    Wrong { what: "two bodies", change: |c| c.body = Some(good().to_string().repeat(2).into()), status: 400, says: &["'pair'", "not a valid JSON request", "more behind it"] },
    Wrong { what: "an array for the request", change: |c| c.json = json!([1, 2]), status: 400, says: &["'pair'", "not a valid JSON request"] },
    Wrong { what: "inputs missing", change: |c| c.json = json!({ "input": [] }), status: 400, says: &["'pair'", "`inputs`"] },
    Wrong { what: "an object for inputs", change: |c| c.json["inputs"] = json!({ "a": [1, 2] }), status: 400, says: &["'pair'", "not a valid JSON request", "`inputs`", "got an object"] },
    Wrong { what: "a number for a name", change: |c| c.json["inputs"][0]["name"] = json!(1), status: 400, says: &["'pair'", "not a valid JSON request", "string"] },
    Wrong { what: "a number for the id", change: |c| c.json["id"] = json!(1), status: 400, says: &["'pair'", "not a valid JSON request", "string"] },
    Wrong { what: "a fraction for a dimension", change: |c| c.json["inputs"][0]["shape"] = json!([1.5, 2]), status: 400, says: &["'pair'", "not a valid JSON request", "1.5"] },
    Wrong { what: "parameters nested too deeply", change: |c| c.body = Some(format!("{{\"parameters\":{{\"p\":{}", "[".repeat(100_000)).into()), status: 400, says: &["'pair'", "`parameters`", "more than 128 arrays"] },
    Wrong { what: "neither data nor its size", change: |c| drop(c.input(0).remove("data")), status: 400, says: &["'pair'", "'a'", "no data"] },

    Wrong { what: "data and its size", change: |c| c.json["inputs"][0]["parameters"] = json!({ "binary_data_size": 8 }), status: 400, says: &["'pair'", "'a'", "either data or", "binary_data_size"] },
    Wrong { what: "an encoding that is not known", change: |c| c.headers.push(("content-encoding", "br".into())), status: 415, says: &["'br'", "gzip, deflate, zstd"] },
    Wrong { what: "encodings on top of each other", change: |c| c.headers.push(("content-encoding", "gzip, zstd".into())), status: 415, says: &["several", "gzip, deflate, zstd"] },
    Wrong { what: "not in the encoding that it says", change: |c| c.headers.push(("content-encoding", "gzip".into())), status: 400, says: &["not valid gzip"] },
    Wrong { what: "JSON longer than the body", change: |c| { c.binary(|_, _| ()); c.headers[0].1 = "100000".into() }, status: 400, says: &["'pair'", "Inference-Header-Content-Length", "between 0 and", "100000"] },
    Wrong { what: "JSON of negative length", change: |c| { c.binary(|_, _| ()); c.headers[0].1 = "-1".into() }, status: 400, says: &["'pair'", "Inference-Header-Content-Length", "-1"] },
    Wrong { what: "JSON length with a sign", change: |c| { c.binary(|_, _| ()); c.headers[0].1.insert(0, '+') }, status: 400, says: &["'pair'", "Inference-Header-Content-Length", "between 0 and", "\"+"] },
    Wrong { what: "two lengths of the JSON", change: |c| { c.binary(|_, _| ()); c.headers.push((c.headers[0].0, "3".into())) }, status: 400, says: &["'pair'", "Inference-Header-Content-Length", "between 0 and", " and \"3\""] },
    Wrong { what: "JSON length in words", change: |c| { c.binary(|_, _| ()); c.headers[0].1 = "long".into() }, status: 400, says: &["'pair'", "Inference-Header-Content-Length", "long"] },
    Wrong { what: "JSON length that cuts it", change: |c| { c.binary(|_, _| ()); c.headers[0].1 = "40".into() }, status: 400, says: &["'pair'", "not a valid JSON request", "EOF"] },
    Wrong { what: "JSON length missing", change: |c| { c.binary(|_, _| ()); c.headers.clear() }, status: 400, says: &["'pair'", "Inference-Header-Content-Length"] },
    Wrong { what: "binary data size, nothing behind", change: |c| c.binary(|_, data| data.clear()), status: 400, says: &["'pair'", "'a'", "expected 8 bytes", "got 0 bytes"] },
    Wrong { what: "binary data size beyond the body", change: |c| c.binary(|json, _| json["inputs"][1]["parameters"]["binary_data_size"] = json!(9)), status: 400, says: &["'pair'", "'b'", "expected 9 bytes", "got 8 bytes"] },
    Wrong { what: "binary data size not the shape's", change: |c| c.binary(|json, _| json["inputs"][0]["parameters"]["binary_data_size"] = json!(12)), status: 400, says: &["'pair'", "'a'", "8 bytes", "got 12 bytes"] },
    Wrong { what: "negative binary data size", change: |c| c.binary(|json, _| json["inputs"][0]["parameters"]["binary_data_size"] = json!(-8)), status: 400, says: &["'pair'", "'a'", "binary_data_size", "got -8"] },
    Wrong { what: "binary data size in words", change: |c| c.binary(|json, _| json["inputs"][0]["parameters"]["binary_data_size"] = json!("all")), status: 400, says: &["'pair'", "'a'", "binary_data_size", "got 'all'"] },
    Wrong { what: "more bytes than the inputs take", change: |c| c.binary(|_, data| data.push(0)), status: 400, says: &["'pair'", "additional", "1 byte"] },
    Wrong { what: "byte 2 for BOOL", change: |c| { c.single("BOOL", json!(null)); c.json["inputs"][0]["parameters"] = json!({ "binary_data_size": 2 }); c.behind(&[0, 2]) }, status: 400, says: &["'BOOL'", "'x'", "0 or 1", "got 2"] },
    Wrong { what: "a raw request for two inputs", change: |c| c.raw(8), status: 400, says: &["'pair'", "exactly one input", "has 2"] },
    Wrong { what: "a raw request of the wrong size", change: |c| { c.to("/v2/models/FP32/infer"); c.raw(12) }, status: 400, says: &["'FP32'", "'x'", "[1,2] of FP32", "8 bytes", "got 12 bytes"] },
    Wrong { what: "a raw request for two open axes", change: |c| { c.to("/v2/models/open/infer"); c.raw(12) }, status: 400, says: &["'open'", "'x'", "one axis open", "[1,-1,-1]"] },

    Wrong { what: "unknown output", change: |c| c.json["outputs"] = json!([{ "name": "product" }]), status: 400, says: &["'pair'", "'product'", "'sum', 'difference'"] },
    Wrong { what: "output twice", change: |c| c.json["outputs"] = json!([{ "name": "sum" }, { "name": "sum" }]), status: 400, says: &["'pair'", "'sum'", "twice"] },
    Wrong { what: "binary data that is no boolean", change: |c| c.json["outputs"] = json!([{ "name": "sum", "parameters": { "binary_data": "yes" } }]), status: 400, says: &["'pair'", "'sum'", "binary_data", "got 'yes'"] },
    Wrong { what: "classification", change: |c| c.json["outputs"] = json!([{ "name": "sum", "parameters": { "classification": 2 } }]), status: 501, says: &["'pair'", "'sum'", "classification"] },
    Wrong { what: "output in shared memory", change: |c| c.json["outputs"] = json!([{ "name": "sum", "parameters": { "shared_memory_region": "here" } }]), status: 501, says: &["'pair'", "'sum'", "shared memory"] },
    Wrong { what: "input in shared memory", change: |c| { c.input(1).remove("data"); c.json["inputs"][1]["parameters"] = json!({ "shared_memory_region": "here", "shared_memory_byte_size": 8 }) }, status: 501, says: &["'pair'", "'b'", "shared memory"] },
    Wrong { what: "a sequence by number", change: |c| c.json["parameters"] = json!({ "sequence_id": 42 }), status: 501, says: &["'pair'", "sequence_id"] },
    Wrong { what: "a sequence's end", change: |c| c.json["parameters"] = json!({ "sequence_end": true }), status: 501, says: &["'pair'", "sequence_end"] },
    Wrong { what: "negative timeout", change: |c| c.json["parameters"] = json!({ "timeout": -5 }), status: 400, says: &["'pair'", "'timeout'", "at least 0", "got -5"] },
    Wrong { what: "fractional timeout", change: |c| c.json["parameters"] = json!({ "timeout": 0.5 }), status: 400, says: &["'pair'", "'timeout'", "integer", "got 0.5"] },
];

/// Requests that never come as far as an inference.
#[rustfmt::skip]
const ASIDE: &[Wrong] = &[
    Wrong { what: "unknown path", change: |c| c.to("/v2/models/pair/infers"), status: 404, says: &["/v2/models/pair/infers"] },
    Wrong { what: "a path that is no text", change: |c| c.to("/v2/models/%ff/infer"), status: 400, says: &["/v2/models/%ff/infer", "UTF-8"] },
    Wrong { what: "no path", change: |c| { c.method = Method::GET; c.to("/") }, status: 404, says: &["nothing at /"] },
    Wrong { what: "wrong method", change: |c| c.method = Method::GET, status: 405, says: &[INFER, "GET"] },
    Wrong { what: "wrong method for metadata", change: |c| { c.method = Method::DELETE; c.to("/v2/models/pair") }, status: 405, says: &["/v2/models/pair", "DELETE"] },
    Wrong { what: "metadata of an unknown model", change: |c| { c.method = Method::GET; c.to("/v2/models/nobody") }, status: 404, says: &["'nobody'"] },
    Wrong { what: "metadata of an unknown version", change: |c| { c.method = Method::GET; c.to("/v2/models/pair/versions/2") }, status: 404, says: &["'pair'", "versions are: 1"] },
    Wrong { what: "metadata of a word", change: |c| { c.method = Method::GET; c.to("/v2/models/pair/versions/two") }, status: 404, says: &["'pair'", "no alias 'two'"] },
    Wrong { what: "metadata of a negative version", change: |c| { c.method = Method::GET; c.to("/v2/models/pair/versions/-2") }, status: 400, says: &["'pair'", "'-2'"] },
    Wrong { what: "metadata of what is no text", change: |c| { c.method = Method::GET; c.to("/v2/models/%ff") }, status: 400, says: &["/v2/models/%ff", "UTF-8"] },
];

impl Call {
    fn good() -> Self {
        Call { method: Method::POST, path: INFER.into(), headers: Vec::new(), json: good(), body: None }
    }

    fn to(&mut self, path: &str) {
        self.path = path.into();
    }

    fn inputs(&mut self) -> &mut Vec<Value> {
        self.json["inputs"].as_array_mut().unwrap()
    }

    fn input(&mut self, index: usize) -> &mut serde_json::Map<String, Value> {
        self.inputs()[index].as_object_mut().unwrap()
    }

    fn add_input(&mut self, name: &str) {
        let mut input = good()["inputs"][0].clone();
        input["name"] = json!(name);
        self.inputs().push(input);
    }

    /// The request for one of the identities, which are named by their datatype.
    fn single(&mut self, datatype: &str, data: Value) {
        self.path = format!("/v2/models/{datatype}/infer");
        self.json = json!({ "inputs": [{ "name": "x", "datatype": datatype, "shape": [1, 2], "data": data }] });
    }

    /// The same with elements that are no JSON, or not the same as others'.
    fn elements(&mut self, datatype: &str, data: &str) {
        self.single(datatype, json!("here"));
        self.body = Some(self.json.to_string().replace("\"here\"", data).into());
    }

    /// The good request in binary, changed.
    fn binary(&mut self, change: fn(&mut Value, &mut Vec<u8>)) {
        let (json, mut data) = good_binary();
        self.json = json;
        change(&mut self.json, &mut data);
        self.behind(&data);
    }

    /// Puts binary tensors behind the JSON.
    fn behind(&mut self, data: &[u8]) {
        let (body, headers) = with_binary(&self.json, data);
        (self.body, self.headers) = (Some(body), headers.into());
    }

    /// A request of bare elements.
    fn raw(&mut self, length: usize) {
        self.headers.push(("inference-header-content-length", "0".into()));
        self.body = Some(vec![0; length]);
    }

    fn into_request(self, server: &Embedded) -> Request<Body> {
        let uri = format!("http://{}{}", server.http, self.path);
        let mut request = Request::builder().method(self.method).uri(uri);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let body = self.body.unwrap_or_else(|| self.json.to_string().into());
        request.body(Body::from(body)).unwrap()
    }
}

/// The good request with the first input's data so many arrays deep.
fn nested(depth: usize) -> Vec<u8> {
    let mut request = good();
    request["inputs"][0]["data"] = json!("here");
    let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    request.to_string().replace("\"here\"", &data).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_report_the_cause() {
    let repository = repository();
    for (name, elem_type, _) in onnx::ELEMENT_TYPES {
        onnx::identity(elem_type, &["batch", "2"]).save(&repository.path().join(format!("{name}.onnx")));
    }
    onnx::identity(onnx::FLOAT, &["1", "n", "m"]).save(&repository.path().join("open.onnx"));
    let server = Embedded::start(repository.path()).await;
    let mut complaints = Vec::new();
    for Wrong { what, change, status, says } in WRONG.iter().chain(ASIDE) {
        let mut call = Call::good();
        change(&mut call);
        let answer = send(call.into_request(&server)).await;
        let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["error"].take();
        let unsaid = says.iter().any(|part| !said.as_str().is_some_and(|said| said.contains(part)));
        if answer.status != *status || unsaid {
            complaints
                .push(format!("{what}: expected {status} with {says:?}, got {} {:?}", answer.status, answer.body));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    // All were refused before they ran, and counted; what is right still works.
    let refused = metric(&server, "onnxd_unrouted_requests_total", &[]).await
        + metric(&server, "nv_inference_request_failure", &["reason=\"OTHER\""]).await;
    assert_eq!(refused, WRONG.len() as f64);
    assert_eq!(metric(&server, "onnxd_rows_total", &[]).await, 0.0);
    let answer = post(server.http, INFER, good().to_string()).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([4.0, 7.0]));
}
