//! Datatypes and errors of inputs, whichever dialect they are in.

use std::fmt::Display;

use crate::{
    error::{Error, Result},
    tensor::Datatype,
};

/// An error about an input.
pub(super) fn input_error(model: &str, input: &str, what: impl Display) -> Error {
    Error::invalid(format!("input '{input}' of model '{model}': {what}"))
}

/// The datatype that an input names.
pub(super) fn datatype(model: &str, input: &str, name: &str) -> Result<Datatype> {
    Datatype::from_name(name).ok_or_else(|| {
        let known = Datatype::ALL.map(Datatype::name).join(", ");
        input_error(model, input, format_args!("unknown datatype '{name}', expected one of {known}"))
    })
}
