//! `loadtest echo`: servers that answer without inference, for what their transport alone costs.
//!
//! They are what these libraries give who uses them as they are documented: the runtime with a thread per CPU that shares all
//! work, generated code over gRPC, a function over HTTP/1.1. The HTTP/2 windows and frames are large, so that tensors are not
//! held up.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use onnxd::api::proto::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
};
use prost::Message as _;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tonic::{Status, transport::server::TcpIncoming};

use crate::{
    answer::Reply,
    cli::Echo,
    client::{Client, JSON_LENGTH},
    prepare::{ask, made_up},
    target::{Protocol, Target},
};

/// Recorded answers that are served.
#[derive(Clone)]
struct Canned {
    protocol: Protocol,
    path: String,
    metadata: Bytes,
    reply: Reply,
}

/// Time that the server whose answers are recorded may take for one.
const TIMEOUT: Duration = Duration::from_secs(30);

/// As onnxd has them, and large enough for every tensor that is measured.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const MAX_FRAME: u32 = 256 << 10;
const MAX_STREAMS: u32 = 1024;
const MAX_MESSAGE: usize = 256 << 20;

/// Takes answers from other servers and serves them, until the process is ended.
///
/// # Errors
/// For people: a server can't be asked, or an address can't be listened on.
pub(crate) fn echo(options: &Echo) -> Result<(), String> {
    let asking = crate::local_runtime()?;
    let mut canned = Vec::new();
    for target in &options.like {
        let taken = crate::block_on(&asking, take(target, options));
        canned.push(taken.map_err(|why| format!("{target}: {why}"))?);
    }
    drop(asking);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("a runtime can't be started: {error}"))?;
    runtime.block_on(serve(canned, options))
}

async fn take(target: &Target, options: &Echo) -> Result<Canned, String> {
    let client = Client::connect(target, 1).await.map_err(|failure| failure.message)?;
    let metadata = client.metadata().await.map_err(|failure| failure.message)?;
    let message = made_up(target, &metadata, &options.shape, None, 1)?.swap_remove(0);
    let reply = ask(&client, &message, TIMEOUT).await?;
    Ok(Canned { protocol: target.protocol, path: target.path(), metadata: metadata.body, reply })
}

async fn serve(canned: Vec<Canned>, options: &Echo) -> Result<(), String> {
    let (grpc, http): (Vec<_>, Vec<_>) = canned.into_iter().partition(|canned| canned.protocol == Protocol::Grpc);
    let mut servers = tokio::task::JoinSet::new();
    if let Some(canned) = grpc.into_iter().next() {
        let listener = listen(options.grpc, "grpc").await?;
        let service = GrpcEcho::new(&canned)?;
        servers.spawn(serve_grpc(listener, service));
    }
    if !http.is_empty() {
        let listener = listen(options.http, "http").await?;
        servers.spawn(serve_http(listener, http.into()));
    }
    tokio::select! {
        Some(ended) = servers.join_next() => ended.map_err(|error| error.to_string())?,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

#[allow(clippy::print_stdout, reason = "scripts read the address")]
async fn listen(address: SocketAddr, name: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
    println!("{name} {}", listener.local_addr().map_err(|error| error.to_string())?);
    Ok(listener)
}

async fn serve_grpc(listener: TcpListener, service: GrpcEcho) -> Result<(), String> {
    let service = GrpcInferenceServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .map_err(|error| error.to_string())
}

/// The service as tonic's users write it.
struct GrpcEcho {
    metadata: ModelMetadataResponse,
    answer: ModelInferResponse,
}

impl GrpcEcho {
    fn new(canned: &Canned) -> Result<Self, String> {
        let metadata = ModelMetadataResponse::decode(canned.metadata.clone());
        let answer = ModelInferResponse::decode(canned.reply.body.clone());
        let understood = |error: prost::DecodeError| error.to_string();
        Ok(GrpcEcho { metadata: metadata.map_err(understood)?, answer: answer.map_err(understood)? })
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for GrpcEcho {
    async fn model_infer(
        &self,
        request: tonic::Request<ModelInferRequest>,
    ) -> Result<tonic::Response<ModelInferResponse>, Status> {
        let request = request.into_inner();
        let answer = ModelInferResponse { model_name: request.model_name, id: request.id, ..self.answer.clone() };
        Ok(tonic::Response::new(answer))
    }

    async fn model_metadata(
        &self,
        _: tonic::Request<ModelMetadataRequest>,
    ) -> Result<tonic::Response<ModelMetadataResponse>, Status> {
        Ok(tonic::Response::new(self.metadata.clone()))
    }

    async fn server_live(
        &self,
        _: tonic::Request<ServerLiveRequest>,
    ) -> Result<tonic::Response<ServerLiveResponse>, Status> {
        Ok(tonic::Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: tonic::Request<ServerReadyRequest>,
    ) -> Result<tonic::Response<ServerReadyResponse>, Status> {
        Ok(tonic::Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        _: tonic::Request<ModelReadyRequest>,
    ) -> Result<tonic::Response<ModelReadyResponse>, Status> {
        Ok(tonic::Response::new(ModelReadyResponse { ready: true }))
    }

    async fn server_metadata(
        &self,
        _: tonic::Request<ServerMetadataRequest>,
    ) -> Result<tonic::Response<ServerMetadataResponse>, Status> {
        Ok(tonic::Response::new(ServerMetadataResponse { name: "echo".into(), ..Default::default() }))
    }
}

async fn serve_http(listener: TcpListener, canned: Arc<[Canned]>) -> Result<(), String> {
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let canned = canned.clone();
        let service = service_fn(move |request| answer_http(request, canned.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer_http(request: Request<Incoming>, canned: Arc<[Canned]>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // A client that breaks off gets no answer anyway.
    let _ = body.collect().await;
    let is_binary = head.headers.contains_key(JSON_LENGTH);
    let is_infer = head.method == http::Method::POST;
    let asks_for = |canned: &&Canned| {
        let path = head.uri.path();
        let path = if is_infer { path.strip_suffix("/infer").unwrap_or_default() } else { path };
        path == canned.path && (!is_infer || is_binary == (canned.protocol == Protocol::HttpBinary))
    };
    let Some(canned) = canned.iter().find(asks_for) else {
        let mut response = Response::new(Full::from("{\"error\":\"the echo has no answer to this\"}"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    if !is_infer {
        return Ok(Response::new(Full::new(canned.metadata.clone())));
    }
    let mut response = Response::builder();
    response = match canned.reply.json_length {
        Some(length) => response.header(JSON_LENGTH, length).header(CONTENT_TYPE, "application/octet-stream"),
        None => response.header(CONTENT_TYPE, "application/json"),
    };
    Ok(response.body(Full::new(canned.reply.body.clone())).unwrap_or_default())
}
