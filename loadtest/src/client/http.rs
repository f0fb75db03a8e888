//! HTTP/1.1.

use ::http::{Method, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::cell::RefCell;
use tokio::{net::TcpStream, sync::Semaphore};

use super::{Metadata, open};
use crate::{answer::Reply, message::Message, tally::Failure, target::Target};

/// Length of the JSON that binary tensors stand behind.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

/// Connections that wait for requests.
pub(crate) struct Client {
    target: Target,
    path: String,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    places: Semaphore,
}

impl Client {
    pub(super) async fn connect(target: &Target, connections: usize) -> Result<Self, Failure> {
        // The others are opened when they are needed.
        let first = connection(target).await?;
        Ok(Client {
            target: target.clone(),
            path: format!("{}/infer", target.path()),
            idle: RefCell::new(vec![first]),
            places: Semaphore::new(connections),
        })
    }

    pub(super) async fn infer(&self, message: &Message) -> Result<Reply, Failure> {
        let request = Request::builder().method(Method::POST).uri(&self.path);
        let request = match message.json_length {
            Some(length) => {
                request.header(JSON_LENGTH, length).header(header::CONTENT_TYPE, "application/octet-stream")
            }
            None => request.header(header::CONTENT_TYPE, "application/json"),
        };
        self.exchange(request, message.body.clone()).await
    }

    pub(super) async fn metadata(&self) -> Result<Metadata, Failure> {
        let request = Request::builder().method(Method::GET).uri(self.target.path());
        let reply = self.exchange(request, Bytes::new()).await?;
        Metadata::from_http(reply.body)
    }

    async fn exchange(&self, request: ::http::request::Builder, body: Bytes) -> Result<Reply, Failure> {
        let request = request.header(header::HOST, self.target.authority()).body(Full::new(body));
        let request = request.map_err(|error| Failure::answered("bad request", error.to_string()))?;
        let _place = self.places.acquire().await;
        let idle = self.idle.borrow_mut().pop();
        let mut connection = match idle.filter(|idle| !idle.is_closed()) {
            Some(idle) => idle,
            None => connection(&self.target).await?,
        };
        // `ready` reports a connection that the server has closed between requests, before anything is lost.
        connection.ready().await.map_err(|error| broken(&error))?;
        let response = connection.send_request(request).await.map_err(|error| broken(&error))?;
        let reply = reply(response).await;
        if !reply.as_ref().is_err_and(|failure| failure.disconnected) {
            self.idle.borrow_mut().push(connection);
        }
        reply
    }
}

pub(super) async fn fetch(url: &::http::Uri) -> Result<Bytes, Failure> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let stream = TcpStream::connect((url.host().unwrap_or_default(), url.port_u16().unwrap_or(80))).await;
    let stream = stream.map_err(|error| Failure::disconnected("connect", &error))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tokio::task::spawn_local(connection);
    let request = Request::builder().uri(url.path()).header(header::HOST, authority).body(Full::<Bytes>::default());
    let request = request.map_err(|error| Failure::answered("bad request", error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    Ok(reply(response).await?.body)
}

async fn connection(target: &Target) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let (sender, connection) = handshake(TokioIo::new(open(target).await?)).await.map_err(|error| broken(&error))?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn reply(response: Response<Incoming>) -> Result<Reply, Failure> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
    if !head.status.is_success() {
        let announced: Option<Value> = serde_json::from_slice(&body).ok();
        let announced = announced.as_ref().and_then(|announced| announced["error"].as_str().map(str::to_owned));
        let announced = announced.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned());
        return Err(Failure::answered(format!("HTTP {}", head.status.as_u16()), announced));
    }
    let length = head.headers.get(JSON_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(Reply { body, json_length: length })
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::disconnected("connection broke", error)
}
