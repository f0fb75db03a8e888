//! The endpoint that Prometheus scrapes.

use axum::{http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use std::sync::Arc;

use crate::metrics::Exposition;

/// `GET /metrics`.
pub fn routes(exposition: Arc<Exposition>) -> axum::Router {
    let render = move || async move {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exposition.render()).into_response()
    };
    axum::Router::new().route("/metrics", get(render))
}
