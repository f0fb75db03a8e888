use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A Prometheus histogram with fixed buckets: memory never grows, recording is two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than bounds: the last counts what lies above them all.
    buckets: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// Upper bounds of durations in nanoseconds: 50 us to 10 s.
pub(super) const DURATION_BOUNDS: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of rows in a batch.
pub(super) const ROWS_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

impl Histogram {
    /// An empty histogram with these upper bounds, which ascend.
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts one value.
    pub(super) fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Adds what another with the same bounds holds.
    pub(super) fn add(&mut self, other: &Histogram) {
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to.get_mut() += from.load(Relaxed);
        }
        *self.sum.get_mut() += other.sum();
    }

    /// Sum of all values.
    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// Each upper bound with the number of values at or below it; then the number of all (no bound).
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let counts = self.buckets.iter().scan(0, |total, bucket| {
            *total += bucket.load(Relaxed);
            Some(*total)
        });
        bounds.zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_it() {
        let histogram = Histogram::new(ROWS_BOUNDS);
        for value in [1, 2, 3, 64, 1000] {
            histogram.record(value);
        }
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative[0], (Some(1), 1));
        assert_eq!(cumulative[1], (Some(2), 2));
        assert_eq!(cumulative[2], (Some(4), 3));
        assert_eq!(cumulative[6], (Some(64), 4));
        assert_eq!(cumulative[10], (None, 5));
        assert_eq!(histogram.sum(), 1070);
    }
}
