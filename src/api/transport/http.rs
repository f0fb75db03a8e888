//! HTTP/1.1 without its bodies: heads of requests, and the `Date` header.

pub(in crate::api) mod date;
pub(in crate::api) mod head;

pub use date::date_header;
pub use head::Head;
pub use head::Look;
