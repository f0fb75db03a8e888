//! What answers the requests of one port. Inferences are told by their path and go straight to where they are answered; what
//! comes less often goes through axum's router.

use axum::{body::Body, http::Request};
use futures_util::future::Either;
use hyper::body::Incoming;
use std::{future::ready, io, net::SocketAddr, pin::Pin, sync::Arc};
use tower_service::Service as _;

use super::{
    Context, Unwritten, admin,
    dialect::{
        oip_grpc,
        oip_http::{self, Plain},
    },
    metrics::{self, Read},
    transport::{
        response_body::{Answer, other},
        wrong_port::nothing_there,
    },
};
use crate::{metrics::Exposition, registry::Control};

/// What answers the requests of one port.
#[derive(Clone)]
pub struct Service {
    inferences: Inferences,
    rest: axum::Router,
}

/// The answer to what comes less often.
type Rest = Pin<Box<dyn Future<Output = Answer> + Send>>;

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
        Service { inferences: Inferences::Grpc(Arc::new(context.clone())), rest: oip_grpc::routes(context.clone()) }
    }

    /// The Open Inference Protocol over HTTP.
    pub fn http(context: &Context) -> Self {
        Service { inferences: Inferences::Http(Arc::new(context.clone())), rest: oip_http::routes(context.clone()) }
    }

    /// What Prometheus scrapes. `read` is asked each time.
    ///
    /// # Errors
    /// The thread that writes it can't be started.
    pub fn metrics(context: &Context, exposition: Arc<Exposition>, read: Read) -> io::Result<Self> {
        let ports = context.ports.clone();
        let rest = metrics::routes(exposition, read)?;
        let rest = rest.fallback(async move |request: Request<Body>| nothing_there(&ports, "metrics", &request));
        Ok(Service { inferences: Inferences::None, rest })
    }

    /// The admin API over gRPC and HTTP, with health checking and reflection.
    pub fn admin(context: &Context, control: Control, callers: admin::Callers) -> Self {
        Service { inferences: Inferences::None, rest: admin::routes(context.clone(), control, callers) }
    }

    /// What answers the plain requests of a client of the port, if it is one over HTTP.
    pub fn plain(&self, client: SocketAddr) -> Option<Plain> {
        match &self.inferences {
            Inferences::Http(context) => Some(Plain::new(context, &self.rest, client)),
            Inferences::Grpc(_) | Inferences::None => None,
        }
    }

    /// Answers a request of a client over a connection that has `unwritten` answers.
    ///
    /// No `async` function, nor those that it calls on the way to an inference: each would keep the request once more, and the
    /// future, which is moved to where it runs, would take four times its memory.
    pub fn answer(
        &self,
        request: Request<Incoming>,
        unwritten: &Arc<Unwritten>,
        client: SocketAddr,
    ) -> impl Future<Output = Answer> + Send + use<> {
        match &self.inferences {
            Inferences::Grpc(context) => {
                if let Some(refused) =
                    crate::api::transport::grpc::not_grpc(context, request.uri().path(), request.headers())
                {
                    return Either::Right(Box::pin(ready(refused)) as Rest);
                }
                if oip_grpc::is_unary(&request) {
                    return Either::Left(Either::Left(oip_grpc::answer(context, unwritten, client, request)));
                }
            }
            Inferences::Http(context) => {
                if let Some(target) = oip_http::inference(&request) {
                    // Aside: most don't come by this way, and those over gRPC would carry the room for it.
                    return Either::Left(Either::Right(Box::pin(oip_http::infer(
                        context, unwritten, client, target, request,
                    ))));
                }
            }
            Inferences::None => {}
        }
        let mut rest = self.rest.clone();
        Either::Right(Box::pin(async move {
            let Ok(response) = rest.call(request.map(Body::new)).await;
            other(response)
        }) as Rest)
    }
}
