//! The admin service over gRPC.

use axum::middleware;
use futures_util::{Stream, StreamExt};
use std::{pin::Pin, sync::Arc};
use tonic::{Extensions, Request, Response, Status};

use super::{auth::Caller, backend::Admin, watch};
use crate::api::{
    proto::admin::{
        AbortRequest, ChangeResponse, DropAliasRequest, Event, ExplainRequest, ExplainResponse, GetHistoryRequest,
        GetHistoryResponse, GetModelRequest, ListModelsRequest, ListModelsResponse, LoadVersionRequest, Model,
        PromoteRequest, ReloadVersionRequest, ResetTrafficRequest, RollbackRequest, SetAliasRequest, SetWeightsRequest,
        ShiftTrafficRequest, UnloadVersionRequest, WaitReadyRequest, WatchRequest,
        admin_service_server::{AdminService, AdminServiceServer},
    },
    transport::{
        Limits,
        grpc::{MAX_SMALL_BODY_BYTES, read_small_bodies, status},
    },
};

/// The service.
pub(super) fn service(limits: Arc<Limits>, admin: Admin) -> axum::Router {
    let service = AdminServiceServer::new(Calls(admin)).max_decoding_message_size(MAX_SMALL_BODY_BYTES);
    let service = tonic::service::Routes::new(service).into_axum_router().reset_fallback();
    service.layer(middleware::map_request_with_state(limits, read_small_bodies))
}

struct Calls(Admin);

impl Calls {
    fn admin(&self, extensions: &Extensions) -> Admin {
        self.0.clone().called(extensions.get())
    }
}

impl Admin {
    /// The same, called by somebody.
    pub(super) fn called(mut self, caller: Option<&Caller>) -> Self {
        self.caller = caller.and_then(|Caller(name)| name.clone());
        self
    }
}

macro_rules! service {
    ($($method:ident: $request:ident -> $response:ident,)*) => {
        #[tonic::async_trait]
        impl AdminService for Calls {
            $(
                async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    let answered = self.admin(request.extensions()).$method(request.into_inner()).await;
                    answered.map(Response::new).map_err(status)
                }
            )*

            type WatchStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

            async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
                let events = watch::events(self.0.clone(), request.into_inner()).await.map_err(status)?;
                Ok(Response::new(Box::pin(events.map(Ok))))
            }
        }
    };
}

service! {
    list_models: ListModelsRequest -> ListModelsResponse,
    get_model: GetModelRequest -> Model,
    load_version: LoadVersionRequest -> ChangeResponse,
    unload_version: UnloadVersionRequest -> ChangeResponse,
    reload_version: ReloadVersionRequest -> ChangeResponse,
    set_weights: SetWeightsRequest -> ChangeResponse,
    shift_traffic: ShiftTrafficRequest -> ChangeResponse,
    set_alias: SetAliasRequest -> ChangeResponse,
    drop_alias: DropAliasRequest -> ChangeResponse,
    promote: PromoteRequest -> ChangeResponse,
    rollback: RollbackRequest -> ChangeResponse,
    abort: AbortRequest -> ChangeResponse,
    reset_traffic: ResetTrafficRequest -> ChangeResponse,
    get_history: GetHistoryRequest -> GetHistoryResponse,
    explain: ExplainRequest -> ExplainResponse,
    wait_ready: WaitReadyRequest -> Model,
}
