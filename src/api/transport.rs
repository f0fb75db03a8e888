//! Transport of requests and responses, whichever dialect they are in: bodies, limits, compression, memory.

mod body;
mod codec_pool;
mod compression;
pub(in crate::api) mod grpc;
mod health_only;
pub(crate) mod http;
mod limits;
mod memory_budget;
mod ports;
mod response_body;
mod wrong_port;

pub(crate) use body::aligned_copy;
pub(in crate::api) use body::{Pieces, count_copies};
pub use codec_pool::CodecPool;
pub(in crate::api) use codec_pool::{CHECKED_PER_PARSED, MAX_INLINE_BYTES, has_checked_elements};
pub(crate) use compression::Encoding;
pub(in crate::api) use compression::{Packer, compress_in_place};
pub use health_only::refuse_unless_health;
pub use limits::Limits;
pub(crate) use limits::Refusal;
pub(in crate::api) use limits::{ByteLimit, RefusalKind};
pub use memory_budget::Budget;
pub(crate) use memory_budget::{Share, guarded};
pub use ports::Ports;
pub(in crate::api) use response_body::Trailers;
pub(in crate::api) use response_body::other;
pub use response_body::{AnswerBody, HttpResponse, PendingResponses};
pub(crate) use response_body::{Outgoing, outgoing};
pub(in crate::api) use wrong_port::nothing_there;
