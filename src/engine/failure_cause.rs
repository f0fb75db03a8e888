//! Cause of a failed call of ONNX Runtime. The one place that goes by the words of its messages: where its codes say too little, as
//! for memory, devices and stopped runs, the words are turned into a cause once, here.

use ort::error::ErrorCode;

/// The cause of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureCause {
    /// There was no memory, of which there may be more later.
    OutOfMemory,
    /// A device failed, and neither the model nor its inputs.
    Device,
    /// The run was stopped by its options.
    Stopped,
    /// An operator refused its inputs.
    InvalidInputs,
    /// The run failed. ONNX Runtime has the same code for inputs that an operator refuses and for models that no inputs suit.
    Run,
    /// Anything else.
    Other,
}

/// Words of messages about a lack of memory, on the CPU, with CUDA and with TensorRT. Their codes are those of all failures.
const OUT_OF_MEMORY: [&str; 4] =
    ["Failed to allocate memory for requested buffer", "std::bad_alloc", "out of memory", "OutOfMemory"];

/// Names of libraries of GPUs, which their failures mention. Only TensorRT's have a code.
const OF_DEVICES: [&str; 5] = ["CUDA", "CUBLAS", "CUDNN", "CURAND", "TensorRT"];

impl FailureCause {
    /// The cause of an error.
    pub(super) fn of(error: &ort::Error) -> Self {
        Self::from_message(error.code(), &error.to_string())
    }

    fn from_message(code: ErrorCode, message: &str) -> Self {
        match code {
            _ if OUT_OF_MEMORY.iter().any(|part| message.contains(part)) => FailureCause::OutOfMemory,
            _ if names_device(message) => FailureCause::Device,
            _ if message.contains("terminate flag") => FailureCause::Stopped,
            ErrorCode::InvalidArgument => FailureCause::InvalidInputs,
            ErrorCode::GenericFailure | ErrorCode::RuntimeException | ErrorCode::NotImplemented => FailureCause::Run,
            _ => FailureCause::Other,
        }
    }

    /// True if the device that the call was made for may be to blame: it failed, or its memory is not enough.
    pub(super) fn is_of_device(self) -> bool {
        matches!(self, FailureCause::OutOfMemory | FailureCause::Device)
    }
}

/// True if a message names a library of a GPU.
pub(super) fn names_device(message: &str) -> bool {
    OF_DEVICES.iter().any(|part| message.contains(part))
}
