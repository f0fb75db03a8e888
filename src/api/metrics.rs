//! The endpoint that Prometheus scrapes.
//!
//! With many models the text has megabytes. It is written and packed on a thread of its own, which lets requests go first; those
//! who ask at the same time get the same text.

use axum::{
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};
use tokio::sync::oneshot;

use super::compression::{Encoding, pack};
use crate::{
    metrics::{Exposition, Readings},
    registry::stay_aside,
};

/// Reads what is read when Prometheus asks.
pub type Read = Box<dyn Fn() -> Readings + Send>;

/// Who wants the text.
struct Scraper {
    encoding: Option<Encoding>,
    /// The text, and whether it is packed.
    answer: oneshot::Sender<(Bytes, Option<Encoding>)>,
}

/// `GET /metrics`.
pub(super) fn routes(exposition: Arc<Exposition>, read: Read) -> io::Result<axum::Router> {
    let (sender, scrapers) = mpsc::channel();
    thread::Builder::new().name("metrics".into()).spawn(move || {
        stay_aside();
        while let Ok(first) = scrapers.recv() {
            let waiting: Vec<Scraper> = [first].into_iter().chain(scrapers.try_iter()).collect();
            answer(waiting, exposition.render(read()).into());
        }
    })?;
    let scrape = move |headers: HeaderMap| {
        let (answer, text) = oneshot::channel();
        let encoding = Encoding::accepted(&headers, ACCEPT_ENCODING);
        // The answer tells where the thread has ended.
        let _ = sender.send(Scraper { encoding, answer });
        async { text.await.map_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response(), response) }
    };
    Ok(axum::Router::new().route("/metrics", get(scrape)))
}

fn answer(waiting: Vec<Scraper>, text: Bytes) {
    let mut packed = Encoding::ALL.map(|_| None);
    for Scraper { encoding, answer } in waiting {
        let body = encoding.and_then(|encoding| {
            let packed = packed[encoding as usize].get_or_insert_with(|| pack(encoding, &text).map(Bytes::from));
            packed.clone().map(|packed| (packed, Some(encoding)))
        });
        // Who has gone does not mind.
        let _ = answer.send(body.unwrap_or_else(|| (text.clone(), None)));
    }
}

fn response((body, encoding): (Bytes, Option<Encoding>)) -> Response {
    let head = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (VARY, "accept-encoding")];
    let mut response = (head, body).into_response();
    if let Some(encoding) = encoding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    response
}
