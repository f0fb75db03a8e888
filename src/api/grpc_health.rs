//! grpc.health.v1, for the server as a whole, the inference service, and every model by its name.

use futures_util::{Stream, stream};
use std::pin::Pin;
use tonic::{Request, Response, Status};

use super::dialect::oip_grpc::{
    INFERENCE_SERVICE,
    proto::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server},
};
use super::{Context, Lifecycle, admin::SERVICE as ADMIN_SERVICE};
use crate::traffic::Selector;

/// The health service.
pub(in crate::api) struct Health {
    context: Context,
}

impl Health {
    pub(in crate::api) fn new(context: Context) -> Self {
        Health { context }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
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
        ADMIN_SERVICE => Some(*context.lifecycle.borrow() != Lifecycle::Draining),
        // A model that is READY is so whatever the others are.
        model => {
            let takes_clients = *context.lifecycle.borrow() != Lifecycle::Draining && context.is_live();
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
    struct Watcher {
        context: Context,
        service: String,
        tables: tokio::sync::watch::Receiver<()>,
        last: Option<ServingStatus>,
    }
    let tables = context.router.changes();
    let watcher = Watcher { context, service, tables, last: None };
    stream::unfold(watcher, async |mut watcher| {
        loop {
            // Marked as seen before the status is read: a change in between wakes the next wait.
            let lifecycle = *watcher.context.lifecycle.borrow_and_update();
            watcher.tables.mark_unchanged();
            let status = status(&watcher.context, &watcher.service);
            if watcher.last != Some(status) {
                watcher.last = Some(status);
                return Some((Ok(HealthCheckResponse { status: status.into() }), watcher));
            }
            if lifecycle == Lifecycle::Draining {
                return None;
            }
            let ended = tokio::select! {
                changed = watcher.context.lifecycle.changed() => changed.is_err(),
                changed = watcher.tables.changed() => changed.is_err(),
            };
            if ended {
                return None;
            }
        }
    })
}
