use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn split(weights: &[(u64, f64)]) -> Split {
    split_over(weights, |_| true).unwrap()
}

fn split_over(weights: &[(u64, f64)], ready: impl Fn(u64) -> bool) -> Option<Split> {
    Split::new(&Weights::new(weights.iter().copied().collect()).unwrap(), ready)
}

/// Draws of each version in a sweep over so many tickets, at even distances.
fn sweep(split: &Split, tickets: u64) -> BTreeMap<u64, u64> {
    let mut drawn = BTreeMap::new();
    for number in 0..tickets {
        let ticket = u128::from(number) * TICKETS / u128::from(tickets);
        *drawn.entry(split.random(ticket as u64)).or_default() += 1;
    }
    drawn
}

#[test]
fn ticket_sweep_divides_exactly_by_weight() {
    for (weights, tickets, expected) in [
        (&[(2, 99.0), (3, 1.0)][..], 100_000, &[(2, 99_000), (3, 1_000)][..]),
        (&[(2, 95.0), (3, 5.0)], 100, &[(2, 95), (3, 5)]),
        (&[(1, 1.0), (2, 1.0), (3, 1.0)], 3, &[(1, 1), (2, 1), (3, 1)]),
        (&[(1, 0.0), (7, 0.25), (9, 0.5)], 3, &[(7, 1), (9, 2)]),
        (&[(1, 5e-324), (2, 5e-324)], 10, &[(1, 5), (2, 5)]),
        (&[(1, 1e308), (2, 7e307)], 17, &[(1, 10), (2, 7)]),
        (&[(8, 3.0)], 5, &[(8, 5)]),
    ] {
        assert_eq!(sweep(&split(weights), tickets), expected.iter().copied().collect(), "{weights:?}");
    }
}

#[test]
fn extreme_tickets_pick_the_first_and_last_version() {
    let split = split(&[(1, 1.0), (2, 1.0)]);
    assert_eq!([0, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX].map(|ticket| split.random(ticket)), [1, 1, 2, 2]);
}

#[test]
fn weights_count_over_ready_versions() {
    let weights = [(1, 50.0), (2, 30.0), (3, 10.0), (4, 0.0)];
    let split = split_over(&weights, |version| version != 1).unwrap();
    assert_eq!([1, 2, 3, 4, 5].map(|version| split.share(version)), [0.0, 0.75, 0.25, 0.0, 0.0]);
    assert_eq!(split.only(), None);
    assert_eq!(split.greatest(), 2);
    assert_eq!(split_over(&weights, |version| version == 3).unwrap().only(), Some(3));
    assert_eq!(split_over(&weights, |version| version == 4), None);
    assert_eq!(split_over(&[], |_| true), None);
}

#[test]
fn split_divides_over_thousands_of_versions() {
    let weights: Vec<_> = (1..=5_000).map(|version| (version, 1.5)).collect();
    assert!(sweep(&split(&weights), 10_000).values().eq([2; 5_000].iter()));
}

/// Computed by Python with `xxhash` and `math.log`, as docs/traffic.md has it: the same in every process, for ever.
#[test]
fn keys_map_to_versions_as_documented() {
    let split = split(&[(1, 1.0), (2, 2.5), (30, 0.5)]);
    for (key, version) in [
        (&b"user-1"[..], 2),
        (b"user-2", 1),
        (b"user-3", 2),
        (b"user-4", 30),
        (b"user-5", 2),
        (b"user-6", 30),
        (b"user-7", 1),
        ("k\u{f6}ln".as_bytes(), 2),
        (b"\xff\x00\xfe", 1),
        (&[b'x'; 100], 30),
    ] {
        assert_eq!(split.sticky("purchase", key), version, "{key:?}");
    }
    let split = self::split(&[(2, 99.0), (3, 1.0)]);
    let canary = (0..1000).filter(|number| split.sticky("purchase", format!("user-{number}").as_bytes()) == 3);
    assert!(canary.eq([38, 134, 176, 199, 339, 458, 710, 749, 830, 896]));
}

/// Versions with weights, some of them 0.
fn weights() -> impl Strategy<Value = Vec<(u64, f64)>> {
    let weight = prop_oneof![1 => Just(0.0), 4 => 0.001..1000.0, 1 => (1..=100_u32).prop_map(f64::from)];
    let weights = prop::collection::btree_map(1..50_u64, weight, 1..6);
    let some = |weights: &BTreeMap<u64, f64>| weights.values().any(|weight| *weight > 0.0);
    weights.prop_filter("one has weight", some).prop_map(|weights| weights.into_iter().collect())
}

fn keys(seed: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..200_u64).map(move |number| format!("user-{seed}-{number}").into_bytes())
}

proptest! {
    #[test]
    fn weight_change_moves_keys_one_way(
        weights in weights(), index: prop::sample::Index, factor in 1.0..20.0, seed: u64
    ) {
        let index = index.index(weights.len());
        let mut raised = weights.clone();
        raised[index].1 = (raised[index].1 + 0.001) * factor;
        let (version, low, high) = (weights[index].0, split(&weights), split(&raised));
        for key in keys(seed) {
            let (before, after) = (low.sticky("m", &key), high.sticky("m", &key));
            prop_assert!(before == after || after == version, "{before} {after} {version}");
        }
    }

    #[test]
    fn removed_version_moves_only_its_own_keys(weights in weights(), index: prop::sample::Index, seed: u64) {
        let gone = weights[index.index(weights.len())].0;
        let all = split(&weights);
        let Some(rest) = split_over(&weights, |version| version != gone) else { return Ok(()) };
        for key in keys(seed) {
            let (before, after) = (all.sticky("m", &key), rest.sticky("m", &key));
            prop_assert!(before == after || before == gone);
            prop_assert_ne!(after, gone);
        }
    }

    #[test]
    fn shares_and_draws_follow_the_weights(weights in weights(), seed: u64) {
        const TICKETS: u64 = 2_000;
        let split = split(&weights);
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let random = sweep(&split, TICKETS);
        let mut sticky = BTreeMap::<u64, u64>::new();
        for number in 0..TICKETS {
            *sticky.entry(split.sticky("m", format!("{seed} {number}").as_bytes())).or_default() += 1;
        }
        for (version, weight) in weights {
            let share = weight / total;
            prop_assert!((split.share(version) - share).abs() < 1e-12);
            let random = random.get(&version).copied().unwrap_or(0) as f64;
            prop_assert!((random - share * TICKETS as f64).abs() < 2.0, "{version}: {random} of {share}");
            let sticky = sticky.get(&version).copied().unwrap_or(0) as f64;
            // Six standard deviations, and what makes rare events rarer than that.
            let bound = 6.0 * (TICKETS as f64 * share * (1.0 - share)).sqrt() + 6.0;
            prop_assert!((sticky - share * TICKETS as f64).abs() < bound, "{version}: {sticky} of {share}");
            prop_assert!(weight > 0.0 || sticky == 0.0 && random == 0.0);
        }
    }
}
