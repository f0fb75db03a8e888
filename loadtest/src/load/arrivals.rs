//! When requests of an open loop are due.

use std::time::Duration;

/// Spacing of arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spacing {
    /// Independent of each other, as those of many users: exponential gaps.
    Poisson,
    /// Evenly.
    Constant,
}

/// Times of arrivals since the beginning, at a rate that goes from one to another in a straight line.
///
/// With the rate `a + k t`, `a t + k t^2 / 2` are expected until `t`. Arrivals are where that passes the next whole number
/// (constant), or the next point of a Poisson process of rate 1 (a Poisson process's time, stretched).
pub(crate) struct Arrivals {
    from: f64,
    slope: f64,
    duration: f64,
    spacing: Spacing,
    random: fastrand::Rng,
    /// Number of arrivals that are expected until the last one.
    expected: f64,
}

impl Arrivals {
    /// Arrivals at rates per second. `phase`, from 0 to 1, is where the first of evenly spaced ones lies in its gap.
    pub(crate) fn new(from: f64, to: f64, duration: Duration, spacing: Spacing, phase: f64, seed: u64) -> Self {
        let duration = duration.as_secs_f64();
        let slope = if duration > 0.0 { (to - from) / duration } else { 0.0 };
        let expected = if spacing == Spacing::Constant { phase - 1.0 } else { 0.0 };
        Arrivals { from, slope, duration, spacing, random: fastrand::Rng::with_seed(seed), expected }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.expected += match self.spacing {
            Spacing::Constant => 1.0,
            Spacing::Poisson => -(1.0 - self.random.f64()).ln(),
        };
        let under_root = self.from * self.from + 2.0 * self.slope * self.expected;
        // The form of the solution that holds for a slope of 0 too.
        let at = 2.0 * self.expected / (self.from + under_root.sqrt());
        // Not a number where the rate falls to 0 before.
        (at < self.duration).then(|| Duration::from_secs_f64(at.max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn count(from: f64, to: f64, spacing: Spacing) -> usize {
        Arrivals::new(from, to, 10 * SECOND, spacing, 0.5, 7).count()
    }

    #[test]
    fn arrivals_match_the_configured_rate() {
        for (from, to) in [(100.0, 100.0), (0.0, 200.0), (200.0, 0.0), (50.0, 150.0)] {
            assert_eq!(count(from, to, Spacing::Constant), 1000, "{from} to {to}");
            // Four standard deviations.
            assert!(count(from, to, Spacing::Poisson).abs_diff(1000) < 127, "{from} to {to}");
        }
    }

    #[test]
    fn ramp_spaces_arrivals_by_its_rate() {
        let times: Vec<Duration> = Arrivals::new(0.0, 200.0, 10 * SECOND, Spacing::Constant, 0.5, 7).collect();
        assert!(times.is_sorted());
        let half = times.iter().filter(|time| **time < 5 * SECOND).count();
        assert_eq!(half, 250);
    }
}
