//! Tests of the promises: exact ones by enumeration, and simulated ones with a fixed seed.

use proptest::prelude::*;

use super::*;

/// Probability of an error that is allowed.
const ALPHA: f64 = 0.05;

fn outcomes(requests: u64, failures: u64) -> Outcomes {
    Outcomes { requests, failures }
}

fn choose(all: u64, some: u64) -> f64 {
    (0..some).map(|index| (all - index) as f64 / (index + 1) as f64).product()
}

/// All failures that the candidate may have of `failures`, with their probabilities at an odds ratio.
fn distribution(candidate: u64, stable: u64, failures: u64, odds_ratio: f64) -> Vec<(u64, f64)> {
    let possible = failures.saturating_sub(stable)..=failures.min(candidate);
    let term = |own: u64| choose(candidate, own) * choose(stable, failures - own) * odds_ratio.powi(own as i32);
    let sum: f64 = possible.clone().map(term).sum();
    possible.map(|own| (own, term(own) / sum)).collect()
}

/// The mean of what a test gives after one block.
fn mean(block: (u64, u64, u64), odds_ratio: f64, test: &SequentialTest, log: fn(&SequentialTest) -> f64) -> f64 {
    let (candidate, stable, failures) = block;
    let value = |own: u64| {
        let mut test = test.clone();
        test.observe(outcomes(candidate, own), outcomes(stable, failures - own));
        log(&test).exp()
    };
    distribution(candidate, stable, failures, odds_ratio).iter().map(|(own, part)| part * value(*own)).sum()
}

fn blocks() -> impl Strategy<Value = Vec<(u64, u64, u64, u64)>> {
    let block = (0u64..40, 0u64..40).prop_flat_map(|(n, k)| (Just(n), Just(k), 0..=n, 0..=k));
    proptest::collection::vec(block, 0..12)
}

fn observed(margin: f64, blocks: &[(u64, u64, u64, u64)]) -> SequentialTest {
    let mut test = SequentialTest::new(margin);
    for (n, k, x, y) in blocks {
        test.observe(outcomes(*n, *x), outcomes(*k, *y));
    }
    test
}

proptest! {
    #[test]
    fn e_value_has_a_mean_of_one_at_the_margin_and_less_inside(
        candidate in 1u64..25,
        stable in 1u64..25,
        part in 0.0..1.0,
        margin in 0.5..3.0,
        inside in 0.05..0.95,
    ) {
        let failures = (part * (candidate + stable) as f64) as u64;
        let block = (candidate, stable, failures);
        let test = SequentialTest::new(margin);
        for log in [SequentialTest::log_evidence_worse, SequentialTest::log_evidence_not_worse] {
            let at_margin = mean(block, margin, &test, log);
            prop_assert!((at_margin - 1.0).abs() < 1e-9, "{at_margin}");
        }
        let better = mean(block, margin * inside, &test, SequentialTest::log_evidence_worse);
        prop_assert!(better <= 1.0 + 1e-9, "{better}");
        let worse = mean(block, margin / inside, &test, SequentialTest::log_evidence_not_worse);
        prop_assert!(worse <= 1.0 + 1e-9, "{worse}");
    }

    #[test]
    fn evidence_depends_on_no_order_and_replicas_add_up(blocks in blocks(), cut in 0usize..12) {
        let whole = observed(1.25, &blocks);
        let (first, second) = blocks.split_at(cut.min(blocks.len()));
        let mut merged = observed(1.25, second);
        merged.merge(&observed(1.25, first));
        let backwards = observed(1.25, &blocks.iter().rev().copied().collect::<Vec<_>>());
        for other in [merged, backwards] {
            prop_assert!((whole.log_evidence_worse() - other.log_evidence_worse()).abs() < 1e-9);
            prop_assert!((whole.log_evidence_not_worse() - other.log_evidence_not_worse()).abs() < 1e-9);
        }
    }

    #[test]
    fn interval_is_ordered_and_finite_evidence_has_numbers(blocks in blocks(), margin in 0.5..3.0) {
        let test = observed(margin, &blocks);
        let (low, high) = test.odds_ratio_interval(ALPHA);
        prop_assert!(low < high, "{low} to {high}");
        prop_assert!(test.log_evidence_worse().is_finite() && test.log_evidence_not_worse().is_finite());
    }
}

#[test]
fn block_without_a_comparison_is_no_evidence() {
    let mut test = SequentialTest::new(1.25);
    for (candidate, stable) in [
        (outcomes(0, 0), outcomes(100, 7)),
        (outcomes(100, 7), outcomes(0, 0)),
        (outcomes(100, 0), outcomes(100, 0)),
        (outcomes(100, 100), outcomes(100, 100)),
    ] {
        test.observe(candidate, stable);
    }
    assert!(test.log_evidence_worse().abs() < 1e-12 && test.log_evidence_not_worse().abs() < 1e-12);
    assert_eq!(test.odds_ratio_interval(ALPHA), (0.0, f64::INFINITY));
}

#[test]
fn large_block_counts_as_its_exact_distribution_does() {
    let mut test = SequentialTest::new(1.0);
    test.observe(outcomes(1_000_000, 10_000), outcomes(1_000_000, 10_000));
    let (low, high) = test.odds_ratio_interval(ALPHA);
    assert!((0.8..1.0).contains(&low) && (1.0..1.25).contains(&high), "{low} to {high}");
    assert!(test.log_evidence_worse() < 0.0);
    // More failures than requests can't be: they are taken as all.
    test.observe(outcomes(5, 9), outcomes(50, 0));
    assert!(test.log_evidence_worse().is_finite());
}

#[test]
fn gates_combine_to_their_weighted_mean() {
    let combined = log_combined(&[(0.5, 40f64.ln()), (0.25, 4f64.ln()), (0.25, f64::NEG_INFINITY)]);
    assert!((combined.exp() - 21.0).abs() < 1e-9);
    assert_eq!(log_combined(&[(1.0, f64::NEG_INFINITY)]), f64::NEG_INFINITY);
}

/// Traffic of two versions that fail by chance, in blocks of a second.
struct SimulatedTraffic {
    random: fastrand::Rng,
    requests_per_second: u64,
    /// The candidate's share.
    share: f64,
    candidate_fails: f64,
    stable_fails: f64,
}

impl SimulatedTraffic {
    fn second(&mut self) -> (Outcomes, Outcomes) {
        let (mut candidate, mut stable) = (Outcomes::default(), Outcomes::default());
        for _ in 0..self.requests_per_second {
            let is_candidate = self.random.f64() < self.share;
            let (side, fails) =
                if is_candidate { (&mut candidate, self.candidate_fails) } else { (&mut stable, self.stable_fails) };
            side.requests += 1;
            side.failures += u64::from(self.random.f64() < fails);
        }
        (candidate, stable)
    }

    /// The candidate's requests until it is found to be worse, within so many seconds.
    fn requests_until_worse(&mut self, margin: f64, seconds: u64) -> Option<u64> {
        let (mut test, mut requests) = (SequentialTest::new(margin), 0);
        (0..seconds).find_map(|_| {
            let (candidate, stable) = self.second();
            requests += candidate.requests;
            test.observe(candidate, stable);
            (test.log_evidence_worse() >= -ALPHA.ln()).then_some(requests)
        })
    }
}

fn traffic(seed: u64, share: f64, candidate_fails: f64, stable_fails: f64) -> SimulatedTraffic {
    SimulatedTraffic {
        random: fastrand::Rng::with_seed(seed),
        requests_per_second: 100,
        share,
        candidate_fails,
        stable_fails,
    }
}

/// Rollouts that are simulated for each case. `ONNXD_TEST_ROUNDS=400 cargo test --lib sequential_test -- --nocapture` prints the
/// figures of `docs/design/sequential_test.md`.
fn rounds() -> u64 {
    std::env::var("ONNXD_TEST_ROUNDS").map_or(40, |rounds| rounds.parse().unwrap())
}

#[test]
#[allow(clippy::print_stdout, reason = "figures for the page on the test")]
fn equal_versions_are_found_worse_no_more_often_than_allowed() {
    for (margin, share) in [(1.0, 0.5), (1.25, 0.5), (1.0, 0.05), (1.25, 0.05)] {
        let is_found = |seed: &u64| traffic(*seed, share, 0.01, 0.01).requests_until_worse(margin, 600).is_some();
        let found = (0..rounds()).filter(is_found).count();
        println!("equal, margin {margin}, share {share}: {found} of {} found worse within 600 s", rounds());
        assert!(found as f64 <= ALPHA * rounds() as f64, "margin {margin}, share {share}: {found} false alarms");
    }
}

/// The last two figures of a case bound the median of the requests that are needed.
#[test]
#[allow(clippy::print_stdout, reason = "figures for the page on the test")]
fn worse_candidate_is_found_within_few_of_its_requests() {
    for (stable_fails, candidate_fails, share, margin, least, most) in [
        (0.01, 0.03, 0.5, 1.0, 400, 1_000),
        (0.01, 0.03, 0.1, 1.0, 150, 450),
        (0.01, 0.03, 0.05, 1.0, 150, 450),
        (0.01, 0.03, 0.01, 1.0, 150, 450),
        (0.01, 0.03, 0.05, 1.25, 250, 700),
        (0.01, 0.02, 0.05, 1.0, 500, 1_600),
        (0.001, 1.0, 0.05, 1.25, 2, 10),
    ] {
        let requests = |seed| traffic(seed, share, candidate_fails, stable_fails).requests_until_worse(margin, 7_200);
        let mut needed: Vec<u64> = (0..rounds()).map(|seed| requests(seed).expect("it is found")).collect();
        needed.sort_unstable();
        let [median, eighty, ninety_five] = [50, 80, 95].map(|percent| needed[needed.len() * percent / 100]);
        println!(
            "{stable_fails} to {candidate_fails}, share {share}, margin {margin}: {median} / {eighty} / {ninety_five}"
        );
        assert!((least..=most).contains(&median), "{stable_fails} to {candidate_fails}, share {share}: {median}");
    }
}

/// The split of the traffic and the common rate of failures change in the middle: neither is evidence.
#[test]
fn changes_that_both_versions_share_are_no_evidence() {
    let found = (0..40).filter(|seed| {
        let mut test = SequentialTest::new(1.0);
        let mut traffic = traffic(*seed, 0.01, 0.001, 0.001);
        (0..400).any(|second| {
            if second == 200 {
                (traffic.share, traffic.candidate_fails, traffic.stable_fails) = (0.5, 0.2, 0.2);
            }
            let (candidate, stable) = traffic.second();
            test.observe(candidate, stable);
            test.log_evidence_worse() >= -ALPHA.ln()
        })
    });
    assert!(found.count() <= 2);
}

#[test]
fn interval_contains_the_true_odds_ratio_at_all_times() {
    let odds_ratio = 0.03 / 0.97 / (0.01 / 0.99);
    let missed = (0..40).filter(|seed| {
        let mut test = SequentialTest::new(1.25);
        let mut traffic = traffic(*seed, 0.3, 0.03, 0.01);
        (0..200).any(|_| {
            let (candidate, stable) = traffic.second();
            test.observe(candidate, stable);
            let (low, high) = test.odds_ratio_interval(ALPHA);
            !(low <= odds_ratio && odds_ratio <= high)
        })
    });
    assert!(missed.count() <= 2);
}
