#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnxd::fuzzing::http_json(data));
