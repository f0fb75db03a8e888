//! Router of the admin port: gRPC, JSON over HTTP, health, reflection and the OpenAPI document.

use axum::{
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode, Uri,
        header::{ALLOW, CONTENT_TYPE},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;

use super::{
    auth::{self, Callers},
    backend::Admin,
    grpc,
    http_response::{error, refused},
    openapi,
    routes::{self, ROOT},
};
use crate::{
    api::{
        context::Context,
        health::streaming_services,
        proto::admin::DESCRIPTORS,
        transport::{self, Ports, grpc::is_grpc},
    },
    error::{Code, Error},
    registry::Control,
};

/// Everything that the port answers.
pub(in crate::api) fn routes(context: Context, control: Control, callers: Callers) -> axum::Router {
    let ports = context.ports.clone();
    let admin = Admin::new(&context, control);
    let guarded = grpc::service(context.limits.clone(), admin.clone()).merge(http_calls(admin));
    let guarded = guarded.layer(middleware::from_fn_with_state(callers, auth::check));
    streaming_services(context, DESCRIPTORS)
        .merge(description())
        .merge(guarded)
        .fallback(async move |request: Request| nothing_there(&ports, &request))
}

/// Every call over HTTP.
fn http_calls(admin: Admin) -> axum::Router {
    let router = routes::all()
        .into_iter()
        .fold(axum::Router::new(), |router, route| router.route(&format!("{ROOT}{}", route.path), route.handler));
    router.method_not_allowed_fallback(method_not_allowed).with_state(admin)
}

/// The description of the API, which needs no token.
fn description() -> axum::Router {
    let document = Bytes::from(openapi::document());
    let answer = async move || ([(CONTENT_TYPE, "application/json")], document.clone()).into_response();
    axum::Router::new()
        .route(&format!("{ROOT}/openapi.json"), get(answer))
        .method_not_allowed_fallback(method_not_allowed)
}

fn nothing_there(ports: &Ports, request: &Request) -> Response {
    let path = request.uri().path();
    if is_grpc(request.headers()) {
        return transport::nothing_there(ports, "admin", request);
    }
    let advice = ports.advice("admin", path, false);
    let why = format!("there is nothing at {path}{advice}; GET {ROOT}/openapi.json tells what there is");
    refused(&Error::new(Code::NotFound, why))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let takes: Vec<_> = routes::all().into_iter().filter(|route| fits(route.path, uri.path())).collect();
    let takes: Vec<_> = takes.iter().map(|route| route.method.as_str()).collect();
    let takes = if takes.is_empty() { vec!["GET"] } else { takes };
    let why = format!("{} takes {}, got {method}", uri.path(), takes.join(" and "));
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, &why);
    if let Ok(allowed) = HeaderValue::try_from(takes.join(", ")) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// True if a path is one of a route.
fn fits(route: &str, path: &str) -> bool {
    let path = path.strip_prefix(ROOT).unwrap_or_default();
    route.split('/').count() == path.split('/').count()
        && route.split('/').zip(path.split('/')).all(|(expected, got)| expected.starts_with('{') || expected == got)
}
