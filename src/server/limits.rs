//! The settings of what clients may do, with their defaults; some follow what the process may use.

use std::{fs, path::Path, time::Duration};

use crate::{
    api::{Budget, Limits},
    cli::Settings,
    config::ByteSize,
};

/// What a connection may do at most.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimits {
    /// Streams that may be open at once. Batches form out of them.
    pub streams: u32,
    pub header_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
}

/// Descriptors that connections leave to the rest: files of models, epoll, the ports.
const OTHER_DESCRIPTORS: u64 = 256;

/// What the process may have where nothing says.
const SOME_MEMORY: usize = 4 << 30;

/// What clients may do at most.
pub(super) fn limits(settings: &Settings) -> Limits {
    let memory = match settings.request_memory {
        Some(ByteSize(bytes)) => bytes,
        None => usable_memory().unwrap_or(SOME_MEMORY) / 4,
    };
    Limits {
        grpc_message: settings.max_grpc_message.0,
        http_body: settings.max_http_body.0,
        http_json: settings.max_http_json.0,
        body_timeout: settings.body_timeout,
        write_timeout: settings.write_timeout,
        min_rate: settings.min_rate.0,
        budget: Budget::new(memory),
    }
}

/// What each connection may do at most.
pub(super) fn connection_limits(settings: &Settings) -> ConnectionLimits {
    ConnectionLimits {
        streams: u32::try_from(settings.max_streams).unwrap_or(u32::MAX),
        header_bytes: settings.max_header_bytes.0,
        headers: settings.max_headers,
        uri_bytes: settings.max_uri_bytes.0,
        header_timeout: settings.header_timeout,
        idle_timeout: settings.idle_timeout,
        write_timeout: settings.write_timeout,
        ping_interval: settings.ping_interval,
    }
}

/// How many connections may be open at once. Raises the limit of open files as far as the process may.
pub(super) fn max_connections(settings: &Settings) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let room = usize::try_from(files.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX).max(16);
    let most = settings.max_connections.unwrap_or(10_000.min(room));
    if most > room {
        tracing::warn!("--max-connections {most}: the limit of open files, {files}, leaves room for {room}");
    }
    most.min(room)
}

/// The memory that the process may use: the machine's, or what its control groups allow.
fn usable_memory() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let groups = groups.and_then(|groups| allowed(&groups, |path| fs::read_to_string(path).ok()));
    machine.into_iter().chain(groups).min()
}

/// MemTotal, which is told in KiB.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The least limit of the process's groups, which /proc/self/cgroup lists, and of those above them.
fn allowed(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the path may be the host's, and what it names is mounted at the root.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let limit = read(&Path::new(root).join(group).join(file));
            // No limit is "max", or a number close to the largest.
            let limit = limit.and_then(|text| text.trim().parse::<usize>().ok());
            least = least.into_iter().chain(limit).min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_machine_and_groups() {
        assert_eq!(total("MemTotal:       24614844 kB\nMemFree:         5 kB\n"), Some(24_614_844 * 1024));
        assert_eq!(total("MemFree: 5 kB"), None);
        let files = |path: &Path| {
            let text = match path.to_str().unwrap() {
                "/sys/fs/cgroup/a/b/memory.max" => "max",
                "/sys/fs/cgroup/a/memory.max" => "1000",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "2000",
                _ => return None,
            };
            Some(format!("{text}\n"))
        };
        assert_eq!(allowed("0::/a/b\n", files), Some(1000), "version 2, of the group above");
        assert_eq!(allowed("9:cpu:/x\n4:memory:/docker/123\n", files), Some(2000), "version 1, mounted in a container");
        assert_eq!(allowed("0::/\n", files), None);
        assert_eq!(allowed("what is this", files), None);
    }
}
