//! What a library of ONNX Runtime says of itself.

use libloading::Library;
use ort::sys;
use std::{
    ffi::{CStr, c_char},
    path::Path,
    ptr, slice,
};

use super::{Engine, checked};

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

impl Engine {
    /// The execution providers that the library has been built with, by their names, in its order of preference.
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub fn providers(&self) -> Vec<String> {
        let api = ort::api();
        let (mut names, mut count) = (ptr::null_mut::<*mut c_char>(), 0);
        // SAFETY: where the call is well there are `count` strings, which live until they are released, after they are copied.
        unsafe {
            if checked((api.GetAvailableProviders)(&raw mut names, &raw mut count)).is_err() || names.is_null() {
                return Vec::new();
            }
            let listed = slice::from_raw_parts(names, usize::try_from(count).unwrap_or(0));
            let copied = listed.iter().map(|name| CStr::from_ptr(*name).to_string_lossy().into_owned()).collect();
            // What can't be released is small.
            let _ = checked((api.ReleaseAvailableProviders)(names, count));
            copied
        }
    }
}
