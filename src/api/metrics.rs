//! The endpoint that Prometheus scrapes.
//!
//! With many models the text has megabytes. It is written and packed, piece by piece, on a thread of its own, which lets requests
//! go first; those who ask at the same time get the same text.

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
    time::Duration,
};
use tokio::sync::oneshot;

use super::transport::{Encoding, Packer};
use crate::{
    host::lower_for_good,
    metrics::{Exposition, ScrapeGauges},
};

/// Samples the gauges of one scrape.
pub type ReadGauges = Box<dyn Fn() -> ScrapeGauges + Send>;

/// Time for which the thread leaves the CPU to others, again and again. The system lets a thread go on for milliseconds once it has
/// the CPU, whatever its priority, and a request that came meanwhile would wait for it.
const PAUSE: Duration = Duration::from_micros(50);

/// The scrape that wants the text.
struct Scraper {
    encoding: Option<Encoding>,
    answer: oneshot::Sender<Body>,
}

/// The text in an encoding.
#[derive(Clone)]
struct Body {
    encoding: Option<Encoding>,
    data: Bytes,
}

/// `GET /metrics`.
pub(super) fn routes(exposition: Arc<Exposition>, read: ReadGauges) -> io::Result<axum::Router> {
    let (sender, scrapers) = mpsc::channel();
    thread::Builder::new().name("metrics".into()).spawn(move || {
        lower_for_good();
        while let Ok(first) = scrapers.recv() {
            let waiting: Vec<Scraper> = [first].into_iter().chain(scrapers.try_iter()).collect();
            // An error is one of compression, which none is known of; the scrape fails.
            if let Err(error) = answer(waiting, &exposition, read()) {
                tracing::error!(%error, "metrics can't be compressed, scrape failed");
            }
        }
    })?;
    let scrape = move |headers: HeaderMap| {
        let (answer, body) = oneshot::channel();
        let encoding = Encoding::accepted(&headers, ACCEPT_ENCODING);
        // Where the thread has ended, there is no answer.
        let _ = sender.send(Scraper { encoding, answer });
        async { body.await.map_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response(), Body::into_response) }
    };
    Ok(axum::Router::new().route("/metrics", get(scrape)))
}

fn answer(waiting: Vec<Scraper>, exposition: &Exposition, readings: ScrapeGauges) -> io::Result<()> {
    let mut written: Vec<BodyWriter> = Vec::new();
    for Scraper { encoding, .. } in &waiting {
        if written.iter().all(|written| written.encoding != *encoding) {
            written.push(BodyWriter::new(*encoding)?);
        }
    }
    let mut failed = Ok(());
    exposition.render(readings, &mut |piece| {
        for written in &mut written {
            if let Err(error) = written.add(piece) {
                failed = Err(error);
            }
        }
        thread::sleep(PAUSE);
    });
    failed?;
    let bodies = written.into_iter().map(BodyWriter::finish).collect::<io::Result<Vec<_>>>()?;
    for Scraper { encoding, answer } in waiting {
        let body = bodies.iter().find(|body| body.encoding == encoding);
        // A client that has gone needs no body.
        let _ = body.cloned().map(|body| answer.send(body));
    }
    Ok(())
}

/// A text that is being written.
struct BodyWriter {
    encoding: Option<Encoding>,
    packer: Option<Packer>,
    data: Vec<u8>,
}

impl BodyWriter {
    fn new(encoding: Option<Encoding>) -> io::Result<Self> {
        Ok(BodyWriter { encoding, packer: encoding.map(Packer::new).transpose()?, data: Vec::new() })
    }

    fn add(&mut self, piece: &str) -> io::Result<()> {
        if let Some(packer) = &mut self.packer {
            return packer.step(piece.as_bytes(), &mut self.data);
        }
        self.data.extend_from_slice(piece.as_bytes());
        Ok(())
    }

    fn finish(mut self) -> io::Result<Body> {
        if let Some(packer) = self.packer.take() {
            packer.finish(&mut self.data)?;
        }
        Ok(Body { encoding: self.encoding, data: self.data.into() })
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        let head = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (VARY, "accept-encoding")];
        let mut response = (head, self.data).into_response();
        if let Some(encoding) = self.encoding {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        response
    }
}
