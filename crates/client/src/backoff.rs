//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential with full jitter: a broker that comes back is not met by all clients at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            attempt: 0,
        }
    }

    /// The next pause. What the broker has asked for wins: it has spread its clients itself.
    pub(crate) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        // Beyond 2**31 the ceiling is the maximum, whatever it is.
        let factor = 1_u32 << self.attempt.min(31);
        let ceiling = self.min.saturating_mul(factor).min(self.max);
        self.attempt += 1;
        asked.unwrap_or_else(|| ceiling.mul_f64(chance()))
    }

    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// From 0 to 1. Where the system has no randomness, the middle.
fn chance() -> f64 {
    let bits = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(bits) / f64::from(u32::MAX)
}
