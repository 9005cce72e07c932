//! How often which sizes occur, in classes whose bounds never change.

use super::Counter;

/// Counts observations by class. Written by the core that owns it, read by anyone.
#[derive(Debug)]
pub struct Histogram {
    /// The largest value of each class but the last, which has no bound.
    bounds: &'static [u64],
    counts: Box<[Counter]>,
    sum: Counter,
}

/// What was counted, of one core or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The largest value of each class but the last.
    pub bounds: &'static [u64],
    /// Observations in each class.
    pub counts: Vec<u64>,
    /// Of all observed values.
    pub sum: u64,
}

impl Histogram {
    /// Classes up to and with each of `bounds`, which ascend, and one for all beyond.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            sum: Counter::default(),
        }
    }

    /// Counts `times` observations of `value`. Only the owner calls it.
    pub fn observe(&self, value: u64, times: u64) {
        let class = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(class) {
            count.add_owned(times);
        }
        self.sum.add_owned(value.wrapping_mul(times));
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        Tally {
            bounds: self.bounds,
            counts: self.counts.iter().map(Counter::value).collect(),
            sum: self.sum.value(),
        }
    }
}

impl Tally {
    /// Adds what another with the same classes has counted.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_class_that_reaches_it() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for (value, times) in [(0, 1), (1, 1), (2, 1), (10, 3), (100, 1), (101, 2)] {
            histogram.observe(value, times);
        }
        let tally = histogram.tally();
        assert_eq!(tally.counts, [2, 4, 1, 2]);
        assert_eq!(tally.sum, 1 + 2 + 30 + 100 + 202);
    }

    #[test]
    fn the_tallies_of_two_cores_add_up() {
        let (one, two) = (Histogram::new(&[5]), Histogram::new(&[5]));
        one.observe(5, 2);
        two.observe(6, 1);
        let both = one.tally().plus(&two.tally());
        assert_eq!((both.counts, both.sum), (vec![2, 1], 16));
    }
}
