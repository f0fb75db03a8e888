//! Health and metadata of the Open Inference Protocol over HTTP.

use axum::{
    Json,
    extract::{self, FromRequestParts, Path, State},
    http::{Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::properties::{EXTENSIONS, PLATFORM, SERVER_NAME, SERVER_VERSION, properties};
use crate::{
    api::{
        context::Context,
        dialect::oip_http::PathTarget,
        text::shown,
        transport::{http::wrong_method, nothing_there},
    },
    error::{Error, Result},
    tensor::TensorSpec,
};

/// The endpoints of the HTTP port that are no inference.
pub(in crate::api) fn routes(context: Context) -> axum::Router {
    axum::Router::new()
        .route("/v2", get(server_metadata))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(model_metadata))
        .route("/v2/models/{model}/versions/{version}", get(model_metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(context)
}

async fn not_found(State(context): State<Context>, request: extract::Request) -> Response {
    nothing_there(&context.ports, "http", &request)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    wrong_method(&method, &uri, "GET, HEAD")
}

/// Like [`Path`], with an error that looks like the others.
impl<S: Send + Sync> FromRequestParts<S> for PathTarget {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = Path::from_request_parts(parts, state).await;
        read.map(|Path(target)| target)
            .map_err(|rejection| Error::invalid(format!("{}: {}", parts.uri.path(), rejection.body_text())))
    }
}

async fn live(State(context): State<Context>) -> Response {
    readiness(json!({ "live": context.is_live() }), context.is_live())
}

async fn ready(State(context): State<Context>) -> Response {
    match context.not_ready() {
        None => readiness(json!({ "ready": true }), true),
        Some(why) => readiness(json!({ "ready": false, "error": why }), false),
    }
}

async fn model_ready(State(context): State<Context>, target: PathTarget) -> Result<Response> {
    Ok(match context.model_ready(target.model(), &target.selector()?) {
        Ok(ready) => readiness(json!({ "name": target.model(), "ready": ready }), ready),
        Err(unknown) => {
            let body = json!({ "name": target.model(), "ready": false, "error": shown(unknown.message()) });
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    })
}

fn readiness(body: Value, ready: bool) -> Response {
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

async fn server_metadata() -> Response {
    Json(json!({ "name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS })).into_response()
}

async fn model_metadata(State(context): State<Context>, target: PathTarget) -> Result<Response> {
    let (table, version) = context.version(target.model(), &target.selector()?)?;
    let versions = table.models.get(target.model()).into_iter().flat_map(|model| model.ready());
    let versions: Vec<String> = versions.map(|ready| ready.version.to_string()).collect();
    let properties: serde_json::Map<_, _> =
        properties(&version).into_iter().map(|(key, value)| (key, value.into())).collect();
    let body = json!({
        "name": target.model(),
        "versions": versions,
        "platform": PLATFORM,
        "inputs": tensors_metadata(version.signature.all_inputs()),
        "outputs": tensors_metadata(version.signature.outputs.iter()),
        "properties": properties,
    });
    Ok(Json(body).into_response())
}

fn tensors_metadata<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> Vec<Value> {
    let metadata =
        |spec: &TensorSpec| json!({ "name": *spec.name, "datatype": spec.datatype.name(), "shape": spec.wire_shape() });
    specs.map(metadata).collect()
}
