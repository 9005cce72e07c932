//! How often: a rate with a burst, as GCRA (ITU-T I.371), which is a leaky bucket in one number.
//!
//! The number is the time at which the bucket would be empty. What is let in pushes it into the
//! future; nothing is let in that would push it further than the burst from now.

use std::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;

/// A limit on a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    per_second: u64,
    burst_ns: u64,
}

impl Limit {
    /// `per_second` in the long run, `burst` at once. `None` if either is 0: there is no limit.
    pub fn new(per_second: u64, burst: u64) -> Option<Self> {
        if per_second == 0 || burst == 0 {
            return None;
        }
        Some(Self {
            per_second,
            burst_ns: burst.saturating_mul(SECOND_NS) / per_second,
        })
    }

    /// Where the bucket that is empty at `empty_at` is after `cost` at `now`, or how long that has to
    /// wait. All in nanoseconds of one clock. What costs more than the burst costs the burst.
    pub fn next(self, empty_at: u64, now: u64, cost: u64) -> Result<u64, u64> {
        let cost = (cost.saturating_mul(SECOND_NS) / self.per_second).min(self.burst_ns);
        let next = empty_at.max(now).saturating_add(cost);
        match next.saturating_sub(now.saturating_add(self.burst_ns)) {
            0 => Ok(next),
            wait => Err(wait),
        }
    }
}

/// A limit on commands and one on their bytes, kept together, and how full both are.
#[derive(Debug, Default)]
pub struct Buckets {
    messages: Option<Limit>,
    bytes: Option<Limit>,
    /// When either is empty, in nanoseconds.
    empty_at: [u64; 2],
}

impl Buckets {
    /// Both empty.
    pub fn new(messages: Option<Limit>, bytes: Option<Limit>) -> Self {
        Self {
            messages,
            bytes,
            empty_at: [0; 2],
        }
    }

    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }

    /// From now on the limits are these; what is in the buckets stays.
    pub fn limit(&mut self, messages: Option<Limit>, bytes: Option<Limit>) {
        (self.messages, self.bytes) = (messages, bytes);
    }

    /// Whether [`Self::count`] would let it in.
    pub fn would_count(&self, messages: u64, now: Duration) -> Result<(), Duration> {
        self.next(messages, 0, now).map(|_| ())
    }

    /// Lets commands of so many bytes together in at `now` on any clock that goes on, or says how long they
    /// have to wait; then neither bucket has taken anything.
    pub fn count(&mut self, messages: u64, bytes: usize, now: Duration) -> Result<(), Duration> {
        self.empty_at = self.next(messages, bytes, now)?;
        Ok(())
    }

    /// When either bucket is empty once this is in it.
    fn next(&self, commands: u64, bytes: usize, now: Duration) -> Result<[u64; 2], Duration> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |limit: Option<Limit>, empty_at, cost| {
            limit.map_or(Ok(empty_at), |limit| limit.next(empty_at, now_ns, cost))
        };
        let [messages, sum] = self.empty_at;
        let messages = next(self.messages, messages, commands);
        let sum = next(self.bytes, sum, bytes as u64);
        if let (Ok(messages), Ok(sum)) = (messages, sum) {
            return Ok([messages, sum]);
        }
        let wait = messages.err().max(sum.err()).unwrap_or_default();
        Err(Duration::from_nanos(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_in_and_then_the_rate() {
        let limit = Limit::new(10, 3).expect("a limit");
        let (mut empty_at, start) = (0, 5 * SECOND_NS);
        for _ in 0..3 {
            empty_at = limit.next(empty_at, start, 1).expect("of the burst");
        }
        assert_eq!(limit.next(empty_at, start, 1), Err(SECOND_NS / 10));
        let later = start + SECOND_NS / 10;
        empty_at = limit.next(empty_at, later, 1).expect("a tenth later");
        assert!(limit.next(empty_at, later, 1).is_err());
    }

    #[test]
    fn what_one_bucket_refuses_the_other_does_not_take() {
        let mut buckets = Buckets::new(Limit::new(2, 2), Limit::new(1000, 1000));
        let now = Duration::from_secs(5);
        assert_eq!(buckets.count(1, 900, now), Ok(()));
        assert_eq!(buckets.count(1, 900, now), Err(Duration::from_millis(800)));
        assert_eq!(buckets.count(1, 100, now), Ok(()));
        assert_eq!(buckets.count(1, 0, now), Err(Duration::from_millis(500)));
        // Another limit does not empty what is full.
        buckets.limit(Limit::new(1, 1), None);
        assert!(buckets.count(1, 0, now).is_err());
        buckets.limit(None, None);
        assert_eq!(buckets.count(1, 1 << 30, now), Ok(()));
    }

    #[test]
    fn what_is_larger_than_the_burst_comes_through_when_the_bucket_is_empty() {
        let limit = Limit::new(1000, 1000).expect("a limit");
        let empty_at = limit.next(0, SECOND_NS, 50_000).expect("an empty bucket");
        assert_eq!(empty_at, 2 * SECOND_NS);
    }

    #[test]
    fn it_agrees_with_a_bucket_that_is_kept_step_by_step() {
        let mut random = 7_u64;
        let mut next = |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % most
        };
        for _ in 0..200 {
            // Rates that divide a second, so that both reckon exactly.
            let per_second = [1, 10, 1000, 125_000][usize::try_from(next(4)).expect("small")];
            let burst = 1 + next(20);
            let limit = Limit::new(per_second, burst).expect("a limit");
            let unit = SECOND_NS / per_second;
            let (mut empty_at, mut now, mut level) = (0, 0, 0_u64);
            for _ in 0..300 {
                let passed = next(3 * unit);
                now += passed;
                level = level.saturating_sub(passed);
                let cost = 1 + next(3);
                let wanted = (cost * unit).min(burst * unit);
                match limit.next(empty_at, now, cost) {
                    Ok(next) => {
                        assert!(level + wanted <= burst * unit);
                        (empty_at, level) = (next, level + wanted);
                    }
                    Err(wait) => assert_eq!(wait, level + wanted - burst * unit),
                }
            }
        }
    }
}
