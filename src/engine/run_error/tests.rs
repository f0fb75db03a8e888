use super::*;

/// Messages of ONNX Runtime 1.31.1, and what clients read.
#[rustfmt::skip]
const MESSAGES: [(&str, &str); 13] = [
    ("Non-zero status code returned while running Gather node. Name:'' Status Message: indices element out of data bounds, idx=0 must be within the inclusive range [0,-1]",
     "operator Gather: indices element out of data bounds, idx=0 must be within the inclusive range [0,-1]"),
    ("Non-zero status code returned while running Gather node. Name:'/encoder/Gather' Status Message: /onnxruntime_src/onnxruntime/core/providers/common.h:31 int64_t onnxruntime::HandleNegativeAxis(int64_t, int64_t) IsAxisInRange(axis, tensor_rank) was false. axis 1 is not in valid range [-0,-1]\n",
     "operator Gather (node '/encoder/Gather'): axis 1 is not in valid range [-0,-1]"),
    ("Non-zero status code returned while running MatMul node. Name:'' Status Message: matmul_helper.h:161 Compute MatMul dimension mismatch",
     "operator MatMul: MatMul dimension mismatch"),
    ("Non-zero status code returned while running Mod node. Name:'' Status Message: element_wise_ops.cc:2256 operator() Integer modulo by zero",
     "operator Mod: Integer modulo by zero"),
    ("Non-zero status code returned while running Reshape node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:40 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) The requested shape has too many elements. Input shape:{2,3,4}, requested shape:{9,9}\n",
     "operator Reshape: The requested shape has too many elements. Input shape:{2,3,4}, requested shape:{9,9}"),
    ("Non-zero status code returned while running Pad node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/padbase.h:96 static void onnxruntime::PadBase::ComputePadsImpl(KernelContextType&, size_t, gsl::span<const long int>, PadsVector&) [with KernelContextType = onnxruntime::OpKernelContext; size_t = long unsigned int; PadsVector = absl::lts_20250814::InlinedVector<long int, 10, std::allocator<long int> >] pads_data.size() == narrow<size_t>(2 * num_axes) was false. Pads tensor size should be equal to twice the number of explicitly provided axes.\n",
     "operator Pad: Pads tensor size should be equal to twice the number of explicitly provided axes."),
    ("Non-zero status code returned while running Expand node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/framework/op_kernel.cc:87 virtual OrtValue* onnxruntime::OpKernelContext::OutputMLValue(int, const onnxruntime::TensorShape&) [ONNXRuntimeError] : 1 : FAIL : tensor.cc:57 CalculateTensorStorageSize Tensor shape.Size() must be >= 0\n",
     "operator Expand: Tensor shape.Size() must be >= 0"),
    ("Non-zero status code returned while running Resize node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/common/safeint.h:17 static void SafeIntExceptionHandler<onnxruntime::OnnxRuntimeException>::SafeIntOnOverflow() Integer overflow\n",
     "operator Resize: Integer overflow"),
    ("Non-zero status code returned while running CumSum node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/math/cumsum.cc:140 onnxruntime::common::Status onnxruntime::CumSum<T>::Compute(onnxruntime::OpKernelContext*) const [with T = int] [ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Axis tensor should be 0D or 1D\n",
     "operator CumSum: Axis tensor should be 0D or 1D"),
    ("Non-zero status code returned while running Gemm node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/math/gemm_helper.h:17 onnxruntime::GemmHelper::GemmHelper(const onnxruntime::TensorShape&, bool, const onnxruntime::TensorShape&, bool, const onnxruntime::TensorShape&) left.NumDimensions() == 2 || left.NumDimensions() == 1 was false. \n",
     "operator Gemm: the check 'left.NumDimensions() == 2 || left.NumDimensions() == 1' failed"),
    ("Non-zero status code returned while running Loop node. Name:'outer' Status Message: Non-zero status code returned while running Mod node. Name:'inner' Status Message: element_wise_ops.cc:2256 operator() Integer modulo by zero",
     "operator Loop (node 'outer'): operator Mod (node 'inner'): Integer modulo by zero"),
    ("/onnxruntime_src/x/string_normalizer.cc:235 onnxruntime::StringNormalizer::Locale::Locale(const std::string&)::<lambda()> Failed to construct locale",
     "Failed to construct locale"),
    ("Input Tensor Dimensions: {2}", "Input Tensor Dimensions: {2}"),
];

#[test]
fn messages_lose_their_cpp_details() {
    for (words, expected) in MESSAGES {
        assert_eq!(cleaned(words), expected);
    }
}

proptest::proptest! {
    #[test]
    fn message_cleaning_survives_any_text(words in "(Non-zero status code returned while running |\\[with |a\\.cc:1 |/x/a\\.h:2 |[a-z():<>\\[\\]{}' ü.&]){0,12}") {
        let _ = cleaned(&words);
    }
}

#[test]
fn memory_and_devices_are_no_fault_of_a_client() {
    let code_of = |words: &str| code(FailureCause::of(&ort::Error::new(words)));
    assert_eq!(code_of("element_wise_ops.cc:2256 operator() Integer modulo by zero"), Code::RunFailed);
    assert_eq!(code_of("Failed to allocate memory for requested buffer of size 3"), Code::ResourceExhausted);
    assert_eq!(code_of("CUDA failure 700: an illegal memory access was encountered"), Code::Internal);
}
