//! Monitoring of the server, `deploy/prometheus` and `deploy/grafana`: held against Prometheus' own tools, Grafana's own types,
//! and a server under load.

mod dashboards;
mod demo;
mod live;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

use crate::{
    cli::text,
    deploy::words,
    support::{
        prometheus::{configuration, installed},
        python,
        server::onnxd,
    },
};

const REQUIREMENTS: &str = include_str!("../python/dashboards_requirements.txt");
const ALERTS: &str = include_str!("../../deploy/prometheus/rules/alerts.yml");
const METRICS: &str = include_str!("../../docs/metrics.md");
const RULES: [&str; 2] = ["rules/alerts.yml", "rules/recording.yml"];

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let output = Command::new("promtool").args(arguments).args(files).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn prometheus_files_pass_promtool() {
    if !installed("prometheus_files_pass_promtool") {
        return;
    }
    let file = |name: &str| configuration().join(name);
    promtool(&["check", "config"], &[file("prometheus.yml")]);
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &RULES.map(file));
    promtool(
        &["test", "rules"],
        &["tests/canary.yml", "tests/objectives.yml", "tests/objectives-of-days.yml", "tests/servers.yml"].map(file),
    );

    // Debian's Prometheus knows no Kubernetes: all but the discovery is checked.
    let folder = TempDir::new().unwrap();
    let kubernetes = fs::read_to_string(file("kubernetes.yml")).unwrap();
    let (begin, end) =
        (kubernetes.find("    kubernetes_sd_configs:").unwrap(), kubernetes.find("    relabel_configs:").unwrap());
    let without = [&kubernetes[..begin], "    static_configs: [targets: [localhost]]\n", &kubernetes[end..]].concat();
    let path = folder.path().join("kubernetes.yml");
    fs::write(&path, without.replace("rules/*.yml", file("rules/*.yml").to_str().unwrap())).unwrap();
    promtool(&["check", "config"], &[path]);
}

#[test]
fn dashboards_match_the_types_of_grafana() {
    const TEST: &str = "dashboards_match_the_types_of_grafana";
    let Some(packages) = python::packages_of(TEST, REQUIREMENTS) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards");
    python::run_with(TEST, &packages, "dashboards.py", &[folder.to_str().unwrap()]);
}

/// The names behind `key`.
fn names<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    text.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::trim).collect()
}

#[test]
fn alerts_have_a_runbook_and_a_test() {
    let alerts = names(ALERTS, "- alert:");
    assert!(alerts.len() > 10, "{alerts:?}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let page = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let pages: BTreeSet<String> = fs::read_dir(&folder).unwrap().map(|entry| page(entry.unwrap().path())).collect();
    let expected = alerts.iter().map(|name| (*name).to_owned()).chain(["README".into()]).collect();
    assert_eq!(pages, expected);
    let urls = names(ALERTS, "runbook_url:");
    assert_eq!(
        urls,
        alerts
            .iter()
            .map(|name| format!("docs/runbooks/{name}.md"))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect()
    );

    let tests = fs::read_dir(configuration().join("tests")).unwrap();
    let tests: String = tests.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    for alert in alerts {
        // The name is followed by the expectation, or by nothing where it must not fire.
        let name = format!("alertname: {alert}\n");
        let cases = tests.split(&name).skip(1);
        let (reported, not): (Vec<_>, Vec<_>) = cases.partition(|case| case.trim_start().starts_with("exp_alerts"));
        assert!(!reported.is_empty() && !not.is_empty(), "{alert}: {} reported, {} not", reported.len(), not.len());
    }
}

#[test]
fn runbook_commands_and_metrics_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let mut lines = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let page = fs::read_to_string(entry.unwrap().path()).unwrap();
        for name in words(&page, "onnxd_") {
            let family =
                ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            let row = format!("| `{family}` |");
            assert!(METRICS.contains(&row), "{name} is not documented");
        }
        lines.extend(page.lines().filter_map(|line| line.strip_prefix("onnxd ")).map(str::to_owned));
    }
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        let command = &words[..if ["alias", "traffic"].contains(&words[0]) { 2 } else { 1 }];
        let help = onnxd().arg("help").args(command).output().unwrap();
        assert!(help.status.success(), "{line}: {help:?}");
        let help = text(&help.stdout);
        let mut options = words.iter().filter(|word| word.starts_with("--"));
        assert!(options.all(|option| help.contains(option)), "{line}\n{help}");
    }
}
