//! The end of a server: readiness off, requests in flight answered, ports closed, threads ended.

use std::{thread::JoinHandle, time::Duration};

use super::{ports, start::Server};
use crate::{api::ServerPhase, batcher::Compute};

/// Result of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request in flight was answered.
    Done {
        /// Runs and loads that were abandoned long ago and still hold a thread.
        abandoned: usize,
    },
    /// Requests, loads or runs took longer than the drain timeout.
    CutOff,
}

impl Server {
    /// Ends the server in order: readiness goes off, requests in flight are answered, ports close, threads end.
    pub async fn shutdown(self) -> Ended {
        let Server { ports, registry, stop, compute, phase, access_log, drain, .. } = self;
        phase.send_replace(ServerPhase::Draining);
        drop(stop);
        tokio::time::sleep(drain.delay).await;
        let ended = if ports::close(ports, drain.timeout).await {
            end_threads(registry, compute, drain.timeout).await
        } else {
            Ended::CutOff
        };
        if let Some((_, writer)) = access_log {
            // Blocking: `end` waits for the last lines to be written.
            let _ = tokio::task::spawn_blocking(move || writer.end()).await;
        }
        ended
    }
}

/// Waits for the loads and runs that still go on, though no client waits for their answers any more.
async fn end_threads(registry: JoinHandle<usize>, compute: Compute, limit: Duration) -> Ended {
    let end = move || {
        // A registry that panicked has ended too.
        let loads = registry.join().unwrap_or(0);
        compute.stop();
        loads + compute.abandoned_runs()
    };
    let Ok(ended) = tokio::time::timeout(limit, tokio::task::spawn_blocking(end)).await else {
        tracing::error!(setting = "--drain-timeout", ?limit, "drain timeout reached, loads and runs are cut off");
        return Ended::CutOff;
    };
    let abandoned = ended.unwrap_or(0);
    if abandoned > 0 {
        tracing::warn!(abandoned, "abandoned runs and loads are cut off");
    }
    Ended::Done { abandoned }
}
