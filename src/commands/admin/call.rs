//! Calls of the admin API.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fs, path::Path, time::Duration};

use crate::{
    commands::{
        cli::admin::ServerArgs,
        http_client::{Client, Question},
    },
    url::percent_encoded,
};

/// Time that an answer may take that waits for nothing but a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Client of a server's admin API.
pub(super) struct Api {
    pub client: Client,
    token: Option<HeaderValue>,
}

impl Api {
    pub(super) fn new(server: &ServerArgs) -> Result<Self, String> {
        let client = Client {
            url: server.server.clone(),
            timeout: ANSWER_TIMEOUT,
            elsewhere: "--server ADDR or ONNXD_SERVER",
            longer: "",
        };
        Ok(Api { client, token: server.token_file.as_deref().map(token).transpose()? })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Bytes, String> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, String> {
        let question = Question { method, path, headers: self.headers(), body };
        self.client.ask(question).await.map(|(_, body)| body)
    }

    pub(super) async fn follow(&self, path: &str) -> Result<Incoming, String> {
        let mut question = Question::get(path);
        question.headers = self.headers();
        self.client.follow(question).await
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let token = self.token.iter().map(|token| (AUTHORIZATION, token.clone()));
        [json].into_iter().chain(token).collect()
    }
}

/// Reads the first token of a file in the format of --admin-token-file.
fn token(file: &Path) -> Result<HeaderValue, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("--token-file {}: {why}", file.display());
    let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let line = line.ok_or_else(|| wrong(&"it has no token"))?;
    let token = line.split_once(':').map_or(line, |(_, token)| token.trim());
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| wrong(&"its token can't be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The path of a model.
pub(super) fn path_of(model: &str) -> String {
    format!("/admin/v1/models/{}", percent_encoded(model))
}

/// Parses the message in an answer.
pub(super) fn parse<M: DeserializeOwned>(answer: &[u8]) -> Result<M, String> {
    serde_json::from_slice(answer).map_err(|error| format!("the server's answer can't be understood: {error}"))
}

/// Serializes a message as the body of a request.
pub(super) fn body(message: &Value) -> Bytes {
    message.to_string().into()
}

/// The unchanged text of an answer, as a line.
pub(super) fn text(answer: &[u8]) -> String {
    format!("{}\n", String::from_utf8_lossy(answer).trim_end())
}
