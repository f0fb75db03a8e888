//! HTTP without its bodies: errors, and the `Date` header.

mod date;
mod error;

pub(crate) use date::{date, date_header};
pub(crate) use error::{ErrorResponse, refusal};
pub(in crate::api) use error::{refused, wrong_method};
