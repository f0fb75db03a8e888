//! Health checking by grpc.health.v1, for the server as a whole, each service, and every model by its name; and the services
//! that tonic serves.

use axum::middleware;
use futures_util::{Stream, stream};
use std::pin::Pin;
use tonic::{Request, Response, Status, codec::CompressionEncoding, service::Routes};

use super::{
    context::{Context, ServerPhase},
    proto::{
        INFERENCE_SERVICE,
        admin::SERVICE as ADMIN_SERVICE,
        health::{
            HealthCheckRequest, HealthCheckResponse,
            health_check_response::ServingStatus,
            health_server::{self, HealthServer},
        },
    },
    transport::grpc::{MAX_SMALL_BODY_BYTES, read_small_bodies},
};
use crate::traffic::Selector;

/// Health checking, and reflection of these descriptors: services with methods that stream, which tonic serves.
///
/// # Panics
/// Where the protocol definitions that the build encoded can't be decoded: a defect of the build.
pub(in crate::api) fn streaming_services(context: Context, descriptors: &'static [u8]) -> axum::Router {
    let reflection =
        |builder: tonic_reflection::server::Builder<'static>| builder.register_encoded_file_descriptor_set(descriptors);
    let v1 = reflection(tonic_reflection::server::Builder::configure()).build_v1();
    let v1alpha = reflection(tonic_reflection::server::Builder::configure()).build_v1alpha();
    let limits = context.limits.clone();
    let health = HealthServer::new(HealthService { context });
    macro_rules! unpacking {
        ($service:expr) => {
            [CompressionEncoding::Gzip, CompressionEncoding::Deflate, CompressionEncoding::Zstd]
                .into_iter()
                .fold($service.max_decoding_message_size(MAX_SMALL_BODY_BYTES), |service, encoding| {
                    service.accept_compressed(encoding)
                })
        };
    }
    let routes = Routes::new(unpacking!(health))
        .add_service(unpacking!(v1.expect("the build's own descriptors")))
        .add_service(unpacking!(v1alpha.expect("the build's own descriptors")));
    let reading = middleware::map_request_with_state(limits, read_small_bodies);
    routes.into_axum_router().reset_fallback().layer(reading)
}

/// The health service.
struct HealthService {
    context: Context,
}

#[tonic::async_trait]
impl health_server::Health for HealthService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match status(&self.context, &service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("there is no service or model '{service}'")))
            }
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        Ok(Response::new(Box::pin(changes(self.context.clone(), service))))
    }
}

fn status(context: &Context, service: &str) -> ServingStatus {
    let serving = match service {
        "" | INFERENCE_SERVICE => Some(context.is_ready()),
        // It answers while models are loaded for the first time, too.
        ADMIN_SERVICE => Some(*context.phase.borrow() != ServerPhase::Draining),
        // A model that is READY is so whatever the others are.
        model => {
            let takes_clients = *context.phase.borrow() != ServerPhase::Draining && context.is_live();
            context.model_ready(model, &Selector::Any).ok().map(|ready| ready && takes_clients)
        }
    };
    match serving {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}

/// The status now, and then whenever it changes. It ends when the server drains, so that it does not hold up the end.
fn changes(context: Context, service: String) -> impl Stream<Item = Result<HealthCheckResponse, Status>> {
    struct HealthWatcher {
        context: Context,
        service: String,
        tables: tokio::sync::watch::Receiver<()>,
        last: Option<ServingStatus>,
    }
    let tables = context.router.changes();
    let watcher = HealthWatcher { context, service, tables, last: None };
    stream::unfold(watcher, async |mut watcher| {
        loop {
            // Marked as seen before the status is read: a change in between wakes the next wait.
            let phase = *watcher.context.phase.borrow_and_update();
            watcher.tables.mark_unchanged();
            let status = status(&watcher.context, &watcher.service);
            if watcher.last != Some(status) {
                watcher.last = Some(status);
                return Some((Ok(HealthCheckResponse { status: status.into() }), watcher));
            }
            if phase == ServerPhase::Draining {
                return None;
            }
            let ended = tokio::select! {
                changed = watcher.context.phase.changed() => changed.is_err(),
                changed = watcher.tables.changed() => changed.is_err(),
            };
            if ended {
                return None;
            }
        }
    })
}
