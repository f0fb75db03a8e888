//! Execution providers: those that the library has, and their registration with a session. `ort` has a type for each and lets
//! a session that was refused one run on the CPU; options go by name here, and what is refused is an error.

use ort::{AsPointer, session::builder::SessionBuilder, sys};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ptr,
};

use super::{status::checked, target::Provider};
use crate::config::OtherProvider;

impl Provider {
    /// ONNX Runtime's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Cpu => "CPUExecutionProvider",
            Provider::Cuda { .. } => "CUDAExecutionProvider",
            Provider::TensorRt { .. } => "TensorrtExecutionProvider",
            Provider::Other(OtherProvider::OpenVino) => "OpenVINOExecutionProvider",
            Provider::Other(OtherProvider::MiGraphX) => "MIGraphXExecutionProvider",
            Provider::Other(OtherProvider::CoreMl) => "CoreMLExecutionProvider",
            Provider::Other(OtherProvider::Xnnpack) => "XnnpackExecutionProvider",
        }
    }
}

/// The providers that the library was built with, by their names.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(super) fn compiled_in() -> ort::Result<Vec<String>> {
    let api = ort::api();
    let (mut names, mut count) = (ptr::null_mut(), 0);
    // SAFETY: both places live; what comes back is an array of so many strings, which is released below.
    checked(unsafe { (api.GetAvailableProviders)(&raw mut names, &raw mut count) })?;
    let providers = (0..usize::try_from(count).unwrap_or(0)).map(|index| {
        // SAFETY: the index is below the number of strings, each of which lives until they are released.
        unsafe { CStr::from_ptr(*names.add(index)) }.to_string_lossy().into_owned()
    });
    let providers = providers.collect();
    // SAFETY: it is what came back, and is released once.
    checked(unsafe { (api.ReleaseAvailableProviders)(names, count) })?;
    Ok(providers)
}

/// Options for C: the strings, and where they are.
pub(super) struct CStringOptions {
    _strings: Vec<(CString, CString)>,
    pub keys: Vec<*const c_char>,
    pub values: Vec<*const c_char>,
}

impl CStringOptions {
    pub(super) fn new(options: &BTreeMap<String, String>) -> ort::Result<Self> {
        let string = |text: &str| {
            CString::new(text).map_err(|_| ort::Error::new(format!("'{}' has a NUL in it", text.escape_debug())))
        };
        let strings = options.iter().map(|(key, value)| Ok((string(key)?, string(value)?)));
        let strings = strings.collect::<ort::Result<Vec<_>>>()?;
        let (keys, values) = strings.iter().map(|(key, value)| (key.as_ptr(), value.as_ptr())).unzip();
        Ok(CStringOptions { _strings: strings, keys, values })
    }
}

/// A function that has a session run by a provider what nothing before it takes. The provider's options are an object of C.
macro_rules! register_with_object {
    ($(#[$doc:meta])* $name:ident: $object:ty, $create:ident, $update:ident, $append:ident, $release:ident) => {
        $(#[$doc])*
        #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
        pub(super) fn $name(builder: &mut ::ort::session::builder::SessionBuilder,
            options: &::std::collections::BTreeMap<String, String>,
        ) -> ::ort::Result<()> {
            let (api, options) = (::ort::api(), $crate::engine::provider::CStringOptions::new(options)?);
            let mut object: *mut $object = ::std::ptr::null_mut();
            // SAFETY: the place lives; what comes back is released below, once.
            $crate::engine::status::checked(unsafe { (api.$create)(&raw mut object) })?;
            let (keys, values, count) = (options.keys.as_ptr(), options.values.as_ptr(), options.keys.len());
            // SAFETY: the object and the strings live, there are as many as the count says, and so do the builder's session options.
            let updated = $crate::engine::status::checked(unsafe { (api.$update)(object, keys, values, count) });
            // SAFETY: as above.
            let registered = updated.and_then(|()| $crate::engine::status::checked(unsafe { (api.$append)(::ort::AsPointer::ptr_mut(builder), object) }));
            // SAFETY: nothing keeps it: what was registered is a copy.
            unsafe { (api.$release)(object) };
            registered
        }
    };
}

pub(super) use register_with_object;

register_with_object!(
    /// CUDA.
    register_cuda: sys::OrtCUDAProviderOptionsV2,
    CreateCUDAProviderOptions,
    UpdateCUDAProviderOptions,
    SessionOptionsAppendExecutionProvider_CUDA_V2,
    ReleaseCUDAProviderOptions
);

/// Has a session run by a provider that goes by its name what nothing before it takes.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(super) fn register_other(
    builder: &mut SessionBuilder,
    other: OtherProvider,
    options: &BTreeMap<String, String>,
) -> ort::Result<()> {
    let options = CStringOptions::new(options)?;
    let name = match other {
        OtherProvider::OpenVino => c"OpenVINO",
        OtherProvider::MiGraphX => c"MIGraphX",
        OtherProvider::CoreMl => c"CoreML",
        OtherProvider::Xnnpack => c"XNNPACK",
    };
    // SAFETY: the strings live, there are as many keys and values as the count says, and the builder's session options are its own.
    checked(unsafe {
        (ort::api().SessionOptionsAppendExecutionProvider)(
            builder.ptr_mut(),
            name.as_ptr(),
            options.keys.as_ptr(),
            options.values.as_ptr(),
            options.keys.len(),
        )
    })
}
