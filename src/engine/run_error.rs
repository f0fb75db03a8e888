//! Errors of runs: who is to blame, and ONNX Runtime's message without its C++ source locations.

use super::{
    cpu::allocator::take_refusal,
    failure_cause::{FailureCause, names_device},
};
use crate::error::{Code, Error};

/// The error of a failed run.
///
/// ONNX Runtime calls some mistakes of clients invalid arguments, such as an index beyond a table. It calls most of them
/// failures, as it does a model that no input suits: then the code is [`Code::RunFailed`].
pub(super) fn run_error(error: &ort::Error) -> Error {
    let words = error.to_string();
    let message = cleaned(&words);
    if let Some(refusal) = take_refusal() {
        return refusal.error(&words);
    }
    let cause = FailureCause::of(error);
    // The message of a device's failure names the device.
    let message = if cause.is_of_device() && names_device(&words) && !names_device(&message) { words } else { message };
    let error = Error::new(code(cause), message);
    if cause.is_of_device() { error.blame_device() } else { error }
}

fn code(cause: FailureCause) -> Code {
    match cause {
        FailureCause::OutOfMemory => Code::ResourceExhausted,
        FailureCause::InvalidInputs => Code::InvalidArgument,
        FailureCause::Run | FailureCause::Stopped => Code::RunFailed,
        FailureCause::Device | FailureCause::Other => Code::Internal,
    }
}

/// ONNX Runtime's message for a client: which operator refused what. Paths of source files, functions and conditions in C++ are
/// left out.
pub(super) fn cleaned(words: &str) -> String {
    let mut rest = words.trim();
    let mut cleaned = String::new();
    loop {
        if let Some((operator, name, behind)) = failed_node(rest) {
            cleaned.push_str("operator ");
            cleaned.push_str(operator);
            if !name.is_empty() {
                cleaned.push_str(&format!(" (node '{name}')"));
            }
            cleaned.push_str(": ");
            rest = behind;
        } else if let Some(behind) = without_status(rest).or_else(|| without_location(rest)) {
            rest = behind;
        } else {
            break;
        }
    }
    // A check that failed, and usually the reason behind it.
    let condition_and_reason = rest.split_once(" was false.").map(|(condition, reason)| (condition, reason.trim()));
    match condition_and_reason {
        Some((condition, "")) => cleaned.push_str(&format!("the check '{condition}' failed")),
        Some((_, reason)) => cleaned.push_str(reason),
        None => cleaned.push_str(rest),
    }
    cleaned
}

/// The operator and the name of the node that a message is about, and what it says of it.
fn failed_node(words: &str) -> Option<(&str, &str, &str)> {
    let (operator, rest) = words.strip_prefix("Non-zero status code returned while running ")?.split_once(" node. ")?;
    let (name, rest) = rest.strip_prefix("Name:'")?.split_once("' Status Message: ")?;
    Some((operator, name, rest.trim_start()))
}

/// A message without the status that stands in front of it: "[ONNXRuntimeError] : 1 : FAIL : ...".
fn without_status(words: &str) -> Option<&str> {
    let rest = words.strip_prefix("[ONNXRuntimeError] : ")?;
    rest.splitn(3, " : ").nth(2).map(str::trim_start)
}

/// A message without the source location in front of it: "split.cc:82 Compute ..." or "/path/split.cc:82 ns::Class::f(int) ...".
fn without_location(words: &str) -> Option<&str> {
    let (location, rest) = words.split_once(' ')?;
    let (file, line) = location.rsplit_once(':')?;
    let is_source = [".cc", ".h", ".cpp", ".hpp", ".cu", ".cuh", ".inl"].iter().any(|ending| file.ends_with(ending));
    if !is_source || line.is_empty() || !line.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if file.contains('/') {
        return Some(without_signature(rest).unwrap_or(rest).trim_start());
    }
    // The function's bare name.
    Some(rest.split_once(' ').map_or(rest, |(_, rest)| rest).trim_start())
}

/// The text behind a function's signature, as compilers write it; `None` where there is none.
fn without_signature(words: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut bytes = words.bytes().enumerate().peekable();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'(' | b'<' | b'[' | b'{' => depth += 1,
            b')' | b'>' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let ends = byte == b')' || byte == b'>' && words[..index].ends_with("<lambda()");
        if ends && depth == 0 && bytes.peek().is_none_or(|(_, next)| *next == b' ') {
            let mut rest = words[index + 1..].trim_start();
            for suffix in ["const", "noexcept", "&", "&&"] {
                let behind = rest.strip_prefix(suffix).filter(|behind| behind.starts_with(' '));
                rest = behind.unwrap_or(rest).trim_start();
            }
            return Some(without_template_arguments(rest).unwrap_or(rest));
        }
    }
    None
}

/// The text behind "[with T = ...]".
fn without_template_arguments(words: &str) -> Option<&str> {
    if !words.starts_with("[with ") {
        return None;
    }
    let mut depth = 0_usize;
    let end = words.bytes().position(|byte| {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(words[end + 1..].trim_start())
}

#[cfg(test)]
mod tests;
