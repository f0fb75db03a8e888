use rlimit::Resource;
use std::{fs, path::Path};

use super::control_groups::{self, ControlGroupLimit, Controller};

const CONTROLLER: Controller = Controller { name: "memory", file: "memory.max", file_of_1: "memory.limit_in_bytes" };

/// Memory, in bytes.
#[derive(Debug)]
pub struct Memory {
    /// Memory of the machine, if the system reports it.
    pub machine: Option<u64>,
    /// Memory of the machine that is available without taking it from other processes.
    pub available: Option<u64>,
    /// Limit of the process's control groups.
    pub limit: Option<ControlGroupLimit<u64>>,
    /// Limit of the process itself (`ulimit -v`, `ulimit -d`).
    pub process: Option<ProcessLimit>,
}

/// A resource limit of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLimit {
    /// Name of the limit, such as RLIMIT_AS.
    pub name: &'static str,
    /// The soft limit, in bytes.
    pub value: u64,
}

/// The memory that this process may use.
pub fn memory() -> Memory {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Memory {
        machine: field(&meminfo, "MemTotal:"),
        available: field(&meminfo, "MemAvailable:"),
        limit: allowed(&control_groups::of_this_process(), |path| fs::read_to_string(path).ok()),
        process: process_limit(|resource| resource.get().ok().map(|(soft, _)| soft)),
    }
}

impl Memory {
    /// The least of the machine's memory, the groups' limit and the process's own limit; `None` if none is known.
    pub fn usable(&self) -> Option<u64> {
        let group = self.limit.as_ref().map(|limit| limit.value);
        let process = self.process.map(|limit| limit.value);
        [self.machine, group, process].into_iter().flatten().min()
    }
}

/// The limits that memory counts against: the address space, and data.
const RESOURCES: [(Resource, &str); 2] = [(Resource::AS, "RLIMIT_AS"), (Resource::DATA, "RLIMIT_DATA")];

fn process_limit(soft: impl Fn(Resource) -> Option<u64>) -> Option<ProcessLimit> {
    let limits =
        RESOURCES.into_iter().filter_map(|(resource, name)| Some(ProcessLimit { name, value: soft(resource)? }));
    limits.filter(|limit| limit.value != rlimit::INFINITY).min_by_key(|limit| limit.value)
}

/// A field of /proc/meminfo, in bytes; the file has KiB.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn allowed(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<ControlGroupLimit<u64>> {
    // No limit is "max", or a number close to the largest.
    let limit = |path: &Path| read(path)?.trim().parse().ok().filter(|limit| *limit < 1 << 60);
    control_groups::least(control_groups::files(groups, &CONTROLLER), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_and_cgroup_memory_are_parsed() {
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
        let limit = |groups| {
            allowed(groups, files).map(|ControlGroupLimit { value, file }| (value, file.display().to_string()))
        };
        let (version_2, version_1) = ("/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes");
        assert_eq!(limit("0::/a/b\n"), Some((1000, version_2.into())), "of the group above");
        let container = "9:cpu:/x\n4:memory:/docker/123\n";
        assert_eq!(limit(container), Some((2000, version_1.into())), "mounted in a container");
        assert_eq!(limit("4:memory:/free\n"), Some((2000, version_1.into())));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("what is this"), None);
    }

    #[test]
    fn process_memory_limit_is_the_least_rlimit() {
        let least = |addresses, data| {
            let soft = |resource| Some(if resource == Resource::AS { addresses } else { data });
            process_limit(soft).map(|limit| (limit.name, limit.value))
        };
        assert_eq!(least(rlimit::INFINITY, rlimit::INFINITY), None);
        assert_eq!(least(1000, rlimit::INFINITY), Some(("RLIMIT_AS", 1000)));
        assert_eq!(least(1000, 900), Some(("RLIMIT_DATA", 900)));
        assert_eq!(process_limit(|_| None), None);
        let memory = |process| Memory { machine: Some(5000), available: None, limit: None, process };
        assert_eq!(memory(None).usable(), Some(5000));
        assert_eq!(memory(Some(ProcessLimit { name: "RLIMIT_AS", value: 1000 })).usable(), Some(1000));
    }
}
