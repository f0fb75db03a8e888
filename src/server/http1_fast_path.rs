//! The fast path of HTTP/1.1: small requests from the bytes of a connection to the bytes of their answer, past hyper.
//!
//! An HTTP library takes more time than an inference of a small model. It builds a map of headers, a request and a response of
//! many parts, and a channel for a body that is complete already. The fast path parses the head of a request, finds its body,
//! calls the pipeline that every request goes through, and writes bytes. It accepts only the headers that it knows. A request
//! with any other header goes to hyper, with the connection and all bytes that were read and not answered. So the limits, the
//! refusals and the finer points of the protocol stay in hyper, and are not implemented a second time.

mod connection;
mod exchange;
mod head;
mod reply;

pub(super) use connection::{ConnectionRules, serve};
pub(super) use exchange::FastPath;
pub(super) use head::Head;
