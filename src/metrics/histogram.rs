use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A Prometheus histogram with fixed buckets: its memory never grows, and recording takes two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// One bucket more than bounds: the last counts the values above all of them.
    buckets: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// The upper bounds of a histogram's buckets.
#[derive(Debug)]
pub(super) struct Bounds {
    /// The bounds, in ascending order.
    values: &'static [u64],
    /// Divisor that converts recorded values to the exported unit.
    unit: f64,
    /// The bounds as exported, and infinity.
    labels: OnceLock<Vec<String>>,
}

const NANOSECONDS: f64 = 1e9;

/// Bounds of durations in nanoseconds: 50 us to 10 s.
pub(super) static DURATIONS: Bounds = Bounds::new(
    &[
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
    ],
    NANOSECONDS,
);

/// Bounds of durations that are counted and summed, without buckets.
pub(super) static NO_DURATIONS: Bounds = Bounds::new(&[], NANOSECONDS);

/// Bounds of the rows in a batch.
pub(super) static ROWS: Bounds = Bounds::new(&[1, 2, 4, 8, 16, 32, 64, 128, 256, 512], 1.0);

impl Bounds {
    const fn new(values: &'static [u64], unit: f64) -> Self {
        Bounds { values, unit, labels: OnceLock::new() }
    }

    fn labels(&self) -> &[String] {
        self.labels.get_or_init(|| {
            let bounds = self.values.iter().map(|value| (*value as f64 / self.unit).to_string());
            bounds.chain(["+Inf".into()]).collect()
        })
    }
}

impl Histogram {
    /// An empty histogram.
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        let buckets = (0..=bounds.values.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts one value.
    pub(super) fn record(&self, value: u64) {
        let bucket = self.bounds.values.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// The distribution now.
    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::new(self.bounds);
        self.add_to(&mut snapshot);
        snapshot
    }

    /// Adds the values to a distribution with the same bounds.
    pub(super) fn add_to(&self, snapshot: &mut HistogramSnapshot) {
        for (to, from) in snapshot.buckets.iter_mut().zip(&self.buckets) {
            *to += from.load(Relaxed);
        }
        snapshot.sum += self.sum.load(Relaxed);
    }
}

/// A distribution of values at one moment.
#[derive(Debug, Clone)]
pub struct HistogramSnapshot {
    bounds: &'static Bounds,
    /// Values in each bucket. A value on a bound belongs to the bucket below it. The last bucket has the values above all bounds.
    pub buckets: Vec<u64>,
    /// Sum of all values.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// A distribution of no values.
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        HistogramSnapshot { bounds, buckets: vec![0; bounds.values.len() + 1], sum: 0 }
    }

    /// Upper bounds of the buckets, in ascending order, in the unit of the values: one less than there are buckets.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds.values
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of all values in the exported unit.
    pub(super) fn sum_in_units(&self) -> f64 {
        self.sum as f64 / self.bounds.unit
    }

    /// Each upper bound, as exported, with the number of values at or below it; the last has no bound.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (&str, u64)> {
        let counts = self.buckets.iter().scan(0, |total, bucket| {
            *total += bucket;
            Some(*total)
        });
        self.bounds.labels().iter().map(String::as_str).zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_on_a_bound_falls_into_its_bucket() {
        let histogram = Histogram::new(&ROWS);
        for value in [1, 2, 3, 64, 1000] {
            histogram.record(value);
        }
        let histogram = histogram.snapshot();
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative[..3], [("1", 1), ("2", 2), ("4", 3)]);
        assert_eq!((cumulative[6], cumulative[10]), (("64", 4), ("+Inf", 5)));
        assert_eq!((histogram.count(), histogram.sum), (5, 1070));
    }

    #[test]
    fn durations_are_exported_in_seconds() {
        let histogram = Histogram::new(&DURATIONS);
        histogram.record(2_000_000_000);
        let histogram = histogram.snapshot();
        let labels: Vec<_> = histogram.cumulative().map(|(bound, _)| bound).collect();
        assert_eq!((labels[0], labels[16], labels[17]), ("0.00005", "10", "+Inf"));
        assert_eq!(histogram.sum_in_units(), 2.0);
    }
}
