use std::time::{Duration, Instant};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    decode, encode,
    proto::{
        ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
        ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
        ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
    },
    status,
};
use crate::{
    api::{Context, EXTENSIONS, SERVER_NAME, SERVER_VERSION, parse_version},
    error::{Error, Result},
};

/// The inference service.
pub(super) struct Service {
    context: Context,
}

impl Service {
    pub(super) fn new(context: Context) -> Self {
        Service { context }
    }

    /// One inference: decode, call, encode. What carries the messages is not known here.
    async fn infer(&self, request: ModelInferRequest, timeout: Option<Duration>) -> Result<ModelInferResponse> {
        let id = request.id.clone();
        let mut request =
            decode::request(request, Instant::now()).inspect_err(|error| self.context.router.undecoded(error))?;
        let from_metadata = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        request.deadline = request.deadline.into_iter().chain(from_metadata).min();
        let answer = self.context.router.infer(request).await?;
        Ok(encode::response(answer, id))
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.context.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        let ready = parse_version(&request.name, &request.version)
            .and_then(|version| self.context.model_ready(&request.name, version))
            .map_err(status)?;
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: SERVER_NAME.into(),
            version: SERVER_VERSION.into(),
            extensions: EXTENSIONS.map(String::from).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let (table, version) = parse_version(&request.name, &request.version)
            .and_then(|version| self.context.version(&request.name, version))
            .map_err(status)?;
        Ok(Response::new(encode::metadata(&table, &version)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let timeout = grpc_timeout(request.metadata()).map_err(status)?;
        self.infer(request.into_inner(), timeout).await.map(Response::new).map_err(status)
    }
}

/// The deadline that the client set, as a time from now: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(metadata: &MetadataMap) -> Result<Option<Duration>> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    let parse = |text: &str| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let amount: u64 = (digits.len() <= 8).then(|| digits.parse().ok())??;
        match unit {
            "H" => Some(Duration::from_secs(amount * 3600)),
            "M" => Some(Duration::from_secs(amount * 60)),
            "S" => Some(Duration::from_secs(amount)),
            "m" => Some(Duration::from_millis(amount)),
            "u" => Some(Duration::from_micros(amount)),
            "n" => Some(Duration::from_nanos(amount)),
            _ => None,
        }
    };
    let timeout = value.to_str().ok().and_then(parse);
    let invalid = || {
        Error::invalid(format!(
            "grpc-timeout {value:?} is not a number of at most 8 digits and one of H, M, S, m, u, n"
        ))
    };
    timeout.map(Some).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts() {
        let parse = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            grpc_timeout(&metadata)
        };
        assert_eq!(grpc_timeout(&MetadataMap::new()), Ok(None));
        assert_eq!(parse("5S"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(parse("99999999H"), Ok(Some(Duration::from_secs(99_999_999 * 3600))));
        assert_eq!(parse("20u"), Ok(Some(Duration::from_micros(20))));
        for wrong in ["", "S", "5", "5s", "-5S", "123456789S", "1.5S"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
