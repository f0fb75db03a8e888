//! The calls over HTTP: one list, of which the router and the description of the API are made.

use axum::{
    Extension,
    extract::{Request, State},
    http::Method,
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{auth::Caller, backend::Admin, event_stream::watch, http_request::message, http_response::outcome};
use crate::error::Result;

/// Where the paths begin.
pub(super) const ROOT: &str = "/admin/v1";

/// A call over HTTP.
pub(super) struct Route {
    pub method: Method,
    /// Behind the root; parts in braces are fields of the message.
    pub path: &'static str,
    /// The method of the gRPC service that it is.
    pub call: &'static str,
    pub handler: MethodRouter<Admin>,
}

/// Every call.
pub(super) fn all() -> Vec<Route> {
    vec![
        get("/models", "ListModels", Admin::list_models),
        get("/models/{model}", "GetModel", Admin::get_model),
        post("/models/{model}/weights", "SetWeights", Admin::set_weights),
        post("/models/{model}/shift", "ShiftTraffic", Admin::shift_traffic),
        put("/models/{model}/aliases/{alias}", "SetAlias", Admin::set_alias),
        delete("/models/{model}/aliases/{alias}", "DropAlias", Admin::drop_alias),
        post("/models/{model}/promote", "Promote", Admin::promote),
        post("/models/{model}/rollback", "Rollback", Admin::rollback),
        post("/models/{model}/abort", "Abort", Admin::abort),
        post("/models/{model}/traffic/reset", "ResetTraffic", Admin::reset_traffic),
        get("/models/{model}/history", "GetHistory", Admin::get_history),
        get("/models/{model}/explain", "Explain", Admin::explain),
        get("/models/{model}/wait", "WaitReady", Admin::wait_ready),
        post("/models/{model}/load", "LoadVersion", Admin::load_version),
        post("/models/{model}/unload", "UnloadVersion", Admin::unload_version),
        post("/models/{model}/reload", "ReloadVersion", Admin::reload_version),
        post("/models/{model}/versions/{version}/load", "LoadVersion", Admin::load_version),
        post("/models/{model}/versions/{version}/unload", "UnloadVersion", Admin::unload_version),
        post("/models/{model}/versions/{version}/reload", "ReloadVersion", Admin::reload_version),
        Route { method: Method::GET, path: "/watch", call: "Watch", handler: axum::routing::get(watch) },
    ]
}

macro_rules! of_method {
    ($($name:ident: $method:ident,)*) => {
        $(
            fn $name<Q, A, F>(path: &'static str, call: &'static str, answer: fn(Admin, Q) -> F) -> Route
            where
                Q: DeserializeOwned + Send + 'static,
                A: Serialize + 'static,
                F: Future<Output = Result<A>> + Send + 'static,
            {
                let handler = on(MethodFilter::$method, handler(answer));
                Route { method: Method::$method, path, call, handler }
            }
        )*
    };
}

of_method! {
    get: GET,
    post: POST,
    put: PUT,
    delete: DELETE,
}

/// Decode, call, encode.
fn handler<Q, A, F>(
    answer: fn(Admin, Q) -> F,
) -> impl Fn(State<Admin>, Option<Extension<Caller>>, Request) -> Answering + Clone + Send + Sync + 'static
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
{
    move |State(admin), caller, request| {
        Box::pin(async move {
            let message: Q = match message(request, &admin.limits).await {
                Ok(message) => message,
                Err(refused) => return refused,
            };
            let admin = admin.called(caller.as_ref().map(|Extension(caller)| caller));
            outcome(answer(admin, message).await)
        })
    }
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;
