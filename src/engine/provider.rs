//! Execution providers: which of them the library has, and how a session is told to use one. `ort` has a type for each and lets
//! a session that was refused one run on the CPU; options go by name here, and what is refused is an error.

use ort::{AsPointer, session::builder::SessionBuilder, sys};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ptr,
};

use super::{checked, target::Provider};
use crate::config::OtherProvider;

impl Provider {
    /// How ONNX Runtime calls it where it lists what it has.
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
struct Options {
    _strings: Vec<(CString, CString)>,
    keys: Vec<*const c_char>,
    values: Vec<*const c_char>,
}

impl Options {
    fn new(options: &BTreeMap<String, String>) -> ort::Result<Self> {
        let string = |text: &str| {
            CString::new(text).map_err(|_| ort::Error::new(format!("'{}' has a NUL in it", text.escape_debug())))
        };
        let strings = options.iter().map(|(key, value)| Ok((string(key)?, string(value)?)));
        let strings = strings.collect::<ort::Result<Vec<_>>>()?;
        let (keys, values) = strings.iter().map(|(key, value)| (key.as_ptr(), value.as_ptr())).unzip();
        Ok(Options { _strings: strings, keys, values })
    }
}

/// A function that has a session run by a provider what nothing before it takes. The provider's options are an object of C.
macro_rules! register_with_object {
    ($(#[$doc:meta])* $name:ident: $object:ty, $create:ident, $update:ident, $append:ident, $release:ident) => {
        $(#[$doc])*
        #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
        pub(super) fn $name(builder: &mut SessionBuilder, options: &BTreeMap<String, String>) -> ort::Result<()> {
            let (api, options) = (ort::api(), Options::new(options)?);
            let mut object: *mut $object = ptr::null_mut();
            // SAFETY: the place lives; what comes back is released below, once.
            checked(unsafe { (api.$create)(&raw mut object) })?;
            let (keys, values, count) = (options.keys.as_ptr(), options.values.as_ptr(), options.keys.len());
            // SAFETY: the object and the strings live, there are as many as is told, and so do the builder's session options.
            let updated = checked(unsafe { (api.$update)(object, keys, values, count) });
            // SAFETY: as above.
            let registered = updated.and_then(|()| checked(unsafe { (api.$append)(builder.ptr_mut(), object) }));
            // SAFETY: nothing keeps it: what was registered is a copy.
            unsafe { (api.$release)(object) };
            registered
        }
    };
}

register_with_object!(
    /// CUDA.
    register_cuda: sys::OrtCUDAProviderOptionsV2,
    CreateCUDAProviderOptions,
    UpdateCUDAProviderOptions,
    SessionOptionsAppendExecutionProvider_CUDA_V2,
    ReleaseCUDAProviderOptions
);

register_with_object!(
    /// TensorRT.
    register_tensorrt: sys::OrtTensorRTProviderOptionsV2,
    CreateTensorRTProviderOptions,
    UpdateTensorRTProviderOptions,
    SessionOptionsAppendExecutionProvider_TensorRT_V2,
    ReleaseTensorRTProviderOptions
);

/// Has a session run by a provider that goes by its name what nothing before it takes.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(super) fn register_other(
    builder: &mut SessionBuilder,
    other: OtherProvider,
    options: &BTreeMap<String, String>,
) -> ort::Result<()> {
    let options = Options::new(options)?;
    let name = match other {
        OtherProvider::OpenVino => c"OpenVINO",
        OtherProvider::MiGraphX => c"MIGraphX",
        OtherProvider::CoreMl => c"CoreML",
        OtherProvider::Xnnpack => c"XNNPACK",
    };
    // SAFETY: the strings live, there are as many keys and values as is told, and the builder's session options are its own.
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
