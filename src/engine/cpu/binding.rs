//! Values that are bound to a session, for runs that take the same ones again and again, over ONNX Runtime's C interface.

use ort::{AsPointer, session::Session, sys};
use std::{
    ffi::CStr,
    ptr::{self, NonNull},
};

use crate::engine::{status::checked, value::Value};

/// Values that a session's runs are bound to. It goes before the session does.
pub(in crate::engine) struct Binding(NonNull<sys::OrtIoBinding>);

// SAFETY: a binding belongs to no thread: ONNX Runtime may be called from any.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementation away")]
unsafe impl Send for Binding {}

impl Binding {
    /// One to which nothing is bound yet.
    ///
    /// # Safety
    /// The session lives until the binding is dropped.
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub(in crate::engine) unsafe fn new(session: &Session) -> ort::Result<Self> {
        let mut binding = ptr::null_mut();
        // SAFETY: the session lives.
        checked(unsafe { (ort::api().CreateIoBinding)(session.ptr().cast_mut(), &raw mut binding) })?;
        NonNull::new(binding).map(Binding).ok_or_else(|| ort::Error::new("a binding came back as nothing"))
    }

    /// Has runs take an input from where the value lies.
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub(in crate::engine) fn input(&mut self, name: &CStr, value: &Value) -> ort::Result<()> {
        // SAFETY: all of it lives. The binding keeps the value, and what memory that has is its maker's promise.
        checked(unsafe { (ort::api().BindInput)(self.pointer(), name.as_ptr(), value.pointer()) })
    }

    /// Has runs write an output to where the value lies.
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub(in crate::engine) fn output(&mut self, name: &CStr, value: &Value) -> ort::Result<()> {
        // SAFETY: as above.
        checked(unsafe { (ort::api().BindOutput)(self.pointer(), name.as_ptr(), value.pointer()) })
    }

    /// For ONNX Runtime's functions, while the binding lives.
    pub(in crate::engine) fn pointer(&self) -> *mut sys::OrtIoBinding {
        self.0.as_ptr()
    }
}

impl Drop for Binding {
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    fn drop(&mut self) {
        // SAFETY: the binding is this one's own.
        unsafe { (ort::api().ReleaseIoBinding)(self.pointer()) }
    }
}
