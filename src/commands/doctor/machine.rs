//! CPUs, memory and open files.

use rlimit::Resource;
use serde_json::json;

use super::report::Finding;
use crate::{
    commands::cli::Settings,
    config::rounded,
    host::{self, ControlGroupLimit, Cpus, Memory},
    server::derived_limits::{request_memory, room_for_connections},
};

pub(super) fn cpus() -> Vec<Finding> {
    cpus_findings(&host::cpus())
}

fn cpus_findings(cpus: &Cpus) -> Vec<Finding> {
    let Cpus { usable, affinity, limit } = cpus;
    let mut findings = vec![Finding::ok("usable", usable.to_string(), json!({ "cpus": usable }))];
    if let Some(list) = affinity {
        findings.push(Finding::ok("affinity", format!("CPUs {list}"), json!({ "list": list })));
    }
    findings.push(match limit {
        None => Finding::ok("control group", "no limit", json!({ "cpus": null, "file": null })),
        Some(ControlGroupLimit { value, file }) => {
            let finding = Finding::ok(
                "control group",
                format!("the time of {value} CPUs ({})", file.display()),
                json!({ "cpus": value, "file": file.to_string_lossy() }),
            );
            let is_short = *value < 1.0;
            if is_short {
                finding.warning("every request may wait for the next period: give it 1 CPU at least")
            } else {
                finding
            }
        }
    });
    findings
}

pub(super) fn memory(settings: &Settings) -> Vec<Finding> {
    let models = settings.model_memory.map(|size| size.0 as u64);
    memory_findings(&host::memory(), request_memory(settings.request_memory) as u64, models)
}

fn memory_findings(memory: &Memory, requests: u64, models: Option<u64>) -> Vec<Finding> {
    let bytes = |name, text: &str, bytes: Option<u64>| {
        Finding::ok(name, bytes.map_or_else(|| text.to_owned(), rounded), json!({ "bytes": bytes }))
    };
    let limit = memory.limit.as_ref();
    let file = limit.map(|limit| limit.file.to_string_lossy());
    let group = match limit {
        None => "no limit".into(),
        Some(limit) => format!("{} ({})", rounded(limit.value), limit.file.display()),
    };
    let mut taken = Finding::ok(
        "settings",
        format!(
            "{} for requests, {} for models",
            rounded(requests),
            models.map_or_else(|| "no limit".into(), |models| format!("{} at most", rounded(models)))
        ),
        json!({ "request_memory": requests, "model_memory": models }),
    );
    let usable = memory.usable().unwrap_or(u64::MAX);
    if requests.saturating_add(models.unwrap_or(0)) > usable {
        taken = taken.warning(format!(
            "together that is more than the process may use, {}: give --request-memory and --model-memory less",
            rounded(usable)
        ));
    }
    vec![
        bytes("machine", "unknown", memory.machine),
        bytes("available", "unknown", memory.available),
        Finding::ok("control group", group, json!({ "bytes": limit.map(|limit| limit.value), "file": file })),
        Finding::ok(
            "process limit",
            memory.process.map_or_else(|| "none".into(), |limit| format!("{} ({})", rounded(limit.value), limit.name)),
            json!({
                "bytes": memory.process.map(|limit| limit.value),
                "name": memory.process.map(|limit| limit.name),
            }),
        ),
        taken,
    ]
}

pub(super) fn files(settings: &Settings) -> Vec<Finding> {
    let Ok((soft, hard)) = Resource::NOFILE.get() else { return Vec::new() };
    vec![files_findings(soft, hard, settings.max_connections)]
}

fn files_findings(soft: u64, hard: u64, connections: Option<usize>) -> Finding {
    let room = room_for_connections(hard);
    let text = |limit: u64| if limit == rlimit::INFINITY { "no limit".into() } else { limit.to_string() };
    let raised = if soft == hard { String::new() } else { format!(", which a server raises to {}", text(hard)) };
    let number = |limit: u64| (limit != rlimit::INFINITY).then_some(limit);
    let finding = Finding::ok(
        "limit",
        format!("{}{raised}", text(soft)),
        json!({ "soft": number(soft), "hard": number(hard), "connections": room.min(10_000) }),
    );
    match connections.filter(|most| *most > room) {
        Some(most) => finding.warning(format!(
            "it leaves room for {room} connections, and --max-connections is {most}: raise it (ulimit -n; LimitNOFILE= of systemd)"
        )),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::report::Level;

    #[test]
    fn cpu_findings_report_affinity_and_group_limit() {
        let finding = |limit: Option<f64>| {
            let limit = limit.map(|value| ControlGroupLimit { value, file: "/sys/fs/cgroup/cpu.max".into() });
            let mut finding = cpus_findings(&Cpus { usable: 2, affinity: Some("0-1".into()), limit });
            assert_eq!(finding[1].text, "CPUs 0-1");
            let group = finding.pop().unwrap();
            (group.level, group.text)
        };
        assert_eq!(finding(None), (Level::Ok, "no limit".into()));
        assert_eq!(finding(Some(1.5)), (Level::Ok, "the time of 1.5 CPUs (/sys/fs/cgroup/cpu.max)".into()));
        assert_eq!(finding(Some(0.5)).0, Level::Warning);
    }

    #[test]
    fn memory_findings_warn_of_settings_beyond_the_memory() {
        let limit = Some(ControlGroupLimit { value: 1 << 30, file: "/limit".into() });
        let memory = Memory { machine: Some(8 << 30), available: None, limit, process: None };
        let finding = |models| {
            let finding = memory_findings(&memory, 1 << 29, models);
            let texts: Vec<_> = finding.iter().map(|finding| finding.text.clone()).collect();
            assert_eq!(texts[..4], ["8.0 GiB", "unknown", "1.0 GiB (/limit)", "none"]);
            (finding[4].level, finding[4].text.clone())
        };
        assert_eq!(finding(None), (Level::Ok, "512.0 MiB for requests, no limit for models".into()));
        assert_eq!(finding(Some(1 << 29)).0, Level::Ok);
        assert_eq!(
            finding(Some(1 << 30)),
            (Level::Warning, "512.0 MiB for requests, 1.0 GiB at most for models".into())
        );
    }

    #[test]
    fn file_finding_warns_below_the_connection_limit() {
        let finding = |soft, hard, connections| {
            let finding = files_findings(soft, hard, connections);
            (finding.level, finding.text)
        };
        assert_eq!(finding(1024, 4096, None), (Level::Ok, "1024, which a server raises to 4096".into()));
        assert_eq!(finding(4096, 4096, Some(3712)), (Level::Ok, "4096".into()));
        assert_eq!(finding(4096, 4096, Some(3713)).0, Level::Warning);
        assert_eq!(finding(rlimit::INFINITY, rlimit::INFINITY, Some(1 << 20)), (Level::Ok, "no limit".into()));
    }
}
