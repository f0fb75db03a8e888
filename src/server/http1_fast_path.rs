//! The fast path of HTTP/1.1: small requests from the bytes of a connection to the bytes of their answer, past hyper.
//!
//! An inference of a small model takes less time than the way through an HTTP library: a map of headers, a request and a
//! response of many parts, a channel for a body that is there already. The fast path recognises the head of a request, finds
//! its body, calls the pipeline of every other request, and writes bytes. It takes only what it knows: a request with any other
//! header goes to hyper, with the connection and all that was read of it and not answered. So the limits, the refusals and the
//! finer points of the protocol are hyper's, and are not here a second time.

mod connection;
mod exchange;
mod head;
mod reply;

pub(super) use connection::{ConnectionRules, serve};
pub(super) use exchange::FastPath;
pub(super) use head::Head;
