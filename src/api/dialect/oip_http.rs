//! The Open Inference Protocol over HTTP, with the binary tensor extension: bodies to requests, answers to bodies.

mod codec;
mod decode;
mod encode;
mod target;

pub(crate) use codec::OipHttp;
#[cfg(any(fuzzing, test))]
pub(crate) use codec::decode_for_fuzzing;
pub(in crate::api) use decode::{announced_json_length, json_length};
pub(crate) use target::PathTarget;
