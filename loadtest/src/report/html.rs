//! The report as a page with charts: one file, no scripts, nothing loaded from elsewhere.

use std::fmt::Write as _;

use super::{LevelReport, Report, errors, table, text::load};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
    pre{background:#f4f4f4;padding:1em;overflow-x:auto;font-size:12px}svg{width:100%;height:auto}\
    h2{margin-top:2em}figure{margin:1em 0}figcaption{color:#555}\
    .axis{stroke:#bbb}.grid{stroke:#eee}text{font-size:11px;fill:#555}\
    @media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}text{fill:#aaa}.grid{stroke:#333}}";

/// Size of a chart, and the room for its labels.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 24.0;

/// A page.
pub(crate) fn html(report: &Report) -> String {
    let title = escaped(&report.targets.join(", "));
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>Load test</h1><p>{title}<br>{}, loadtest {}</p><pre>{}</pre>",
        report.started,
        report.loadtest,
        escaped(&table(report))
    );
    if report.levels.len() > 1 {
        page.push_str(&over_levels(&report.levels));
    }
    for level in &report.levels {
        let _ = write!(page, "<h2>{}</h2>", escaped(&load(&level.load)));
        page.push_str(&over_time(level));
        let points =
            level.distribution.iter().map(|(quantile, latency)| (-(1.0 - quantile).log10(), *latency)).collect();
        let line = Line { name: "latency", colour: "#2563eb", points };
        page.push_str(&chart("Latency (ms) over the share of requests", &[line], |nines| match nines as u32 {
            0 => "0".into(),
            1 => "90 %".into(),
            nines => format!("99.{} %", "9".repeat(nines as usize - 2)).replace(". ", " "),
        }));
        let failed = errors([level]);
        if !failed.is_empty() {
            let _ = write!(page, "<pre>{}</pre>", escaped(&failed));
        }
    }
    page
}

fn over_levels(levels: &[LevelReport]) -> String {
    let line = |name, colour, value: fn(&LevelReport) -> f64| Line {
        name,
        colour,
        points: levels.iter().map(|level| (level.requests_per_second, value(level))).collect(),
    };
    let lines =
        [line("p50", "#16a34a", |level| level.latency_ms.p50), line("p99", "#dc2626", |level| level.latency_ms.p99)];
    format!("<h2>All loads</h2>{}", chart("Latency (ms) over throughput (requests per second)", &lines, label))
}

fn over_time(level: &LevelReport) -> String {
    let line = |name, colour, value: fn(&super::Moment) -> f64| Line {
        name,
        colour,
        points: level.moments.iter().map(|moment| (moment.at_seconds, value(moment))).collect(),
    };
    let rates = [
        line("answered", "#2563eb", |moment| moment.requests_per_second),
        line("failed", "#dc2626", |moment| moment.errors as f64),
    ];
    let latencies = [line("p50", "#16a34a", |moment| moment.p50_ms), line("p99", "#dc2626", |moment| moment.p99_ms)];
    let seconds = |at: f64| format!("{} s", label(at));
    chart("Requests per second", &rates, seconds) + &chart("Latency (ms)", &latencies, seconds)
}

struct Line {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

/// Lines over a horizontal axis that `name_of` labels.
fn chart(title: &str, lines: &[Line], name_of: impl Fn(f64) -> String) -> String {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let most = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max);
    let (step_x, step_y) = (step(most(|point| point.0)), step(most(|point| point.1)));
    let (most_x, most_y) =
        (most(|point| point.0).max(step_x), (most(|point| point.1) / step_y).ceil().max(1.0) * step_y);
    let x = |value: f64| LEFT + value / most_x * (WIDTH - LEFT - 20.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / most_y * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!("<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img>");
    for tick in ticks(most_y, step_y) {
        let (at, left, right) = (y(tick), x(0.0), x(most_x));
        let _ = write!(
            svg,
            "<line class=grid x1={left:.1} x2={right:.1} y1={at:.1} y2={at:.1} />\
             <text x={:.1} y={:.1} text-anchor=end>{}</text>",
            left - 8.0,
            at + 4.0,
            label(tick)
        );
    }
    for tick in ticks(most_x, step_x) {
        let _ =
            write!(svg, "<text x={:.1} y={:.1} text-anchor=middle>{}</text>", x(tick), HEIGHT - 10.0, name_of(tick));
    }
    for (index, line) in lines.iter().enumerate() {
        let points = line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        let points: Vec<String> = points.map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let (colour, name) = (line.colour, line.name);
        let _ = write!(
            svg,
            "<polyline fill=none stroke=\"{colour}\" stroke-width=2 points=\"{}\" />\
             <text x={:.1} y=14 style=\"fill:{colour}\">{name}</text>",
            points.join(" "),
            LEFT + 80.0 * index as f64
        );
    }
    svg + "</svg></figure>"
}

/// A round distance of about five ticks up to a number.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let rough = most / 5.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| rough <= nice * magnitude);
    nice.unwrap_or(10.0) * magnitude
}

fn ticks(most: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |tick| f64::from(tick) * step).take_while(move |tick| *tick <= most * 1.000_001)
}

fn label(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0}k", value / 1000.0) } else { format!("{}", (value * 1000.0).round() / 1000.0) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
