//! CPU time of processes, from `/proc`; nothing where there is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

/// The processes behind a port of this machine: those that hold its listening socket, and what they have started.
#[derive(Debug)]
pub(crate) struct Processes {
    roots: BTreeSet<u32>,
}

/// State of a listening socket in `/proc/net/tcp` (TCP_LISTEN of the kernel's `tcp_states.h`).
const LISTEN: &str = "0A";

impl Processes {
    /// Processes that listen on a port; `None` where none do, or none that may be looked into.
    pub(crate) fn listening_on(port: u16) -> Option<Self> {
        let mut sockets = BTreeSet::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { continue };
                if state == LISTEN && local.ends_with(&format!(":{port:04X}")) {
                    sockets.insert(format!("socket:[{inode}]"));
                }
            }
        }
        let roots: BTreeSet<u32> = pids().filter(|pid| holds(*pid, &sockets)).collect();
        (!roots.is_empty()).then_some(Processes { roots })
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Processes { roots: BTreeSet::from([std::process::id()]) }
    }

    /// CPU time that they have taken so far, in user mode and in the kernel's.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let all: BTreeMap<u32, Stat> = pids().filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
        let is_ours = |pid: &u32| {
            // Up the line of parents.
            let mut pid = *pid;
            loop {
                if self.roots.contains(&pid) {
                    return true;
                }
                match all.get(&pid) {
                    Some(stat) if stat.parent != 0 => pid = stat.parent,
                    _ => return false,
                }
            }
        };
        let ticks: u64 = all.iter().filter(|(pid, _)| is_ours(pid)).map(|(_, stat)| stat.ticks).sum();
        let per_second = rustix::param::clock_ticks_per_second();
        (ticks > 0).then(|| Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// True if a process holds one of these sockets.
fn holds(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    links.any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
}

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; fields are counted behind it (proc_pid_stat(5): the state is the third).
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat { parent: u32::try_from(field(4)?).ok()?, ticks: field(14)? + field(15)? })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn port_leads_to_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = Processes::listening_on(port).expect("this process listens there");
        assert!(found.roots.contains(&std::process::id()));
        while found.cpu_time().is_none() {
            std::hint::spin_loop();
        }
        drop(listener);
    }
}
