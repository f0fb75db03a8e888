//! HTTP/1.1 client of the commands that call a running server.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{io, time::Duration};
use tokio::{net::TcpStream, time::timeout};

use crate::terminal::escape;

/// Bytes to show of an answer that is no JSON.
const EXCERPT: usize = 300;

/// Client of one server.
pub struct Client {
    /// The server's URL; paths of requests are appended to its path.
    pub url: Uri,
    /// Time that an answer may take, from connecting to its last byte.
    pub timeout: Duration,
    /// Options that name another server, for messages.
    pub elsewhere: &'static str,
    /// Hint for messages on how to raise the timeout; may be empty.
    pub longer: &'static str,
}

/// A request.
pub struct Question<'a> {
    /// The method.
    pub method: Method,
    /// The path, with a query where there is one.
    pub path: &'a str,
    /// Headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; may be empty.
    pub body: Bytes,
}

impl<'a> Question<'a> {
    /// Request for the resource at a path.
    pub fn get(path: &'a str) -> Self {
        Question { method: Method::GET, path, headers: Vec::new(), body: Bytes::new() }
    }
}

impl Client {
    /// Client of the HTTP port for inferences. Messages name the options of the commands that call it.
    pub fn of_inferences(url: &Uri, timeout: Duration) -> Self {
        let (elsewhere, longer) = ("--url URL or ONNXD_URL", "; --timeout gives it longer");
        Client { url: url.clone(), timeout, elsewhere, longer }
    }

    /// Sends a request and returns the whole answer.
    ///
    /// # Errors
    /// For people: the way to the server, or its refusal.
    pub async fn ask(&self, question: Question<'_>) -> Result<(Parts, Bytes), String> {
        let Client { url, timeout: limit, longer, .. } = self;
        let late = |_| format!("{url}: no answer within {limit:?}{longer}");
        let path = question.path;
        let asking = async {
            let (parts, body) = self.exchange(question).await?.into_parts();
            Ok::<_, String>((parts, body.collect().await.map_err(|error| self.failed(&error))?.to_bytes()))
        };
        let (parts, body) = timeout(*limit, asking).await.map_err(late)??;
        if parts.status.is_success() { Ok((parts, body)) } else { Err(self.refusal(path, &parts, &body)) }
    }

    /// Sends a request and returns an answer that streams events.
    ///
    /// # Errors
    /// For people: the way to the server, or its refusal.
    pub async fn follow(&self, question: Question<'_>) -> Result<Incoming, String> {
        let path = question.path;
        let late = |_| format!("{}: no answer within {:?}", self.url, self.timeout);
        let response = timeout(self.timeout, self.exchange(question)).await.map_err(late)??;
        let (parts, body) = response.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let body = body.collect().await.map_err(|error| self.failed(&error))?.to_bytes();
        Err(self.refusal(path, &parts, &body))
    }

    async fn exchange(&self, question: Question<'_>) -> Result<Response<Incoming>, String> {
        let path = format!("{}{}", self.url.path().trim_end_matches('/'), question.path);
        let mut request = Request::builder().method(question.method).uri(path);
        request = request.header(header::HOST, self.url.authority().map_or("", |authority| authority.as_str()));
        for (name, value) in question.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(question.body)).map_err(|error| format!("{}: {error}", self.url))?;
        let (host, port) = (self.url.host().unwrap_or_default(), self.url.port_u16().unwrap_or(80));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await.map_err(|error| self.unreachable(&error))?;
        // Disables Nagle's algorithm: a request is sent in one piece, or no piece of it waits.
        let _ = stream.set_nodelay(true);
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.failed(&error))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.failed(&error))
    }

    fn refusal(&self, path: &str, parts: &Parts, body: &[u8]) -> String {
        let announced: Option<Value> = serde_json::from_slice(body).ok();
        match announced.as_ref().and_then(|announced| announced["error"].as_str()) {
            Some(error) => format!("{} (HTTP {})", escape(error), parts.status.as_u16()),
            None => {
                let text = escape(String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]).trim());
                format!("{}{path} answered HTTP {}: {text}", self.base(), parts.status)
            }
        }
    }

    fn base(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    fn unreachable(&self, error: &io::Error) -> String {
        let elsewhere = self.elsewhere;
        let todo = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!(
                    "; is the server running there? Start it with `onnxd serve DIR`, or name another with {elsewhere}"
                )
            }
            _ => format!("; {elsewhere} names another server"),
        };
        format!("can't connect to {}: {error}{todo}", self.base())
    }

    /// Reason why an exchange failed, for people.
    pub fn failed(&self, error: &hyper::Error) -> String {
        let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{}: {error}{source}", self.url)
    }
}
