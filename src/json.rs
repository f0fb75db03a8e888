//! JSON of requests, answers and test cases: an own reader, since libraries build a value for each number of a tensor. Numbers
//! become the elements of a tensor straight from their text (FP32 by way of FP64 would be rounded twice), NaN, Infinity and
//! -Infinity are numbers, as Python and TF Serving write them, and an array of a million numbers makes no million values.

mod elements;
mod reader;
mod tensor;

pub use elements::{Elements, min_json_bytes, write_elements, write_elements_while};
pub use reader::{Reader, ValueKind};
pub use tensor::{TensorObject, once};
