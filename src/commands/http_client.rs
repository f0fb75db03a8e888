//! Asks a running server over HTTP/1.1, for the commands that do.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{io, time::Duration};
use tokio::{net::TcpStream, time::timeout};

use crate::terminal::printable;

/// Bytes of an answer that is no JSON that are shown.
const EXCERPT: usize = 300;

/// A server.
pub struct Client {
    /// Where it is; paths come behind its path.
    pub url: Uri,
    /// How long an answer may take, from connecting to its last byte.
    pub timeout: Duration,
    /// How another server is named, for messages.
    pub elsewhere: &'static str,
    /// How an answer is given longer, for messages; may be empty.
    pub longer: &'static str,
}

/// What is asked.
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
    /// What stands at a path?
    pub fn get(path: &'a str) -> Self {
        Question { method: Method::GET, path, headers: Vec::new(), body: Bytes::new() }
    }
}

impl Client {
    /// One of the port that answers inferences over HTTP, as the commands name it that ask there.
    pub fn of_inferences(url: &Uri, timeout: Duration) -> Self {
        let (elsewhere, longer) = ("--url URL or ONNXD_URL", "; --timeout gives it longer");
        Client { url: url.clone(), timeout, elsewhere, longer }
    }

    /// The whole answer.
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

    /// An answer that goes on for as long as things happen.
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
        // A request goes out in one piece or waits for nothing.
        let _ = stream.set_nodelay(true);
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.failed(&error))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.failed(&error))
    }

    fn refusal(&self, path: &str, parts: &Parts, body: &[u8]) -> String {
        let told: Option<Value> = serde_json::from_slice(body).ok();
        match told.as_ref().and_then(|told| told["error"].as_str()) {
            Some(error) => format!("{} (HTTP {})", printable(error), parts.status.as_u16()),
            None => {
                let text = printable(String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]).trim());
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

    /// Why an exchange failed, for people.
    pub fn failed(&self, error: &hyper::Error) -> String {
        let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{}: {error}{source}", self.url)
    }
}
