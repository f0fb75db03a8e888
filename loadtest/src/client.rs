//! The ways to a server.

mod grpc;
mod http;
mod metadata;

pub(crate) use http::JSON_LENGTH;
pub(crate) use metadata::Metadata;

use std::time::Duration;
use tokio::net::TcpStream;

use crate::{
    answer::Reply,
    message::Message,
    tally::Failure,
    target::{Protocol, Target},
};

/// Connections to one target, of one thread.
pub(crate) enum Client {
    /// Requests share connections.
    Grpc(grpc::Client),
    /// A connection carries one request at a time.
    Http(http::Client),
}

impl Client {
    /// Opens connections, at least one.
    pub(crate) async fn connect(target: &Target, connections: usize) -> Result<Self, Failure> {
        match target.protocol {
            Protocol::Grpc => grpc::Client::connect(target, connections.max(1)).await.map(Client::Grpc),
            Protocol::HttpBinary | Protocol::HttpJson => {
                http::Client::connect(target, connections.max(1)).await.map(Client::Http)
            }
        }
    }

    /// Asks for a prediction.
    pub(crate) async fn infer(&self, message: &Message, timeout: Duration) -> Result<Reply, Failure> {
        let asked = async {
            match self {
                Client::Grpc(client) => client.infer(message).await,
                Client::Http(client) => client.infer(message).await,
            }
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::answered("timeout", format!("no answer within {timeout:?}"))),
        }
    }

    /// Fetches the server's metadata of the model.
    pub(crate) async fn metadata(&self) -> Result<Metadata, Failure> {
        match self {
            Client::Grpc(client) => client.metadata().await,
            Client::Http(client) => client.metadata().await,
        }
    }
}

/// Fetches the contents of an HTTP URL.
pub(crate) async fn fetch(url: &::http::Uri) -> Result<bytes::Bytes, Failure> {
    http::fetch(url).await
}

async fn open(target: &Target) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
    let stream = stream.map_err(|error| Failure::disconnected("connect", &error))?;
    stream.set_nodelay(true).map_err(|error| Failure::disconnected("connect", &error))?;
    Ok(stream)
}
