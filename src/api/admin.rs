//! The admin API: the same messages over gRPC and, as JSON, over HTTP, on a port of its own.
//!
//! Each call stands in `calls` once; `grpc` and `http` decode and encode. What needs no token is what tells nothing of the
//! models' traffic and changes nothing: health, reflection, and the description of the API.

mod auth;
mod calls;
mod convert;
mod grpc;
mod http;
mod openapi;
mod routes;
mod strict_json;
mod tokens;
mod watch;

use axum::{
    body::HttpBody,
    extract,
    http::{Request, header::CONTENT_TYPE},
    middleware,
};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as tokio_watch};

use super::{Context, Lifecycle, Limits};
use crate::{
    error::{Code, Error, Result},
    registry::Control,
};

pub use auth::Callers;
pub use tokens::Tokens;

/// The messages, the service and the client that the protocol definition generates.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
pub mod proto {
    tonic::include_proto!("onnxd.admin.v1");

    /// The protocol definitions, encoded, for reflection and for the description of the HTTP API.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/admin_descriptors.bin"));
}

/// The gRPC service's name.
pub(super) const SERVICE: &str = "onnxd.admin.v1.AdminService";

/// What admin calls are answered with.
#[derive(Clone)]
pub(super) struct Admin {
    control: Control,
    lifecycle: tokio_watch::Receiver<Lifecycle>,
    limits: Arc<Limits>,
    /// Who calls, where the token says so.
    caller: Option<Arc<str>>,
    /// Places of calls that wait for what happens.
    long_calls: Arc<Semaphore>,
}

/// Calls that go on for as long as things happen, at most: each has a connection, and others are to find one of the port's.
const LONG_CALLS: usize = 128;

/// Everything that the port answers.
pub(super) fn routes(context: Context, control: Control, callers: Callers) -> axum::Router {
    let (lifecycle, limits, ports) = (context.lifecycle.clone(), context.limits.clone(), context.ports.clone());
    let admin = Admin { control, lifecycle, limits, caller: None, long_calls: Arc::new(Semaphore::new(LONG_CALLS)) };
    let guarded = grpc::service(context.clone(), admin.clone()).merge(http::routes(admin));
    let guarded = guarded.layer(middleware::from_fn_with_state(callers, auth::check));
    grpc::open(context)
        .merge(http::open())
        .merge(guarded)
        .fallback(async move |request: extract::Request| http::nothing_there(&ports, &request))
}

impl Admin {
    /// Something that may wait for locks and disks, where no connection waits for it.
    async fn aside<T: Send + 'static>(&self, call: impl FnOnce(&Control) -> T + Send + 'static) -> Result<T> {
        let control = self.control.clone();
        let done = tokio::task::spawn_blocking(move || call(&control)).await;
        done.map_err(|_| Error::internal("the call panicked: this is a defect of the server; its log has more"))
    }

    /// A place for a call that goes on for as long as things happen, until it is dropped.
    fn long_call(&self) -> Result<OwnedSemaphorePermit> {
        let full = |_| {
            let why = format!("{LONG_CALLS} calls watch or wait already, which is the most; try again later");
            Error::new(Code::ResourceExhausted, why)
        };
        self.long_calls.clone().try_acquire_owned().map_err(full)
    }

    /// What `waiting` comes to, unless the server drains before.
    async fn unless_draining<T>(&self, waiting: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = waiting => result,
            () = draining(self.lifecycle.clone()) => {
                Err(Error::new(Code::Unavailable, "the server drains: what was waited for does not come any more"))
            }
        }
    }
}

/// Ends when the server drains.
async fn draining(mut lifecycle: tokio_watch::Receiver<Lifecycle>) {
    // Where nobody can tell any more, it has ended.
    let _ = lifecycle.wait_for(|now| *now == Lifecycle::Draining).await;
}

/// Whether a request comes over gRPC.
fn is_grpc<B: HttpBody>(request: &Request<B>) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
