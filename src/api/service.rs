//! Service of one port: dispatches requests by their path. Inferences are recognised by their path and go straight to the pipeline; everything else goes through
//! axum's router.

use axum::{body::Body, http::Request};
use futures_util::future::Either;
use hyper::body::Incoming;
use std::{future::ready, io, net::SocketAddr, pin::Pin, sync::Arc};
use tower_service::Service as _;

use super::{
    admin,
    context::Context,
    dialect::oip_http::PathTarget,
    health::streaming_services,
    inference::{infer_grpc, infer_http},
    metadata,
    metrics::{self, ReadGauges},
    proto::DESCRIPTORS,
    transport::{
        HttpResponse, PendingResponses,
        grpc::{method, not_grpc},
        nothing_there, other,
    },
};
use crate::{metrics::Exposition, registry::Control};

/// The answers of one port.
#[derive(Clone)]
pub struct Service {
    inferences: Inferences,
    rest: axum::Router,
}

/// The response to a request that is no inference.
type ResponseFuture = Pin<Box<dyn Future<Output = HttpResponse> + Send>>;

/// Where inferences are answered.
#[derive(Clone)]
enum Inferences {
    Grpc(Arc<Context>),
    Http(Arc<Context>),
    None,
}

impl Service {
    /// The Open Inference Protocol, health checking and reflection over gRPC.
    pub fn grpc(context: &Context) -> Self {
        let ports = context.ports.clone();
        let rest = streaming_services(context.clone(), DESCRIPTORS)
            .fallback(async move |request: Request<Body>| nothing_there(&ports, "grpc", &request));
        Service { inferences: Inferences::Grpc(Arc::new(context.clone())), rest }
    }

    /// The Open Inference Protocol over HTTP.
    pub fn http(context: &Context) -> Self {
        Service {
            inferences: Inferences::Http(Arc::new(context.clone())),
            rest: metadata::http::routes(context.clone()),
        }
    }

    /// The metrics for Prometheus. `read` is called at each scrape.
    ///
    /// # Errors
    /// The thread that writes it can't be started.
    pub fn metrics(context: &Context, exposition: Arc<Exposition>, read: ReadGauges) -> io::Result<Self> {
        let ports = context.ports.clone();
        let rest = metrics::routes(exposition, read)?;
        let rest = rest.fallback(async move |request: Request<Body>| nothing_there(&ports, "metrics", &request));
        Ok(Service { inferences: Inferences::None, rest })
    }

    /// The admin API over gRPC and HTTP, with health checking and reflection.
    pub fn admin(context: &Context, control: Control, callers: admin::Callers) -> Self {
        Service { inferences: Inferences::None, rest: admin::routes(context.clone(), control, callers) }
    }

    /// The context of inferences and the router of all other requests, of a port over HTTP.
    pub(crate) fn http_parts(&self) -> Option<(&Arc<Context>, &axum::Router)> {
        match &self.inferences {
            Inferences::Http(context) => Some((context, &self.rest)),
            Inferences::Grpc(_) | Inferences::None => None,
        }
    }

    /// Answers a request of a client over a connection that has `pending` responses.
    ///
    /// No `async` function, nor those that it calls on the way to an inference: each would keep the request once more, and the
    /// future, which is moved to where it runs, would take four times its memory.
    pub fn answer(
        &self,
        request: Request<Incoming>,
        pending: &Arc<PendingResponses>,
        client: SocketAddr,
    ) -> impl Future<Output = HttpResponse> + Send + use<> {
        match &self.inferences {
            Inferences::Grpc(context) => {
                if let Some(refused) = not_grpc(&context.ports, request.uri().path(), request.headers()) {
                    return Either::Right(Box::pin(ready(refused)) as ResponseFuture);
                }
                match method(request.uri().path()) {
                    Some("ModelInfer") => {
                        return Either::Left(Either::Left(infer_grpc(context, pending, client, request)));
                    }
                    Some(_) => {
                        let answer = metadata::grpc::answer(context.clone(), pending.clone(), request);
                        return Either::Right(Box::pin(answer) as ResponseFuture);
                    }
                    None => {}
                }
            }
            Inferences::Http(context) => {
                if let Some(target) = PathTarget::of_inference(request.uri().path()) {
                    // Boxed: most don't come by this way, and those over gRPC would carry the room for it.
                    let answer = infer_http(context, pending, client, target, request);
                    return Either::Left(Either::Right(Box::pin(answer)));
                }
            }
            Inferences::None => {}
        }
        let mut rest = self.rest.clone();
        Either::Right(Box::pin(async move {
            let Ok(response) = rest.call(request.map(Body::new)).await;
            other(response)
        }) as ResponseFuture)
    }
}
