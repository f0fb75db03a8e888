//! ONNX Runtime's memory on the CPU: an allocator of our own, which counts what each session holds and refuses what is too much.
//!
//! ONNX Runtime's own arena has no limit for each model, and never gives back what one large request has made it take. The
//! allocator is registered with the environment, and every session uses it. The run or load that the present thread is in
//! ([`within`]) decides where a block comes from: its [`Pool`] keeps what runs free for the next, and its [`Account`] counts.
//!
//! Without memory it throws `std::bad_alloc`, as C++ code expects of an allocator: ONNX Runtime's kernels write through a null
//! pointer without looking at it. The exception ends the run with a status; nothing else notices.

mod account;
mod block;
mod heap;
mod pool;
mod pooled_bytes;
mod refusal;
mod registration;
mod scope;
mod sweeper;

#[cfg(test)]
mod tests;

pub(in crate::engine) use account::{Account, Purpose, limit_total};
pub(in crate::engine) use pool::Pool;
pub(in crate::engine) use pooled_bytes::PooledBytes;
pub(in crate::engine) use registration::{SESSION_OPTION, register};
pub(in crate::engine) use scope::{refused, take_refusal, within, within_load};
