//! The server's words into messages.

use super::proto::{
    ModelInferResponse, ModelMetadataResponse, model_infer_response::InferOutputTensor,
    model_metadata_response::TensorMetadata,
};
use crate::{
    api::{PLATFORM, properties},
    router::{Answer, Table, Version},
    tensor::TensorSpec,
};

/// An answer. Every output is raw: clients read typed contents of a response for strings at most.
pub(super) fn response(answer: Answer, id: String) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: answer.version.model.to_string(),
        model_version: answer.version.version.to_string(),
        id,
        ..ModelInferResponse::default()
    };
    for output in answer.output.tensors {
        response.outputs.push(InferOutputTensor {
            name: output.name.to_string(),
            datatype: output.tensor.datatype().name().into(),
            shape: output.tensor.shape().to_wire().collect(),
            ..InferOutputTensor::default()
        });
        response.raw_output_contents.push(output.tensor.into_data());
    }
    response
}

/// The metadata of a version.
pub(super) fn metadata(table: &Table, version: &Version) -> ModelMetadataResponse {
    let versions =
        table.models.get(&*version.model).map(|model| model.ready().map(|ready| ready.version.to_string()).collect());
    ModelMetadataResponse {
        name: version.model.to_string(),
        versions: versions.unwrap_or_default(),
        platform: PLATFORM.into(),
        inputs: version.signature.all_inputs().map(tensor_metadata).collect(),
        outputs: version.signature.outputs.iter().map(tensor_metadata).collect(),
        properties: properties(version).into_iter().collect(),
    }
}

fn tensor_metadata(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata { name: spec.name.to_string(), datatype: spec.datatype.name().into(), shape: spec.wire_shape() }
}
