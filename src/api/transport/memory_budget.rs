//! Bytes that the process holds for clients at once: requests from their first byte until the last tensor that was made of
//! them is gone, and answers from before they are encoded until they are written.

use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::per_thread::PerThread;

/// The bytes that may be held, and those that are.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    /// Requests that found no room.
    refused: AtomicU64,
    /// Bytes that are held, or kept by threads for what comes next.
    taken: AtomicUsize,
    /// Bytes that threads keep, so that most requests don't write to what all threads write to.
    kept: PerThread<AtomicUsize>,
    /// Half of the bytes that a thread keeps at most.
    keep: usize,
}

/// Bytes that a thread takes beyond its need, of a budget that is large enough.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// The part of a budget that a thread may so take.
const KEPT_PART: usize = 1024;

impl Budget {
    /// A budget of so many bytes, none of them used.
    pub fn new(limit: usize) -> Arc<Self> {
        let (taken, kept) = (AtomicUsize::new(0), PerThread::new(AtomicUsize::default));
        Arc::new(Budget { limit, refused: AtomicU64::new(0), taken, kept, keep: MAX_KEPT_BYTES.min(limit / KEPT_PART) })
    }

    /// The bytes that may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes that are held.
    pub fn used(&self) -> usize {
        let kept = self.kept.all().map(|kept| kept.load(Relaxed)).sum();
        self.taken.load(Relaxed).saturating_sub(kept)
    }

    /// The requests that were refused because there was no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// A request is refused.
    pub(in crate::api) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Takes so many bytes of what the present thread keeps, if that is enough.
    fn take_kept(&self, bytes: usize) -> bool {
        self.kept.here().fetch_update(Relaxed, Relaxed, |kept| kept.checked_sub(bytes)).is_ok()
    }

    /// Takes so many bytes, if they fit while so many are `left`.
    fn take(&self, bytes: usize, left: usize) -> bool {
        let before = self.taken.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit - left;
        if !fits {
            self.taken.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        let kept = self.kept.here();
        if kept.load(Relaxed).saturating_add(bytes) <= 2 * self.keep {
            kept.fetch_add(bytes, Relaxed);
        } else {
            self.taken.fetch_sub(bytes, Relaxed);
        }
    }

    /// Takes back what threads keep.
    fn collect(&self) {
        for kept in self.kept.all() {
            self.taken.fetch_sub(kept.swap(0, Relaxed), Relaxed);
        }
    }
}

/// A share of at most so many bytes is small.
const MAX_SMALL_BYTES: usize = 256 << 10;

/// The part of the budget of one request, or of one answer; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Share { budget: budget.clone(), bytes: 0 }
    }

    /// Takes more, if there is as much. Nobody waits for others to give back: two that each hold half of what they need
    /// would wait for ever. The large leave some to the small, who are most of those that are served: a few bodies that grow
    /// until they are refused would have everybody refused with them.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let Budget { limit, keep, .. } = *self.budget;
        if bytes > limit {
            // Nor may others see so much taken, if only for a moment.
            return false;
        }
        let left = if self.bytes.saturating_add(bytes) > MAX_SMALL_BYTES { limit / 8 } else { 0 };
        let fits = if left == 0 && self.budget.take_kept(bytes) {
            true
        } else if left == 0 && self.budget.take(bytes + keep, 0) {
            self.budget.kept.here().fetch_add(keep, Relaxed);
            true
        } else {
            self.budget.take(bytes, left) || {
                self.budget.collect();
                self.budget.take(bytes, left)
            }
        };
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Gives back the memory beyond so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if let Some(extra @ 1..) = self.bytes.checked_sub(bytes) {
            self.budget.give_back(extra);
            self.bytes = bytes;
        }
    }

    /// Bytes that it holds.
    pub(in crate::api) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more, whether or not there is as much: memory that is taken already has to be counted.
    pub(crate) fn add(&mut self, bytes: usize) {
        if !self.budget.take_kept(bytes) {
            self.budget.taken.fetch_add(bytes, Relaxed);
        }
        self.bytes += bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

/// Bytes that keep `guard` until their last slice is gone, wherever that may be: the tensors of a cancelled request lie in a
/// queue for a while after whoever decoded them has gone.
pub(crate) fn guarded<G: Send + 'static>(data: impl AsRef<[u8]> + Send + 'static, guard: G) -> Bytes {
    struct Guarded<D, G> {
        data: D,
        _guard: G,
    }
    impl<D: AsRef<[u8]>, G> AsRef<[u8]> for Guarded<D, G> {
        fn as_ref(&self) -> &[u8] {
            self.data.as_ref()
        }
    }
    Bytes::from_owner(Guarded { data, _guard: guard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_shares_return_their_bytes() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (Share::new(&budget), Share::new(&budget));
        assert!(one.grow(60) && other.grow(40));
        assert!(!one.grow(1) && !other.grow(usize::MAX), "it is full");
        assert_eq!(budget.used(), 100, "what was refused took nothing");
        other.add(50);
        assert_eq!(budget.used(), 150, "what is there already is counted in any case");
        drop(other);
        assert!(one.grow(40));
        one.shrink_to(30);
        one.shrink_to(31);
        assert_eq!((one.bytes(), budget.used()), (30, 30));
        drop(one);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn budget_reserves_room_for_small_requests() {
        let budget = Budget::new(80 * MAX_SMALL_BYTES);
        let (mut large, mut other, mut small) = (Share::new(&budget), Share::new(&budget), Share::new(&budget));
        assert!(large.grow(69 * MAX_SMALL_BYTES) && large.grow(MAX_SMALL_BYTES) && !large.grow(1));
        assert!(
            !other.grow(2 * MAX_SMALL_BYTES) && other.grow(MAX_SMALL_BYTES) && !other.grow(1),
            "it is no longer small"
        );
        assert!(small.grow(MAX_SMALL_BYTES));
        assert_eq!(budget.used(), 72 * MAX_SMALL_BYTES);
    }

    #[test]
    fn bytes_stay_counted_until_their_last_slice_is_gone() {
        let budget = Budget::new(100);
        let mut share = Share::new(&budget);
        assert!(share.grow(10));
        let bytes = guarded(vec![7; 10], share);
        let slice = bytes.slice(4..6);
        drop(bytes);
        assert_eq!((budget.used(), &slice[..]), (10, &[7, 7][..]));
        drop(slice);
        assert_eq!(budget.used(), 0);
    }
}
