//! Values that go into a run and come out of it, over ONNX Runtime's C interface. The safe one of `ort` describes every output
//! at length (its allocator, where it lies, names of its axes), which takes longer than to run a small model.

use ort::{AsPointer, memory::MemoryInfo, sys};
use std::ptr::{self, NonNull};

use super::{
    element::{datatype, element_type},
    status::checked,
};
use crate::tensor::{ALIGNMENT, Datatype};

/// A value, which is released when it is dropped.
pub(super) struct Value(NonNull<sys::OrtValue>);

// SAFETY: a value belongs to no thread: ONNX Runtime may be called from any.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementation away")]
unsafe impl Send for Value {}

impl Value {
    /// Takes over what ONNX Runtime gave; `None` where that is nothing.
    ///
    /// # Safety
    /// The pointer is null, or to a value that is the caller's and that nothing else releases.
    #[allow(unsafe_code, reason = "ownership is the caller's promise")]
    pub(super) unsafe fn take(pointer: *mut sys::OrtValue) -> Option<Self> {
        NonNull::new(pointer).map(Value)
    }

    /// A tensor over memory that the caller keeps: nothing is copied.
    ///
    /// # Safety
    /// `data` points to `bytes` bytes, which are as many as `datatype` and `extents` need, aligned to 64 bytes; they live until the value is dropped, don't change in a run that takes it, and may be written in one whose output's place it is.
    #[allow(unsafe_code, reason = "the memory's lifetime is the caller's promise")]
    pub(super) unsafe fn over(
        datatype: Datatype,
        extents: &[i64],
        memory: &MemoryInfo<'static>,
        data: *const u8,
        bytes: usize,
    ) -> ort::Result<Self> {
        debug_assert!(data.addr().is_multiple_of(ALIGNMENT), "answers would depend on where the memory lies");
        let create = ort::api().CreateTensorWithDataAsOrtValue;
        let (rank, element) = (extents.len(), element_type(datatype).into());
        let mut value = ptr::null_mut();
        // SAFETY: promised by the caller. ONNX Runtime does not write to the inputs of a graph.
        unsafe {
            let data = data.cast_mut().cast();
            let status = create(memory.ptr(), data, bytes, extents.as_ptr(), rank, element, &raw mut value);
            ort::Error::result_from_status(status)?;
            Self::take(value).ok_or_else(|| ort::Error::new("a tensor came back as nothing"))
        }
    }

    /// For ONNX Runtime's functions, while the value lives.
    pub(super) fn pointer(&self) -> *mut sys::OrtValue {
        self.0.as_ptr()
    }

    /// Type of the elements, where the protocol has one, and the extents. A single call that copies nothing: the older ones make
    /// a description with a name for each axis.
    ///
    /// # Errors
    /// It is no tensor.
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub(super) fn describe(&self) -> ort::Result<(Option<Datatype>, &[i64])> {
        let mut element = sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let (mut extents, mut rank) = (ptr::null(), 0);
        let describe = ort::api().GetTensorElementTypeAndShapeDataReference;
        // SAFETY: the value lives, and each place that is written to is of this call.
        checked(unsafe { describe(self.pointer(), &raw mut element, &raw mut extents, &raw mut rank) })?;
        // SAFETY: the extents are the value's own, as many as the rank says, and change no more. A scalar may have none to point to.
        let extents = if rank == 0 { &[] } else { unsafe { std::slice::from_raw_parts(extents, rank) } };
        Ok((datatype(element.into()), extents))
    }

    /// Where the elements of a tensor lie (of one without strings).
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub(super) fn data(&self) -> ort::Result<*const u8> {
        let mut data = ptr::null_mut();
        // SAFETY: the value is a live tensor.
        checked(unsafe { (ort::api().GetTensorMutableData)(self.pointer(), &raw mut data) })?;
        Ok(data.cast_const().cast())
    }
}

impl Drop for Value {
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    fn drop(&mut self) {
        // SAFETY: the value is this one's own.
        unsafe { (ort::api().ReleaseValue)(self.pointer()) }
    }
}
