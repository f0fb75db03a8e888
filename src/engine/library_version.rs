//! Version of a library of ONNX Runtime, by its own word.

use libloading::Library;
use ort::sys;
use std::{ffi::CStr, path::Path};

/// The version of a library, also of one that this build can't use.
///
/// # Errors
/// It can't be loaded, or is no ONNX Runtime.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface, before it is known which")]
pub fn version_of(library: &Path) -> Result<String, String> {
    type Base = unsafe extern "C" fn() -> *const sys::OrtApiBase;
    // SAFETY: the library's initializers run, as they do when it is used. Of every version of ONNX Runtime the function is of
    // this type, and what it points to begins with these two and lives as long as the library, which outlives the copy.
    unsafe {
        let library = Library::new(library).map_err(|error| error.to_string())?;
        let base = library.get::<Base>(b"OrtGetApiBase").map_err(|error| error.to_string())?();
        let base = base.as_ref().ok_or("OrtGetApiBase gives nothing")?;
        Ok(CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned())
    }
}
