//! The Open Inference Protocol over gRPC: messages to requests, answers to messages.

mod codec;
mod cost;
mod decode;
mod encode;
mod payload;

#[cfg(any(fuzzing, test))]
pub(crate) use codec::decode_for_fuzzing;
pub(in crate::api) use codec::{OipGrpc, tensor_place};
