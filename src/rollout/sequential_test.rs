//! Sequential test of "the candidate fails more often than the stable version": valid at any look. Pure.
//!
//! Time is cut into blocks. In a block the candidate has `n` requests, the stable version `k`, and together they have `m` failures, `x`
//! of them the candidate's. Given `m`, `x` has Fisher's noncentral hypergeometric distribution, whose only parameter is the log odds
//! ratio `d`:
//!
//! ```text
//! L(d) = C(n, x) C(k, m - x) e^(d x) / sum_j C(n, j) C(k, m - j) e^(d j)
//! ```
//!
//! The rate of failures and the split of the traffic, which both versions share, cancel. So weights may change without a reset.
//!
//! The e-value against "the log odds ratio is at most `d0`" is a mixture over alternatives, `sum_d w(d) prod L(d0 + d) / L(d0)`. Under
//! that hypothesis it reaches `1 / alpha` with a probability of at most `alpha`, however often it is looked at (Ville's inequality).
//! See Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests", 2024, and Ramdas et al., "Game-theoretic
//! statistics and safe anytime-valid inference", 2023.

#[cfg(test)]
mod tests;

use std::array;

/// Distance of two neighbouring log odds ratios at which likelihoods are known.
const STEP: f64 = 0.1;

/// Alternatives on each side of a hypothesis: log odds ratios of up to 4 beyond it.
const ALTERNATIVES: usize = 40;

/// Log odds ratios at which likelihoods are known: alternatives to all hypotheses that bound an interval, on both sides.
const POINTS: usize = 4 * ALTERNATIVES + 1;

/// Index of the tolerated odds ratio.
const MARGIN: usize = 2 * ALTERNATIVES;

/// Terms this much less likely than the greatest one, in logarithms, add nothing to a sum of doubles.
const NEGLIGIBLE: f64 = 45.0;

/// Requests of a version in a block, and those that failed. A batch that failed as a whole is one request here, or one key where the
/// traffic is split by keys: failures that come together are one piece of evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Number of requests.
    pub requests: u64,
    /// Number of requests that failed, at most `requests`.
    pub failures: u64,
}

/// The evidence of all blocks so far. Blocks count alike in any order, and those of replicas can be merged.
#[derive(Debug, Clone)]
pub struct SequentialTest {
    /// Logarithm of the tolerated odds ratio.
    margin: f64,
    /// Logarithms of the products of all `L`, by the log odds ratio. Only differences have a meaning.
    log_likelihoods: Box<[f64; POINTS]>,
}

impl SequentialTest {
    /// A test without evidence. `tolerated_odds_ratio`: up to this the candidate is no worse, such as 1.25; above zero and finite.
    pub fn new(tolerated_odds_ratio: f64) -> Self {
        SequentialTest { margin: tolerated_odds_ratio.ln(), log_likelihoods: Box::new([0.0; POINTS]) }
    }

    /// Takes the outcomes of one block into account. A block in which a version had no request, or in which all requests went alike,
    /// says nothing.
    pub fn observe(&mut self, candidate: Outcomes, stable: Outcomes) {
        let Some(block) = FailureSplit::new(candidate, stable) else { return };
        for point in 0..POINTS {
            self.log_likelihoods[point] += block.log_likelihood(self.log_odds_ratio(point));
        }
    }

    /// Adds the evidence of another test with the same margin, such as a replica's.
    pub fn merge(&mut self, other: &Self) {
        for (sum, others) in self.log_likelihoods.iter_mut().zip(&*other.log_likelihoods) {
            *sum += others;
        }
    }

    /// Logarithm of the e-value against "the candidate is no worse than tolerated".
    pub fn log_evidence_worse(&self) -> f64 {
        self.log_evidence_above(MARGIN)
    }

    /// Logarithm of the e-value against "the candidate is worse than tolerated".
    pub fn log_evidence_not_worse(&self) -> f64 {
        self.log_evidence_below(MARGIN)
    }

    /// Confidence sequence of the odds ratio: it contains the true one at all times with a probability of at least `1 - alpha`. An end is
    /// zero or infinite where it lies beyond the ratios that are looked at, a factor of 55 from the tolerated one.
    pub fn odds_ratio_interval(&self, alpha: f64) -> (f64, f64) {
        // Half of alpha for each end.
        let threshold = (2.0 / alpha).ln();
        let hypotheses = ALTERNATIVES..=3 * ALTERNATIVES;
        let is_possible =
            |point: &usize| self.log_evidence_above(*point) < threshold && self.log_evidence_below(*point) < threshold;
        let lowest = hypotheses.clone().find(is_possible).unwrap_or(MARGIN);
        let highest = hypotheses.clone().rfind(is_possible).unwrap_or(MARGIN);
        // The true ratio may lie between a possible point and its neighbour.
        let low = if lowest == *hypotheses.start() { 0.0 } else { self.log_odds_ratio(lowest - 1).exp() };
        let high = if highest == *hypotheses.end() { f64::INFINITY } else { self.log_odds_ratio(highest + 1).exp() };
        (low, high)
    }

    fn log_odds_ratio(&self, point: usize) -> f64 {
        self.margin + (point as f64 - MARGIN as f64) * STEP
    }

    /// Against "the log odds ratio is at most that of the point".
    fn log_evidence_above(&self, point: usize) -> f64 {
        self.mixture(point, |distance| point + distance)
    }

    /// Against "the log odds ratio is at least that of the point".
    fn log_evidence_below(&self, point: usize) -> f64 {
        self.mixture(point, |distance| point - distance)
    }

    fn mixture(&self, point: usize, alternative: impl Fn(usize) -> usize) -> f64 {
        let terms: [f64; ALTERNATIVES] = array::from_fn(|index| {
            let ratio = self.log_likelihoods[alternative(index + 1)] - self.log_likelihoods[point];
            log_weight(index + 1) + ratio
        });
        log_sum(terms) - log_sum(array::from_fn::<f64, ALTERNATIVES, _>(|index| log_weight(index + 1)))
    }
}

/// Logarithm of the e-value of several gates: their weighted mean, which is an e-value however the gates depend on each other (Vovk and
/// Wang, "E-values: calibration, combination and applications", 2021). Pairs of weight and logarithm; the weights add up to 1.
pub fn log_combined(gates: &[(f64, f64)]) -> f64 {
    log_sum(gates.iter().map(|(weight, log_evidence)| weight.ln() + log_evidence))
}

/// Logarithm of the weight of an alternative: that of a standard normal distribution, up to a constant.
fn log_weight(distance: usize) -> f64 {
    -0.5 * (distance as f64 * STEP).powi(2)
}

/// Logarithm of a sum, of the logarithms of its terms.
fn log_sum(terms: impl IntoIterator<Item = f64, IntoIter: Clone>) -> f64 {
    let terms = terms.into_iter();
    let greatest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if greatest == f64::NEG_INFINITY {
        return greatest;
    }
    greatest + terms.map(|term| (term - greatest).exp()).sum::<f64>().ln()
}

/// The outcomes of one block, as the distribution of the candidate's failures given all failures.
struct FailureSplit {
    /// The candidate's failures, counted from the fewest that it could have of all.
    observed: usize,
    least: u64,
    /// Logarithm of the number of ways in which the candidate has `least`, `least + 1`, ... failures, relative to the first.
    ways: Vec<f64>,
}

impl FailureSplit {
    /// `None`: all requests of both went alike, or one had none.
    fn new(candidate: Outcomes, stable: Outcomes) -> Option<Self> {
        let observed = candidate.failures.min(candidate.requests);
        let failures = observed + stable.failures.min(stable.requests);
        let (least, most) = (failures.saturating_sub(stable.requests), failures.min(candidate.requests));
        if least == most {
            return None;
        }
        let mut ways = Vec::with_capacity((most - least + 1) as usize);
        let mut log = 0.0;
        ways.push(log);
        for next in least + 1..=most {
            // C(n, j) C(k, m - j) divided by the same for j - 1.
            let more = (candidate.requests - next + 1) as f64 * (failures - next + 1) as f64;
            let fewer = next as f64 * (stable.requests + next - failures) as f64;
            log += (more / fewer).ln();
            ways.push(log);
        }
        Some(FailureSplit { observed: (observed - least) as usize, least, ways })
    }

    /// Logarithm of `L`.
    fn log_likelihood(&self, log_odds_ratio: f64) -> f64 {
        let log_term = |index: usize| self.ways[index] + log_odds_ratio * (self.least + index as u64) as f64;
        // Terms rise to the mode and fall behind it, faster and faster.
        let (mut mode, mut end) = (0, self.ways.len() - 1);
        while mode < end {
            let middle = mode.midpoint(end);
            let rises = self.ways[middle + 1] - self.ways[middle] + log_odds_ratio > 0.0;
            (mode, end) = if rises { (middle + 1, end) } else { (mode, middle) };
        }
        let log_of_mode = log_term(mode);
        let matters = |difference: &f64| *difference > -NEGLIGIBLE;
        let up = (mode + 1..self.ways.len()).map(|index| log_term(index) - log_of_mode).take_while(matters);
        let down = (0..mode).rev().map(|index| log_term(index) - log_of_mode).take_while(matters);
        let others: f64 = up.chain(down).map(f64::exp).sum();
        log_term(self.observed) - log_of_mode - others.ln_1p()
    }
}
