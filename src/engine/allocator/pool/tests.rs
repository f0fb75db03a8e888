use proptest::prelude::*;

use super::*;

const RUN_LIMIT: usize = usize::MAX;

fn pool() -> Arc<Pool> {
    Pool::unswept(Account::new(RUN_LIMIT, false).into(), Purpose::Runs)
}

/// Memory that a test has taken, filled with a byte of its own.
struct Taken {
    memory: NonNull<u8>,
    length: usize,
    byte: u8,
}

#[allow(unsafe_code, reason = "uses memory of the pool")]
impl Taken {
    fn new(pool: &Arc<Pool>, length: usize, byte: u8) -> Self {
        let (memory, bytes) = pool.allocate(length, false).unwrap();
        assert!(bytes >= length && memory.as_ptr().addr().is_multiple_of(64));
        // SAFETY: the memory has so many bytes.
        unsafe { memory.write_bytes(byte, length) };
        Taken { memory, length, byte }
    }

    fn free(self) {
        // SAFETY: the memory has so many bytes, all written, and goes back once.
        unsafe {
            let bytes = std::slice::from_raw_parts(self.memory.as_ptr(), self.length);
            assert!(bytes.iter().all(|byte| *byte == self.byte), "somebody else wrote to the block");
            free(self.memory);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(usize),
    Free(usize),
    Sweep,
    ReleaseKept,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![0_usize..2000, 0_usize..100_000, 200_000_usize..600_000];
    let step = prop_oneof![
        5 => length.prop_map(Step::Allocate),
        4 => any::<usize>().prop_map(Step::Free),
        1 => Just(Step::Sweep),
        1 => Just(Step::ReleaseKept),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is taken and freed in whatever order: blocks don't overlap, the account holds what the pool has, and all of it is
    /// gone in the end.
    #[test]
    fn pools_count_what_they_hold(steps in steps()) {
        let pool = pool();
        let held = pool.account().held().clone();
        let mut taken: Vec<Taken> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate(length) => taken.push(Taken::new(&pool, length, number as u8)),
                Step::Free(index) if !taken.is_empty() => taken.swap_remove(index % taken.len()).free(),
                Step::Free(_) => {}
                Step::Sweep => pool.sweep(),
                Step::ReleaseKept => pool.release_kept(),
            }
            let (in_use, kept) = pool.state();
            prop_assert_eq!(held.runs(), in_use + kept);
            prop_assert!(in_use >= taken.iter().map(|taken| taken.length).sum());
        }
        taken.into_iter().for_each(Taken::free);
        prop_assert_eq!(pool.state().0, 0);
        drop(pool);
        prop_assert_eq!((held.runs(), held.counted_weights()), (0, 0));
    }
}

#[test]
fn pool_reuses_what_was_freed() {
    let pool = pool();
    let first = Taken::new(&pool, 1 << 20, 1);
    let address = first.memory;
    first.free();
    let second = Taken::new(&pool, (1 << 20) - 70_000, 2);
    assert_eq!(second.memory, address, "a block of nearly the size");
    second.free();
    let small = Taken::new(&pool, 1000, 3);
    assert_ne!(small.memory, address, "not a block of many times the size");
    small.free();
}

#[test]
fn pool_releases_what_no_run_has_used_for_two_sweeps() {
    let pool = pool();
    Taken::new(&pool, 64 << 20, 1).free();
    Taken::new(&pool, 1000, 1).free();
    pool.sweep();
    assert!(pool.state().1 > 64 << 20, "what a run has just used is kept");
    let held = pool.account().held().clone();
    pool.sweep();
    assert!(held.runs() <= ALWAYS_KEPT, "{} bytes are kept", held.runs());
}

#[test]
fn pool_keeps_what_runs_use_again_and_again() {
    let pool = pool();
    let address = |pool| {
        let taken = Taken::new(pool, 4 << 20, 1);
        let address = taken.memory;
        taken.free();
        address
    };
    let first = address(&pool);
    for _ in 0..5 {
        pool.sweep();
        assert_eq!(address(&pool), first);
    }
}

/// Requests of ever new sizes don't fill a shelf each, and those that come again find what they had.
#[test]
fn pool_holds_few_blocks_for_tensors_of_about_a_size() {
    let pool = pool();
    let peak = 41 << 18;
    let round = || (1..=40).for_each(|step| Taken::new(&pool, step << 18, 1).free());
    round();
    let (_, kept) = pool.state();
    assert!(kept <= 2 * peak + ALWAYS_KEPT, "{kept} bytes are kept");
    round();
    let (_, still_kept) = pool.state();
    assert_eq!(still_kept, kept, "a second round takes nothing new");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is in use and kept is never more than four times the most that was in use, but for a little.
    #[test]
    fn pools_stay_within_four_times_their_peak(lengths in prop::collection::vec((1_usize..4 << 20, 1_usize..8), 1..60)) {
        let pool = pool();
        let (mut taken, mut peak) = (Vec::new(), 0);
        for (number, (length, at_once)) in lengths.into_iter().enumerate() {
            while taken.len() >= at_once {
                Taken::free(taken.remove(0));
            }
            taken.push(Taken::new(&pool, length, number as u8));
            let (in_use, kept) = pool.state();
            peak = peak.max(in_use);
            prop_assert!(in_use + kept <= 4 * peak + ALWAYS_KEPT);
        }
        taken.into_iter().for_each(Taken::free);
    }
}

#[test]
#[allow(unsafe_code, reason = "reads memory of the pool")]
fn zeroed_memory_holds_nothing_of_earlier_runs() {
    let pool = pool();
    for length in [8, 5000, 300_000] {
        Taken::new(&pool, length, 7).free();
        let (memory, _) = pool.allocate(length, true).unwrap();
        // SAFETY: the pool has zeroed so many bytes, and they go back once.
        unsafe {
            assert!(std::slice::from_raw_parts(memory.as_ptr(), length).iter().all(|byte| *byte == 0));
            free(memory);
        }
    }
}

#[test]
fn blocks_outlive_the_last_handle_of_their_pool() {
    let pool = pool();
    let held = pool.account().held().clone();
    let taken = Taken::new(&pool, 10_000, 9);
    drop(pool);
    assert!(held.runs() >= 10_000);
    taken.free();
    assert_eq!(held.runs(), 0);
}

#[test]
fn memory_that_no_machine_has_is_refused() {
    let refused = pool().allocate(usize::MAX / 2, false).unwrap_err();
    assert_eq!(refused, Refusal::System { asked: usize::MAX / 2 });
    let refused = pool().allocate(1 << 46, false);
    assert!(refused.is_err() || cfg!(not(target_os = "linux")));
}
