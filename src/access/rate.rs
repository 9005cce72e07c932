//! How often: a rate with a burst, as GCRA (ITU-T I.371), which is a leaky bucket in one number.
//!
//! The number is the time at which the bucket would be empty. What is let in pushes it into the
//! future; nothing is let in that would push it further than the burst from now.

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
