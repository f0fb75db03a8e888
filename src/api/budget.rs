//! Bytes that the process holds for clients at once: requests from their first byte until the last tensor that was made of
//! them is gone, and answers until they are written.

use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many bytes may be held, and how many are.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes, none of them used.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit, used: AtomicUsize::new(0) })
    }

    /// The bytes that may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes that are held.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

/// What holds no more is small.
const SMALL: usize = 256 << 10;

/// What one request, or one answer, holds of the budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Share { budget: budget.clone(), bytes: 0 }
    }

    /// Takes more, if there is as much. Nobody waits for others to give back: two that each hold half of what they need
    /// would wait for ever. The large leave some to the small, who are most of those that are served: a few bodies that grow
    /// until they are refused would have everybody refused with them.
    #[must_use]
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let limit = self.budget.limit;
        if bytes > limit {
            // Nor may others see so much taken, if only for a moment.
            return false;
        }
        let left = if self.bytes.saturating_add(bytes) > SMALL { limit / 8 } else { 0 };
        let before = self.budget.used.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= limit - left;
        if fits {
            self.bytes += bytes;
        } else {
            self.budget.used.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    /// Takes more, whether or not there is as much: what is there already has to be counted.
    pub(super) fn add(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// Bytes that keep `guard` until their last slice is gone, wherever that may be: the tensors of a cancelled request lie in a
/// queue for a while after whoever decoded them has gone.
pub(super) fn guarded<G: Send + 'static>(data: impl AsRef<[u8]> + Send + 'static, guard: G) -> Bytes {
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
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (Share::new(&budget), Share::new(&budget));
        assert!(one.grow(60) && other.grow(40));
        assert!(!one.grow(1) && !other.grow(usize::MAX), "it is full");
        assert_eq!(budget.used(), 100, "what was refused took nothing");
        other.add(50);
        assert_eq!(budget.used(), 150, "what is there already is counted in any case");
        drop(other);
        assert!(one.grow(40));
        drop(one);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_large_leave_some_to_the_small() {
        let budget = Budget::new(80 * SMALL);
        let (mut large, mut other, mut small) = (Share::new(&budget), Share::new(&budget), Share::new(&budget));
        assert!(large.grow(69 * SMALL) && large.grow(SMALL) && !large.grow(1));
        assert!(!other.grow(2 * SMALL) && other.grow(SMALL) && !other.grow(1), "it is no longer small");
        assert!(small.grow(SMALL));
        assert_eq!(budget.used(), 72 * SMALL);
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
