//! Gauges that are sampled at each scrape.

use rlimit::Resource;
use std::{fs, hash::Hasher, path::PathBuf, time::Duration};
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
fn process() -> Option<ProcessStats> {
    let (stat, status) = (fs::read_to_string("/proc/self/stat").ok()?, fs::read_to_string("/proc/self/status").ok()?);
    // The largest number stands for no limit.
    let limit = Resource::NOFILE.get_soft().ok().filter(|limit| *limit != rlimit::INFINITY);
    Some(ProcessStats { descriptors: descriptors()?, descriptors_limit: limit, ..parse(&stat, &status)? })
}

/// Ticks per second of the times in /proc: Linux reports them by this clock, whatever the kernel's own is.
const TICKS: u64 = 100;

fn parse(stat: &str, status: &str) -> Option<ProcessStats> {
    // The program's name comes first, in parentheses, and may contain any character.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident = resident.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    Some(ProcessStats {
        cpu: Duration::from_millis((field(11)? + field(12)?) * (1000 / TICKS)),
        threads: field(17)?,
        virtual_memory: field(20)?,
        resident,
        descriptors: 0,
        descriptors_limit: None,
    })
}

/// Number of open descriptors.
fn descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    // Since Linux 6.2 the folder's size is the count; there may be many.
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        number => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_reports_figures_of_this_process() {
        let stat =
            "42 (a ) name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 999 1048576 33 18446744073709551615";
        let read = parse(stat, "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t7\n");
        let expected = ProcessStats {
            cpu: Duration::from_secs(3),
            resident: 2 << 20,
            virtual_memory: 1 << 20,
            descriptors: 0,
            descriptors_limit: None,
            threads: 7,
        };
        assert_eq!(read, Some(expected));
        assert_eq!(parse("what is this", "VmRSS: 1 kB"), None);
        let this = process().unwrap();
        assert!(this.resident > 0 && this.descriptors > 2 && this.threads > 0, "{this:?}");
        assert!(this.descriptors_limit.is_none_or(|limit| limit >= this.descriptors), "{this:?}");
    }
}
