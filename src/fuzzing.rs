//! Functions that the fuzz targets in `fuzz/` run: every decoder of input from outside, without the sockets and files around
//! it. Each must return, whatever the bytes. If a decoder accepts them, the decoded value must be consistent. `cargo test` runs
//! the kept corpora too.

use bytes::Bytes;

use crate::{
    api,
    commands::cli,
    config::ModelConfig,
    json::{Elements, Reader, write_elements},
    tensor::{BytesElements, Datatype, Inputs, Request, RowCutter, Shape, Tensor, concatenate},
};

/// The body of an inference request over HTTP, all JSON.
pub fn http_json(data: &[u8]) {
    if let Ok(request) = api::dialect::oip_http::decode_for_fuzzing(None, Bytes::copy_from_slice(data)) {
        consistent(&request);
    }
}

/// The body with binary tensors behind the JSON. A first line replaces the header with the JSON's length.
pub fn http_binary(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (header, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok(request) = api::dialect::oip_http::decode_for_fuzzing(Some(header), Bytes::copy_from_slice(body)) {
        consistent(&request);
    }
}

/// A message of an inference request over gRPC.
pub fn grpc(data: &[u8]) {
    if let Some(Ok(request)) = api::dialect::oip_grpc::decode_for_fuzzing(Bytes::copy_from_slice(data)) {
        consistent(&request);
    }
}

/// A tensor of BYTES; the first byte is its number of rows.
pub fn bytes_elements(data: &[u8]) {
    let Some((&rows, data)) = data.split_first() else { return };
    let count = BytesElements::new(data).count();
    let (rows, columns) = (usize::from(rows), count.checked_div(rows.into()).unwrap_or(0));
    let shape = Shape::new(vec![rows, columns]);
    if let Ok(tensor) = Tensor::new(Datatype::Bytes, shape, Bytes::copy_from_slice(data)) {
        assert_eq!(rows * columns, count);
        holds_together(&tensor);
    }
}

/// A model's `config.toml` and the server's settings.
pub fn config(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        let _ = ModelConfig::parse(&"config.toml", text);
        cli::parse_for_fuzzing(text);
    }
}

/// A test case of a version.
pub fn test_case(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        let _ = crate::loader::read_for_fuzzing(text);
    }
}

fn consistent(request: &Request) {
    if let Inputs::Named(inputs) = &request.inputs {
        inputs.iter().for_each(|input| holds_together(&input.tensor));
    }
}

/// Checks that a tensor can be cut into rows and joined again, and be written as JSON and read again.
fn holds_together(tensor: &Tensor) {
    if !tensor.shape().extents().is_empty() && tensor.shape().rows() <= 1 << 10 {
        let mut cutter = RowCutter::new(tensor);
        let rows: Vec<Tensor> = (0..tensor.shape().rows()).map(|_| cutter.take(1)).collect();
        let joined = concatenate(&rows.iter().collect::<Vec<_>>());
        assert!(rows.is_empty() || joined.as_ref() == Some(tensor), "{tensor:?} {joined:?}");
    }
    let mut text = Vec::new();
    write_elements(&mut text, tensor);
    let text = String::from_utf8(text).expect("JSON is text");
    let elements = Elements::read(&mut Reader::new(&text), tensor.datatype(), 0).expect("JSON of our own");
    elements.into_tensor(tensor.shape().clone()).expect("as many elements as were written");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    type FuzzTarget = fn(&[u8]);

    #[test]
    fn fuzz_corpora_decode_without_panic() {
        let targets: [(&str, FuzzTarget); 6] = [
            ("http_json", super::http_json),
            ("http_binary", super::http_binary),
            ("grpc", super::grpc),
            ("bytes_elements", super::bytes_elements),
            ("config", super::config),
            ("test_case", super::test_case),
        ];
        for (target, run) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
            let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(!files.is_empty(), "{} is empty", folder.display());
            files.iter().for_each(|file| run(&fs::read(file).unwrap()));
        }
    }
}
