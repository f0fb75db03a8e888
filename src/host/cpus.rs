use std::{fs, num::NonZeroUsize, path::Path, thread};

use super::control_groups::{self, ControlGroupLimit, Controller};

const CONTROLLER: Controller = Controller { name: "cpu", file: "cpu.max", file_of_1: "cpu.cfs_quota_us" };

/// CPUs.
#[derive(Debug)]
pub struct Cpus {
    /// CPUs that the process may use at once, by affinity and limit.
    pub usable: usize,
    /// CPUs that the process may run on, as Linux lists them.
    pub affinity: Option<String>,
    /// CPU time that the process's control groups allow, as a number of CPUs.
    pub limit: Option<ControlGroupLimit<f64>>,
}

/// The CPUs that this process may use.
pub fn cpus() -> Cpus {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let affinity = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Cpus {
        usable: thread::available_parallelism().map_or(1, NonZeroUsize::get),
        affinity: affinity.map(|list| list.trim().to_owned()),
        limit: allowed(&control_groups::of_this_process(), |path| fs::read_to_string(path).ok()),
    }
}

fn allowed(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<ControlGroupLimit<f64>> {
    let limit = |path: &Path| {
        let text = read(path)?;
        let mut words = text.split_whitespace();
        // Microseconds of CPU time, and the period in microseconds. No limit is "max", or -1.
        let quota: f64 = words.next()?.parse().ok().filter(|quota| *quota > 0.0)?;
        let period = match words.next() {
            Some(period) => period.parse::<f64>().ok()?,
            None => read(&path.with_file_name("cpu.cfs_period_us"))?.trim().parse().ok()?,
        };
        (period > 0.0).then_some(quota / period)
    };
    control_groups::least(control_groups::files(groups, &CONTROLLER), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_cpu_limit_is_read_from_both_versions() {
        let files = |path: &Path| {
            let text = match path.to_str().unwrap() {
                "/sys/fs/cgroup/a/b/cpu.max" => "max 100000",
                "/sys/fs/cgroup/a/cpu.max" => "150000 100000",
                "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us" => "-1",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us" => "25000",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us" => "50000",
                _ => return None,
            };
            Some(format!("{text}\n"))
        };
        let limit = |groups| allowed(groups, files).map(|limit| (limit.value, limit.file.display().to_string()));
        assert_eq!(limit("0::/a/b\n"), Some((1.5, "/sys/fs/cgroup/a/cpu.max".into())));
        assert_eq!(limit("4:cpu,cpuacct:/a\n"), Some((0.5, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us".into())));
        assert_eq!(limit("0::/\n"), None);
    }
}
