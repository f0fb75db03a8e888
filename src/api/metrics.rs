//! The endpoint that Prometheus scrapes.

use axum::{http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use std::sync::Arc;

use super::Budget;
use crate::metrics::{Exposition, TransportMetrics};

/// `GET /metrics`.
pub(super) fn routes(exposition: Arc<Exposition>, transport: TransportMetrics, budget: Arc<Budget>) -> axum::Router {
    let render = move || async move {
        transport.request_bytes.set(budget.used() as f64);
        transport.request_bytes_limit.set(budget.limit() as f64);
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exposition.render()).into_response()
    };
    axum::Router::new().route("/metrics", get(render))
}
