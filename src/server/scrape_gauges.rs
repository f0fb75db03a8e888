//! Gauges that are sampled at each scrape.

use std::{hash::Hasher, path::PathBuf};
use twox_hash::XxHash64;

use super::{config::ServerConfig, io_threads::IoThreads, log};
use crate::{
    api::{Context, ReadGauges},
    host::gpus,
    metrics::{ProcessStats, ScrapeGauges},
    registry::Control,
};

/// The reader of the gauges.
pub(super) fn reader(
    config: &ServerConfig,
    context: &Context,
    control: Control,
    io: &IoThreads,
    connections_limit: usize,
    cpus: usize,
) -> ReadGauges {
    let (context, runtimes) = (context.clone(), io.runtimes());
    let config_hash = hash(config);
    let model_memory_limit = config.loads.memory.map(|limit| limit.bytes.0 as u64);
    Box::new(move || {
        let budget = &context.limits.budget;
        ScrapeGauges {
            ready: context.is_ready(),
            config_hash,
            cpus,
            abandoned_runs: context.compute.abandoned_runs(),
            request_memory: budget.used(),
            request_memory_limit: budget.limit(),
            request_memory_refused: budget.refused(),
            model_memory: control.memory(),
            model_memory_limit,
            connections_limit,
            log_lines_dropped: log::dropped_lines(),
            io_busy: runtimes.iter().map(|runtime| runtime.metrics().worker_total_busy_duration(0)).collect(),
            process: process(),
            gpus: gpus::read(gpus::MOMENT).map_or_else(|_| Vec::new(), |reading| reading.gpus.clone()),
        }
    })
}

/// Hash of the settings, equal for servers with equal settings, of as many bits as a float holds.
fn hash(config: &ServerConfig) -> u64 {
    let mut hasher = XxHash64::with_seed(0);
    // The path of the repository is the location of the models, and no setting.
    let mut config = config.clone();
    config.repository.path = PathBuf::new();
    hasher.write(format!("{config:?}").as_bytes());
    hasher.finish() >> 12
}

/// Figures of this process from Linux.
#[cfg(target_os = "linux")]
fn process() -> Option<ProcessStats> {
    let this = procfs::process::Process::myself().ok()?;
    let stat = this.stat().ok()?;
    // The largest number stands for no limit.
    let limit = rlimit::Resource::NOFILE.get_soft().ok().filter(|limit| *limit != rlimit::INFINITY);
    Some(ProcessStats {
        cpu: std::time::Duration::from_millis((stat.utime + stat.stime) * 1000 / procfs::ticks_per_second()),
        threads: u64::try_from(stat.num_threads).ok()?,
        virtual_memory: stat.vsize,
        resident: stat.rss * procfs::page_size(),
        descriptors: this.fd_count().ok()? as u64,
        descriptors_limit: limit,
    })
}

#[cfg(not(target_os = "linux"))]
fn process() -> Option<ProcessStats> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_reports_figures_of_this_process() {
        let this = process().unwrap();
        assert!(this.resident > 0 && this.descriptors > 2 && this.threads > 0, "{this:?}");
        assert!(this.virtual_memory >= this.resident, "{this:?}");
        assert!(this.descriptors_limit.is_none_or(|limit| limit >= this.descriptors), "{this:?}");
        while process().unwrap().cpu == this.cpu {
            std::hint::spin_loop();
        }
    }
}
