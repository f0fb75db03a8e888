//! Runs one level of a load and takes its figures.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    batches::Batches,
    load::{Level, Mix, Running, Terms},
    processes::Processes,
    report::{Figures, Moment},
    tally::Tally,
};

/// Sources that are read while a load runs.
pub(crate) struct Observed<'a> {
    /// The server's processes, where it is on this machine.
    pub server: Option<Processes>,
    /// Metrics of the server.
    pub metrics: Option<&'a http::Uri>,
    /// Gets the figures of the last second, and the part of the level that is over, from 0 to 1.
    pub progress: &'a mut dyn FnMut(&Moment, f64),
}

/// Interval at which the counts are taken.
const STEP: Duration = Duration::from_secs(1);

/// CPU times and batches at a moment.
struct Snapshot {
    server: Option<Duration>,
    own: Option<Duration>,
    batches: Option<Batches>,
}

impl Observed<'_> {
    async fn snapshot(&self) -> Result<Snapshot, String> {
        let batches = match self.metrics {
            Some(url) => Some(Batches::scrape(url).await.map_err(|failure| format!("{url}: {}", failure.message))?),
            None => None,
        };
        let server = self.server.as_ref().and_then(Processes::cpu_time);
        Ok(Snapshot { server, own: Processes::own().cpu_time(), batches })
    }
}

/// Runs a level to its end.
///
/// # Errors
/// For people: a server can't be reached, or its metrics can't be read.
pub(crate) async fn level(
    mix: &Arc<Mix>,
    terms: Terms,
    level: Level,
    observed: &mut Observed<'_>,
) -> Result<Figures, String> {
    let running = Running::start(mix, terms, level)?;
    let window = running.window;
    tokio::time::sleep_until(window.from.into()).await;
    let before = observed.snapshot().await?;
    let began = Instant::now();
    let mut sum = Tally::default();
    let mut moments = Vec::new();
    let mut last = window.from;
    while last < window.to {
        let next = (last + STEP).min(window.to);
        tokio::time::sleep_until(next.into()).await;
        let tally = running.take();
        let now = Instant::now();
        let moment = Moment::new(now - window.from, now - last, &tally);
        (observed.progress)(&moment, (now - window.from).as_secs_f64() / terms.duration.as_secs_f64());
        moments.push(moment);
        sum.add(&tally);
        last = next;
        if next == window.to {
            break;
        }
    }
    let measured = began.elapsed();
    let after = observed.snapshot().await?;
    sum.add(&running.finish()?);
    let spent = |before: Option<Duration>, after: Option<Duration>| {
        Some(after?.checked_sub(before?)?.div_f64(measured.as_secs_f64()))
    };
    Ok(Figures {
        server_cpu: spent(before.server, after.server),
        own_cpu: spent(before.own, after.own),
        mean_batch: after.batches.zip(before.batches).and_then(|(after, before)| after.mean_since(before)),
        moments,
        tally: sum,
        duration: terms.duration,
        threads: terms.threads,
    })
}
