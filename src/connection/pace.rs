//! How often a client may say something. Only connections of a broker with limits have one.

use std::time::Duration;

use crate::access::rate::Limit;
use crate::config::Config;

/// Without a refusal for so long, an episode is over.
const EPISODE_END: Duration = Duration::from_secs(1);

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is carried out.
    Within,
    /// It is not, and would be after so many milliseconds.
    Over { retry_after_ms: u64 },
    /// It was one too many for too long: the connection ends.
    Beyond { retry_after_ms: u64 },
}

/// The pace of one client.
#[derive(Debug)]
pub(super) struct Pace {
    messages: Option<Limit>,
    bytes: Option<Limit>,
    patience: Duration,
    /// When either bucket is empty.
    empty_at: [u64; 2],
    /// The first and the last refusal of this episode.
    refused: Option<(Duration, Duration)>,
}

impl Pace {
    /// The limits of the settings; `None` if there are none.
    pub(super) fn of(config: &Config) -> Option<Box<Self>> {
        let per_second = config.rate_messages_per_sec;
        let burst = config.rate_burst_messages.unwrap_or(per_second);
        let messages = Limit::new(per_second, burst);
        let bytes = config.rate_bytes_per_sec as u64;
        let bytes = Limit::new(bytes, bytes);
        (messages.is_some() || bytes.is_some()).then(|| {
            Box::new(Self {
                messages,
                bytes,
                patience: config.rate_patience,
                empty_at: [0; 2],
                refused: None,
            })
        })
    }

    /// Counts a command of so many bytes, `now` after the start of the process.
    pub(super) fn count(&mut self, bytes: usize, now: Duration) -> Verdict {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |limit: Option<Limit>, empty_at, cost| {
            limit.map_or(Ok(empty_at), |limit| limit.next(empty_at, now_ns, cost))
        };
        let [messages, sum] = self.empty_at;
        let messages = next(self.messages, messages, 1);
        let sum = next(self.bytes, sum, bytes as u64);
        if let (Ok(messages), Ok(sum)) = (messages, sum) {
            self.empty_at = [messages, sum];
            return Verdict::Within;
        }
        let wait = messages.err().max(sum.err()).unwrap_or_default();
        let retry_after_ms = wait.div_ceil(1_000_000);
        let first = match self.refused {
            Some((first, last)) if now.saturating_sub(last) < EPISODE_END => first,
            _ => now,
        };
        self.refused = Some((first, now));
        if now.saturating_sub(first) >= self.patience {
            Verdict::Beyond { retry_after_ms }
        } else {
            Verdict::Over { retry_after_ms }
        }
    }
}
