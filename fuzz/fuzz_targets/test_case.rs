#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnxd::fuzzing::test_case(data));
