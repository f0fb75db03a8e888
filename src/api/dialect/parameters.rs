//! The parameters that requests and tensors carry, whichever protocol brings them.

use std::{
    fmt::{self, Display},
    time::{Duration, Instant},
};

use crate::{
    api::headers::PRIORITY_NAME,
    error::{Code, Error, Result},
    tensor::Request,
};

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parameter {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
}

/// As messages show it.
impl Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Bool(value) => value.fmt(f),
            Parameter::Int(value) => value.fmt(f),
            Parameter::Uint(value) => value.fmt(f),
            Parameter::Double(value) => value.fmt(f),
            Parameter::String(value) => write!(f, "'{value}'"),
        }
    }
}

/// True if a parameter of a request or of a tensor means something here.
pub(super) fn is_known(name: &str) -> bool {
    matches!(
        name,
        "timeout"
            | "priority"
            | "binary_data_output"
            | "routing_key"
            | "sequence_id"
            | "sequence_start"
            | "sequence_end"
            | "binary_data_size"
            | "binary_data"
            | "classification"
            | "shared_memory_region"
    )
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct RequestParameters {
    /// When the answer stops being useful.
    pub deadline: Option<Instant>,
    /// The priority level; 0: the model's default.
    pub priority: u64,
    /// The routing key.
    pub routing_key: Option<String>,
    /// True if outputs come in binary unless they say otherwise (HTTP only).
    pub binary_data_output: bool,
}

impl RequestParameters {
    /// Reads those of a request for `model`, as of `now`. Parameters that the server does not know are the model's or another
    /// server's and are ignored; those that would change the answer, were they honoured, are refused.
    pub(super) fn read(
        model: &str,
        parameters: impl Iterator<Item = (String, Parameter)>,
        now: Instant,
    ) -> Result<Self> {
        let named = |error: Error| Error::invalid(format!("request for model '{model}': {error}"));
        let mut read = RequestParameters::default();
        for (name, value) in parameters {
            match name.as_str() {
                "timeout" => {
                    // Microseconds, as in Triton; zero means none.
                    let microseconds = unsigned(&name, &value).map_err(named)?;
                    let deadline = now.checked_add(Duration::from_micros(microseconds));
                    read.deadline = deadline.filter(|_| microseconds > 0);
                }
                "priority" => read.priority = unsigned(&name, &value).map_err(named)?,
                "binary_data_output" => read.binary_data_output = boolean(&name, &value).map_err(named)?,
                "routing_key" => read.routing_key = Some(string(&name, value).map_err(named)?),
                "sequence_id" | "sequence_start" | "sequence_end" if !is_zero(&value) => {
                    return Err(unsupported(format!(
                        "request for model '{model}': parameter '{name}': sequences are not supported"
                    )));
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

/// Takes the level of the header for a request that gives none itself.
pub(in crate::api) fn read_priority(header: Option<&[u8]>, request: &mut Request) -> Result<()> {
    let Some(value) = header.filter(|_| request.priority == 0) else { return Ok(()) };
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    request.priority = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        let came = String::from_utf8_lossy(value);
        let model = &request.model;
        Error::invalid(format!(
            "request for model '{model}': the header {PRIORITY_NAME} must be an integer of at least 0, got '{came}'"
        ))
    })?;
    Ok(())
}

/// Reads the parameters of a tensor: what it says of its binary form, as far as the protocol has one.
#[derive(Debug, Default)]
pub(super) struct TensorParameters {
    /// Bytes of the tensor behind the JSON (inputs over HTTP).
    pub binary_data_size: Option<usize>,
    /// True if the output comes in binary (outputs over HTTP).
    pub binary_data: Option<bool>,
}

impl TensorParameters {
    /// Reads the parameters of the tensor that `what` names, such as "input 'x'".
    pub(super) fn read(what: &str, parameters: impl Iterator<Item = (String, Parameter)>) -> Result<Self> {
        let mut read = TensorParameters::default();
        for (name, value) in parameters {
            match name.as_str() {
                "binary_data_size" => {
                    let size = unsigned(&name, &value).map_err(|error| Error::invalid(format!("{what}: {error}")))?;
                    read.binary_data_size = usize::try_from(size).ok();
                }
                "binary_data" => {
                    let binary = boolean(&name, &value).map_err(|error| Error::invalid(format!("{what}: {error}")))?;
                    read.binary_data = Some(binary);
                }
                "classification" if !is_zero(&value) => {
                    return Err(unsupported(format!("{what}: parameter 'classification' is not supported")));
                }
                "shared_memory_region" => {
                    return Err(unsupported(format!("{what}: shared memory is not supported, send the tensor's data")));
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

fn unsigned(name: &str, value: &Parameter) -> Result<u64> {
    match value {
        Parameter::Uint(value) => Ok(*value),
        Parameter::Int(value) if *value >= 0 => Ok(value.unsigned_abs()),
        other => Err(Error::invalid(format!("parameter '{name}' must be an integer of at least 0, got {other}"))),
    }
}

fn boolean(name: &str, value: &Parameter) -> Result<bool> {
    match value {
        Parameter::Bool(value) => Ok(*value),
        other => Err(Error::invalid(format!("parameter '{name}' must be true or false, got {other}"))),
    }
}

fn string(name: &str, value: Parameter) -> Result<String> {
    match value {
        Parameter::String(value) => Ok(value),
        other => Err(Error::invalid(format!("parameter '{name}' must be a string, got {other}"))),
    }
}

/// True if the value is the one that stands for "not used".
fn is_zero(value: &Parameter) -> bool {
    match value {
        Parameter::Bool(value) => !value,
        Parameter::Int(value) => *value == 0,
        Parameter::Uint(value) => *value == 0,
        Parameter::Double(value) => *value == 0.0,
        Parameter::String(value) => value.is_empty(),
    }
}

fn unsupported(message: String) -> Error {
    Error::new(Code::Unimplemented, message)
}
