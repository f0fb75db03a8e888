//! `loadtest compare`: two targets measured in turns, so that what the machine does besides hits both.

use serde::Serialize;
use std::{fmt::Write as _, slice, sync::Arc};

use crate::{
    cli::Compare,
    load::{Level, Mix},
    measure::{self, Observed},
    prepare,
    report::{LevelReport, errors},
    run::server,
    target::Target,
};

/// Results of a comparison.
#[derive(Serialize)]
struct Comparison {
    a: String,
    b: String,
    levels: Vec<Compared>,
}

#[derive(Serialize)]
struct Compared {
    ratios: Vec<Ratio>,
    /// The reports of A and B, round by round.
    rounds: Vec<(LevelReport, LevelReport)>,
}

/// Ratio of A to B in one measure.
#[derive(Serialize)]
struct Ratio {
    measure: &'static str,
    /// Medians over the rounds.
    a: f64,
    b: f64,
    /// Geometric mean of the ratios of each round.
    ratio: f64,
    /// Where the ratio lies with a confidence of 95 %.
    low: f64,
    high: f64,
}

/// Name of a compared figure, and its value in a report.
type Measure = (&'static str, fn(&LevelReport) -> Option<f64>);
const MEASURES: [Measure; 6] = [
    ("requests per second", |level| Some(level.requests_per_second)),
    ("server CPU us per request", |level| level.server_cpu_us_per_request),
    ("loadtest CPU us per request", |level| level.loadtest_cpu_us_per_request),
    ("p50 ms", |level| Some(level.latency_ms.p50)),
    ("p99 ms", |level| Some(level.latency_ms.p99)),
    ("p99.9 ms", |level| Some(level.latency_ms.p99_9)),
];

/// Measures what the options say; the ratios for stdout.
pub(crate) async fn compare(options: &Compare) -> Result<String, String> {
    let (a, b) = (side(&options.a, options).await?, side(&options.b, options).await?);
    let mut comparison = Comparison { a: options.a.to_string(), b: options.b.to_string(), levels: Vec::new() };
    let mut text = format!("A  {}\nB  {}\n", options.a, options.b);
    for level in options.load.levels() {
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            // Each goes first in every other round, so that a drift hits both.
            let pair = if round % 2 == 0 {
                let of_a = a.measure(level, options).await?;
                (of_a, b.measure(level, options).await?)
            } else {
                let of_b = b.measure(level, options).await?;
                (a.measure(level, options).await?, of_b)
            };
            rounds.push(pair);
        }
        let ratios = MEASURES.iter().filter_map(|measure| ratio(measure, &rounds)).collect();
        let compared = Compared { ratios, rounds };
        write_comparison(&mut text, &compared);
        comparison.levels.push(compared);
    }
    if options.json {
        return serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string());
    }
    Ok(text)
}

/// One of the two.
struct Side<'a> {
    target: &'a Target,
    mix: Arc<Mix>,
}

async fn side<'a>(target: &'a Target, options: &Compare) -> Result<Side<'a>, String> {
    Ok(Side { target, mix: prepare::mix(slice::from_ref(target), &options.load).await? })
}

impl Side<'_> {
    async fn measure(&self, level: Level, options: &Compare) -> Result<LevelReport, String> {
        let targets = slice::from_ref(self.target);
        let terms = prepare::terms(&options.load, targets, level);
        let mut observed = Observed { server: server(targets), metrics: None, progress: &mut |_, _| {} };
        let figures = measure::level(&self.mix, terms, level, &mut observed).await?;
        Ok(LevelReport::new(level, terms, options.load.goodput_limit().is_some(), figures))
    }
}

fn write_comparison(text: &mut String, compared: &Compared) {
    let Some((first, _)) = compared.rounds.first() else { return };
    let rounds = compared.rounds.len();
    let _ = writeln!(text, "\n{}, {rounds} rounds of {} s each", crate::report::load(&first.load), first.seconds);
    let _ = writeln!(text, "{:28} {:>12} {:>12}   {:>6}  95 % confidence", "", "A (median)", "B (median)", "A / B");
    for Ratio { measure, a, b, ratio, low, high } in &compared.ratios {
        let digits = if *a >= 1000.0 { 0 } else { 3 };
        let _ = writeln!(text, "{measure:28} {a:>12.digits$} {b:>12.digits$}   {ratio:>6.3}  {low:.3} to {high:.3}");
    }
    text.push_str(&errors(compared.rounds.iter().flat_map(|(a, b)| [a, b])));
}

/// The geometric mean of the rounds' ratios, with the confidence interval of Student's distribution over their logarithms.
fn ratio((measure, value): &Measure, rounds: &[(LevelReport, LevelReport)]) -> Option<Ratio> {
    let pairs: Vec<(f64, f64)> = rounds.iter().map(|(a, b)| Some((value(a)?, value(b)?))).collect::<Option<_>>()?;
    if pairs.iter().any(|(a, b)| *a <= 0.0 || *b <= 0.0) {
        return None;
    }
    let logarithms: Vec<f64> = pairs.iter().map(|(a, b)| (a / b).ln()).collect();
    let (mean, half) = interval(&logarithms);
    Some(Ratio {
        measure,
        a: median(pairs.iter().map(|pair| pair.0).collect()),
        b: median(pairs.iter().map(|pair| pair.1).collect()),
        ratio: mean.exp(),
        low: (mean - half).exp(),
        high: (mean + half).exp(),
    })
}

/// The mean of at least two numbers, and half the width of its confidence interval of 95 %.
fn interval(numbers: &[f64]) -> (f64, f64) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, student_t(numbers.len() - 1) * (variance / count).sqrt())
}

/// Quantile 0.975 of Student's distribution: by the table for 1 and 2 degrees of freedom, from 3 on to better than half a
/// percent (Cornish-Fisher expansion about the normal quantile; Abramowitz and Stegun, 26.7.5).
fn student_t(degrees: usize) -> f64 {
    const Z: f64 = 1.959_964;
    if let Some(quantile) = [12.706, 4.303].get(degrees - 1) {
        return *quantile;
    }
    let n = degrees as f64;
    let powers = [Z, Z.powi(3), Z.powi(5), Z.powi(7), Z.powi(9)];
    let sum = |factors: [f64; 5]| factors.iter().zip(powers).map(|(factor, power)| factor * power).sum::<f64>();
    Z + sum([1.0, 1.0, 0.0, 0.0, 0.0]) / (4.0 * n)
        + sum([3.0, 16.0, 5.0, 0.0, 0.0]) / (96.0 * n.powi(2))
        + sum([-15.0, 17.0, 19.0, 3.0, 0.0]) / (384.0 * n.powi(3))
        + sum([-945.0, -1920.0, 1482.0, 776.0, 79.0]) / (92160.0 * n.powi(4))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len().is_multiple_of(2) { f64::midpoint(numbers[middle - 1], numbers[middle]) } else { numbers[middle] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn student_t_quantiles_match_the_tables() {
        for (degrees, expected) in
            [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (100, 1.984)]
        {
            let quantile = student_t(degrees);
            assert!((quantile / expected - 1.0).abs() < 0.005, "{degrees}: {quantile}, expected {expected}");
        }
    }

    #[test]
    fn median_and_interval_match_known_values() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        let (mean, half) = interval(&[1.0, 2.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-12 && (half - 4.303 / 3f64.sqrt()).abs() < 1e-9, "{half}");
    }
}
