//! gRPC, straight on HTTP/2 frames: a client library's own work would be a good part of the measured work.

use ::http::{HeaderMap, Method, Request, Uri, header::CONTENT_TYPE};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use onnxd::api::proto::{ModelMetadataRequest, ModelMetadataResponse};
use percent_encoding::percent_decode_str;
use prost::Message as _;
use std::cell::{Cell, RefCell};

use super::{Metadata, open};
use crate::{
    answer::Reply,
    message::{Message, grpc_frame},
    tally::Failure,
    target::Target,
};

/// Flow-control windows for answers, and frames: no answer is to wait for this client.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const MAX_FRAME: u32 = 1 << 20;

/// In front of every message.
const PREFIX: usize = 5;

/// Connections that requests take in turns.
pub(crate) struct Client {
    target: Target,
    connections: Vec<RefCell<SendRequest<Bytes>>>,
    next: Cell<usize>,
    infer: Request<()>,
}

impl Client {
    pub(super) async fn connect(target: &Target, connections: usize) -> Result<Self, Failure> {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(RefCell::new(connection(target).await?));
        }
        let infer = request(target, "ModelInfer")?;
        Ok(Client { target: target.clone(), connections: open, next: Cell::new(0), infer })
    }

    pub(super) async fn infer(&self, message: &Message) -> Result<Reply, Failure> {
        let body = self.call(&self.infer, message.body.clone()).await?;
        Ok(Reply { body, json_length: None })
    }

    pub(super) async fn metadata(&self) -> Result<Metadata, Failure> {
        let name = self.target.model.clone();
        let version = self.target.version.clone().unwrap_or_default();
        let message = grpc_frame(&ModelMetadataRequest { name, version });
        let body = self.call(&request(&self.target, "ModelMetadata")?, message.into()).await?;
        let answer = ModelMetadataResponse::decode(body.clone());
        let answer = answer.map_err(|error| Failure::answered("bad metadata", error.to_string()))?;
        Metadata::from_grpc(answer, body)
    }

    async fn call(&self, request: &Request<()>, message: Bytes) -> Result<Bytes, Failure> {
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        let slot = &self.connections[turn % self.connections.len()];
        let sender = slot.borrow().clone();
        let called = match sender.ready().await {
            Ok(sender) => exchange(sender, request, message).await,
            Err(error) => Err(broken(&error)),
        };
        if called.as_ref().is_err_and(|failure| failure.disconnected) {
            // For those who come after.
            slot.replace(connection(&self.target).await?);
        }
        called
    }
}

async fn connection(target: &Target) -> Result<SendRequest<Bytes>, Failure> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(CONNECTION_WINDOW as usize);
    let (sender, connection) = builder.handshake(open(target).await?).await.map_err(|error| broken(&error))?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

fn request(target: &Target, method: &str) -> Result<Request<()>, Failure> {
    let uri = format!("http://{}/inference.GRPCInferenceService/{method}", target.authority());
    let uri: Uri = uri.parse().map_err(|error: ::http::uri::InvalidUri| Failure::disconnected("connect", &error))?;
    let request = Request::builder().method(Method::POST).uri(uri);
    let request = request.header(CONTENT_TYPE, "application/grpc").header("te", "trailers").body(());
    request.map_err(|error| Failure::disconnected("connect", &error))
}

async fn exchange(mut sender: SendRequest<Bytes>, request: &Request<()>, message: Bytes) -> Result<Bytes, Failure> {
    let (answer, mut body) = sender.send_request(request.clone(), false).map_err(|error| broken(&error))?;
    body.send_data(message, true).map_err(|error| broken(&error))?;
    let (head, mut body) = answer.await.map_err(|error| broken(&error))?.into_parts();
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| broken(&error))?;
        let _ = body.flow_control().release_capacity(data.len());
        // Most answers come in one piece, which need not be copied.
        match (first.is_empty(), gathered.is_empty()) {
            (true, _) => first = data,
            (false, true) => {
                gathered.extend_from_slice(&first);
                gathered.extend_from_slice(&data);
            }
            (false, false) => gathered.extend_from_slice(&data),
        }
    }
    let trailers = body.trailers().await.map_err(|error| broken(&error))?;
    succeeded(trailers.as_ref().unwrap_or(&head.headers))?;
    let mut message = if gathered.is_empty() { first } else { gathered.freeze() };
    if !head.status.is_success() || message.len() < PREFIX {
        let got = format!("HTTP {} with {} bytes of body", head.status, message.len());
        return Err(Failure::answered("no gRPC answer", got));
    }
    message.advance(PREFIX);
    Ok(message)
}

/// Fails unless the status in the trailers is OK.
fn succeeded(trailers: &HeaderMap) -> Result<(), Failure> {
    let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok());
    if status == Some("0") {
        return Ok(());
    }
    let message = trailers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
    let message = percent_decode_str(message).decode_utf8_lossy().into_owned();
    let code = status.and_then(|status| status.parse().ok());
    let kind = code.map_or("no gRPC status".into(), |code| format!("gRPC {:?}", tonic::Code::from_i32(code)));
    Err(Failure::answered(kind, message))
}

fn broken(error: &h2::Error) -> Failure {
    let mut failure = Failure::disconnected("connection broke", error);
    if error.is_reset() {
        // Of a stream; the connection goes on.
        failure = Failure::answered("stream reset", failure.message);
    }
    failure
}
