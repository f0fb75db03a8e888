//! Asks a server over HTTP/1.1.

use bytes::Bytes;
use http::{Method, Request, Uri, header, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{io, time::Duration};
use tokio::{net::TcpStream, time::timeout};

use super::JSON_LENGTH;

/// Bytes of an answer that is no JSON that are shown.
const EXCERPT: usize = 300;

/// A server.
pub(crate) struct Client {
    /// Where it is; the paths of the protocol come behind its path.
    pub url: Uri,
    /// How long an answer may take, from connecting to its last byte.
    pub timeout: Duration,
}

impl Client {
    /// What stands at a path.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, String> {
        let (_, body) = self.send(Method::GET, path, None, Bytes::new()).await?;
        Ok(body)
    }

    /// The answer to a request of JSON with binary tensors behind it.
    pub(super) async fn post(&self, path: &str, json_length: usize, body: Vec<u8>) -> Result<(Parts, Bytes), String> {
        let length = (json_length < body.len()).then_some(json_length);
        self.send(Method::POST, path, length, body.into()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        json_length: Option<usize>,
        body: Bytes,
    ) -> Result<(Parts, Bytes), String> {
        let late = |_| format!("{}: no answer within {:?}; --timeout gives it longer", self.url, self.timeout);
        let (parts, body) =
            timeout(self.timeout, self.exchange(method, path, json_length, body)).await.map_err(late)??;
        if parts.status.is_success() {
            return Ok((parts, body));
        }
        let told: Option<Value> = serde_json::from_slice(&body).ok();
        Err(match told.as_ref().and_then(|told| told["error"].as_str()) {
            Some(error) => format!("{error} (HTTP {})", parts.status.as_u16()),
            None => {
                let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]).into_owned();
                format!("{}{path} answered HTTP {}: {}", self.base(), parts.status, text.trim())
            }
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        json_length: Option<usize>,
        body: Bytes,
    ) -> Result<(Parts, Bytes), String> {
        let failed = |error: hyper::Error| format!("{}: {}", self.url, with_source(&error));
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.url.path().trim_end_matches('/')));
        request = request.header(header::HOST, self.url.authority().map_or("", |authority| authority.as_str()));
        request = match json_length {
            Some(length) => {
                request.header(JSON_LENGTH, length).header(header::CONTENT_TYPE, "application/octet-stream")
            }
            None => request.header(header::CONTENT_TYPE, "application/json"),
        };
        let request = request.body(Full::new(body)).map_err(|error| format!("{}: {error}", self.url))?;
        let (host, port) = (self.url.host().unwrap_or_default(), self.url.port_u16().unwrap_or(80));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await.map_err(|error| self.unreachable(&error))?;
        // A request goes out in one piece or waits for nothing.
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        Ok((parts, body.collect().await.map_err(failed)?.to_bytes()))
    }

    fn base(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    fn unreachable(&self, error: &io::Error) -> String {
        let todo = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "; is the server running there? Start it with `onnxd serve DIR`, or name another with --url URL or ONNXD_URL"
            }
            _ => "; --url URL or ONNXD_URL names another server",
        };
        format!("can't connect to {}: {error}{todo}", self.base())
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {source}"))
}
