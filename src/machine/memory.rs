use std::{fs, path::Path};

use super::groups::{self, Controller, Limit};

const CONTROLLER: Controller = Controller { name: "memory", file: "memory.max", file_of_1: "memory.limit_in_bytes" };

/// Memory, in bytes.
#[derive(Debug)]
pub struct Memory {
    /// The machine's, where it tells.
    pub machine: Option<u64>,
    /// What of it can be had without taking it from others.
    pub available: Option<u64>,
    /// What the process's control groups allow.
    pub limit: Option<Limit<u64>>,
}

/// The memory that this process may use.
pub fn memory() -> Memory {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Memory {
        machine: field(&meminfo, "MemTotal:"),
        available: field(&meminfo, "MemAvailable:"),
        limit: allowed(&groups::of_this_process(), |path| fs::read_to_string(path).ok()),
    }
}

impl Memory {
    /// The least of what machine and groups allow; `None` where nothing says.
    pub fn usable(&self) -> Option<u64> {
        self.machine.into_iter().chain(self.limit.as_ref().map(|limit| limit.value)).min()
    }
}

/// A field of /proc/meminfo, which is told in KiB.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn allowed(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<Limit<u64>> {
    // No limit is "max", or a number close to the largest.
    let limit = |path: &Path| read(path)?.trim().parse().ok().filter(|limit| *limit < 1 << 60);
    groups::least(groups::files(groups, &CONTROLLER), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_machine_and_groups() {
        let total = |meminfo| field(meminfo, "MemTotal:");
        assert_eq!(total("MemTotal:       24614844 kB\nMemFree:         5 kB\n"), Some(24_614_844 * 1024));
        assert_eq!(total("MemFree: 5 kB"), None);
        let files = |path: &Path| {
            let text = match path.to_str().unwrap() {
                "/sys/fs/cgroup/a/b/memory.max" => "max",
                "/sys/fs/cgroup/a/memory.max" => "1000",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "2000",
                "/sys/fs/cgroup/memory/free/memory.limit_in_bytes" => "9223372036854771712",
                _ => return None,
            };
            Some(format!("{text}\n"))
        };
        let limit = |groups| allowed(groups, files).map(|Limit { value, file }| (value, file.display().to_string()));
        let (version_2, version_1) = ("/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes");
        assert_eq!(limit("0::/a/b\n"), Some((1000, version_2.into())), "of the group above");
        let container = "9:cpu:/x\n4:memory:/docker/123\n";
        assert_eq!(limit(container), Some((2000, version_1.into())), "mounted in a container");
        assert_eq!(limit("4:memory:/free\n"), Some((2000, version_1.into())));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("what is this"), None);
    }
}
