//! `loadtest run`: loads servers and reports.

use indicatif::{ProgressBar, ProgressStyle};
use std::{fs, io::IsTerminal};

use crate::{
    cli::Run,
    load::Level,
    measure::{self, Observed},
    prepare,
    processes::Processes,
    report::{LevelReport, Moment, Report, html, table},
    target::Target,
};

/// Measures what the options say; the report for stdout.
pub(crate) async fn run(options: &Run) -> Result<String, String> {
    let mix = prepare::mix(&options.targets, &options.load).await?;
    let mut report = Report {
        loadtest: env!("CARGO_PKG_VERSION"),
        started: humantime::format_rfc3339_seconds(onnxd::clock::now()).to_string(),
        targets: options.targets.iter().map(ToString::to_string).collect(),
        warm_up_seconds: options.load.warm_up.as_secs_f64(),
        levels: Vec::new(),
    };
    let levels = options.load.levels();
    let bar = progress_bar();
    for (index, &level) in levels.iter().enumerate() {
        let terms = prepare::terms(&options.load, &options.targets, level);
        let mut progress = |moment: &Moment, over: f64| {
            bar.set_position((1000.0 * (index as f64 + over) / levels.len() as f64) as u64);
            bar.set_message(described(level, moment));
        };
        let mut observed = Observed {
            server: server(&options.targets),
            metrics: options.load.metrics.as_ref(),
            progress: &mut progress,
        };
        let figures = measure::level(&mix, terms, level, &mut observed).await?;
        report.levels.push(LevelReport::new(level, terms, options.load.goodput_limit().is_some(), figures));
    }
    bar.finish_and_clear();
    if let Some(path) = &options.html {
        fs::write(path, html(&report)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if options.json {
        return serde_json::to_string_pretty(&report).map_err(|error| error.to_string());
    }
    Ok(table(&report))
}

/// The processes of the server, where there is one, and on this machine.
pub(crate) fn server(targets: &[Target]) -> Option<Processes> {
    let is_local = |target: &Target| {
        let address = target.host.parse::<std::net::IpAddr>();
        target.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    };
    let first = targets.first().filter(|_| targets.iter().all(is_local))?;
    // CPU time can't be assigned to one of several servers.
    targets.iter().all(|target| target.port == first.port).then(|| Processes::listening_on(first.port))?
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
    ProgressBar::new(1000).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn described(level: Level, moment: &Moment) -> String {
    let load = match level {
        Level::Closed { to, .. } => format!("{to} clients"),
        Level::Open { to, .. } => format!("{to}/s"),
    };
    let Moment { requests_per_second, p50_ms, p99_ms, errors, .. } = moment;
    format!("{load}: {requests_per_second:.0} req/s, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, {errors} failed")
}
