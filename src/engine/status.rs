//! Status of a call of ONNX Runtime's C interface.

/// Turns the status of a call into a result.
#[allow(unsafe_code, reason = "takes over a status of ONNX Runtime's C interface")]
pub(super) fn checked(status: ort::sys::OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: the status comes from ONNX Runtime and is handed over once.
    unsafe { ort::Error::result_from_status(status) }
}
