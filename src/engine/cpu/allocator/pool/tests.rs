use proptest::prelude::*;

use super::{super::account::MemoryTotal, *};
use crate::config::ByteSize;

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
            // Compared in chunks, which is fast in builds without optimisation too.
            let expected = [self.byte; 4096];
            let is_intact = bytes.chunks(4096).all(|chunk| *chunk == expected[..chunk.len()]);
            assert!(is_intact, "somebody else wrote to the block");
            free(self.memory);
        }
    }
}

#[derive(Debug, Clone)]
enum PoolStep {
    Allocate(usize),
    Free(usize),
    Sweep,
    ReleaseKept,
}

fn steps() -> impl Strategy<Value = Vec<PoolStep>> {
    let length = prop_oneof![0_usize..2000, 0_usize..100_000, 200_000_usize..600_000];
    let step = prop_oneof![
        5 => length.prop_map(PoolStep::Allocate),
        4 => any::<usize>().prop_map(PoolStep::Free),
        1 => Just(PoolStep::Sweep),
        1 => Just(PoolStep::ReleaseKept),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is taken and freed in whatever order: blocks don't overlap, the account holds what the pool has, and all of it is
    /// gone in the end.
    #[test]
    fn pools_count_the_memory_they_hold(steps in steps()) {
        let pool = pool();
        let held = pool.account().held().clone();
        let mut taken: Vec<Taken> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                PoolStep::Allocate(length) => taken.push(Taken::new(&pool, length, number as u8)),
                PoolStep::Free(index) if !taken.is_empty() => taken.swap_remove(index % taken.len()).free(),
                PoolStep::Free(_) => {}
                PoolStep::Sweep => pool.sweep(),
                PoolStep::ReleaseKept => pool.release_kept(),
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
fn pool_reuses_freed_blocks() {
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
fn pool_releases_blocks_unused_for_two_sweeps() {
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
fn pool_keeps_blocks_that_runs_reuse() {
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
    let round = || (1..=40).for_each(|step| release([pool.allocate(step << 18, false).unwrap()]));
    // Of each octave of sizes one block is left in the end, as large as the octave.
    (0..8).for_each(|_| round());
    let (_, kept) = pool.state();
    assert!(kept <= 3 * (40 << 18), "{kept} bytes are kept");
    round();
    let (_, still_kept) = pool.state();
    assert_eq!(still_kept, kept, "one more round takes nothing new");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Memory in use and kept is never more than four times the most that was in use, but for a little.
    #[test]
    fn pools_stay_within_four_times_their_peak(lengths in prop::collection::vec((1_usize..4 << 20, 1_usize..8), 1..60)) {
        let pool = pool();
        let (mut taken, mut peak) = (Vec::new(), 0);
        for (length, at_once) in lengths {
            while taken.len() >= at_once {
                release([taken.remove(0)]);
            }
            taken.push(pool.allocate(length, false).unwrap());
            let (in_use, kept) = pool.state();
            peak = peak.max(in_use);
            prop_assert!(in_use + kept <= 4 * peak + ALWAYS_KEPT);
        }
        release(taken);
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
    assert_eq!(refused, AllocationRefusal::System { asked: usize::MAX / 2 });
    let refused = pool().allocate(1 << 46, false);
    assert!(refused.is_err() || cfg!(not(target_os = "linux")));
}

const MIB: usize = 1 << 20;

/// However many models bombs are sent to: together they hold no more than the process may.
#[test]
fn pools_hold_no_more_together_than_the_process_may() {
    let pools = accounts_sharing::<8>(10 * MIB).map(|account| Pool::unswept(account, Purpose::Runs));
    let taken: Vec<_> = pools.iter().filter_map(|pool| pool.allocate(2 * MIB, false).ok()).collect();
    assert_eq!(taken.len(), 4, "of {} and a header each", ByteSize(2 * MIB));
    let refused = pools[7].allocate(2 * MIB, false).unwrap_err();
    assert!(
        matches!(refused, AllocationRefusal::Process { asked, limit } if asked > 2 * MIB && limit == 10 * MIB),
        "{refused:?}"
    );
    release(taken);
    assert!(pools[7].allocate(2 * MIB, false).map(|(memory, _)| release([(memory, 0)])).is_err(), "others keep it");
    pools.iter().for_each(|pool| pool.release_kept());
    release([pools[7].allocate(2 * MIB, false).unwrap()]);
}

/// Memory that others only keep makes room for a run.
#[test]
fn kept_memory_makes_room() {
    let [first, second] = accounts_sharing::<2>(3 * MIB).map(|account| Pool::new(account, Purpose::Runs));
    release([first.allocate(2 * MIB, false).unwrap()]);
    release([second.allocate(2 * MIB, false).unwrap()]);
    assert_eq!(first.state(), (0, 0));
}

/// Weights may take nearly all that the process has: small models serve all the same.
#[test]
fn runs_get_a_reserve_when_weights_fill_the_memory() {
    let [weights, runs] = accounts_sharing::<2>(16 * MIB);
    let (weights, runs) = (Pool::unswept(weights, Purpose::Weights), Pool::unswept(runs, Purpose::Runs));
    let held = weights.allocate(15 * MIB, false).unwrap();
    assert!(weights.allocate(3 * MIB, false).is_err());
    let small = runs.allocate(MIB / 2, false).unwrap();
    assert!(runs.allocate(2 * MIB, false).is_err());
    release([held, small]);
}

#[allow(unsafe_code, reason = "gives memory back to its pool")]
fn release(taken: impl IntoIterator<Item = (NonNull<u8>, usize)>) {
    // SAFETY: the memory came from a pool, and goes back once.
    taken.into_iter().for_each(|(memory, _)| _ = unsafe { free(memory) });
}

impl Pool {
    /// Bytes in use and kept.
    fn state(&self) -> (usize, usize) {
        let shelves = self.lock();
        (shelves.in_use, shelves.kept)
    }
}

/// Accounts that together may hold so much.
fn accounts_sharing<const COUNT: usize>(limit: usize) -> [Arc<Account>; COUNT] {
    let total = Box::leak(MemoryTotal::new(limit).into());
    std::array::from_fn(|_| Account::of_total(total, usize::MAX, false).into())
}
