//! The report for a terminal.

use std::fmt::Write as _;

use super::{LevelReport, Load, Report};

/// Most of a CPU's time: a generator that takes it may be what limits the figures.
const BUSY: f64 = 0.9;

/// The levels as a table, with what failed below.
pub(crate) fn table(report: &Report) -> String {
    let mut text = format!("{}\n\n", report.targets.join("\n"));
    let header = [
        "load",
        "req/s",
        "rows/s",
        "goodput/s",
        "p50 ms",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "failed",
        "failed p99 ms",
        "server us/req",
        "loadtest us/req",
        "batch",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(report.levels.iter().map(row));
    // Columns that nothing is known of are left out.
    let shown: Vec<usize> =
        (0..header.len()).filter(|&column| rows[1..].iter().any(|row| !row[column].is_empty())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    for row in &rows {
        let cells = shown.iter().map(|&column| format!("{:>width$}", row[column], width = width(column)));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  "));
    }
    text.push_str(&errors(&report.levels));
    for level in &report.levels {
        if let Some(late) = level.sent_late_p99_ms.filter(|late| *late > 0.5 * level.latency_ms.p50) {
            let _ = writeln!(
                text,
                "note: at {} the generator sent late (p99 {late:.2} ms), which is in the latencies",
                load(&level.load)
            );
        }
        if let Some(busy) = level.loadtest_busy_ratio.filter(|busy| *busy > BUSY) {
            let _ = writeln!(
                text,
                "note: at {} the generator took {:.0} % of its threads' time: it may be what limits the figures",
                load(&level.load),
                busy * 100.0
            );
        }
    }
    text
}

fn row(level: &LevelReport) -> [String; 15] {
    let latency = &level.latency_ms;
    let optional = |value: Option<f64>| value.map(|value| format!("{value:.1}")).unwrap_or_default();
    let failed: u64 = level.errors.values().map(|errors| errors.count).sum();
    [
        load(&level.load),
        format!("{:.0}", level.requests_per_second),
        format!("{:.0}", level.rows_per_second),
        level.goodput_per_second.map(|rate| format!("{rate:.0}")).unwrap_or_default(),
        format!("{:.3}", latency.p50),
        format!("{:.3}", latency.p90),
        format!("{:.3}", latency.p99),
        format!("{:.3}", latency.p99_9),
        format!("{:.3}", latency.p99_99),
        format!("{:.3}", latency.max),
        failed.to_string(),
        level.failure_latency_ms.map(|latency| format!("{:.3}", latency.p99)).unwrap_or_default(),
        optional(level.server_cpu_us_per_request),
        optional(level.loadtest_cpu_us_per_request),
        optional(level.mean_batch),
    ]
}

/// Failures by kind, with the message of the first; empty where nothing failed.
pub(crate) fn errors<'a>(levels: impl IntoIterator<Item = &'a LevelReport>) -> String {
    let mut text = String::new();
    for level in levels {
        for (kind, errors) in &level.errors {
            let _ = writeln!(text, "{}: {} x {kind}; the first: {}", load(&level.load), errors.count, errors.first);
        }
    }
    text
}

/// A load in a few words.
pub(crate) fn load(load: &Load) -> String {
    let range = |from: String, to: Option<String>| to.map_or(from.clone(), |to| format!("{from}..{to}"));
    match load {
        Load::Closed { clients, clients_to } => {
            format!("{} clients", range(clients.to_string(), clients_to.map(|to| to.to_string())))
        }
        Load::Open { rate, rate_to, arrivals } => {
            format!("{}/s {arrivals}", range(rate.to_string(), rate_to.map(|to| to.to_string())))
        }
    }
}
