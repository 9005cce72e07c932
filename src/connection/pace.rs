//! How often a client may say something: by the settings, and by its key. Only who has a limit has
//! one.

use std::time::Duration;

use crate::access::grant::Grant;
use crate::access::rate::{Buckets, Limit};
use crate::config::Config;

/// Without a refusal for so long, an episode is over.
const EPISODE_END: Duration = Duration::from_secs(1);

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is carried out.
    Within,
    /// It is not, and would be after so many milliseconds.
    Over { retry_after_ms: u64 },
    /// It was one too many for too long: the connection ends.
    Beyond { retry_after_ms: u64 },
}

/// The pace of one client, on a WebSocket or over HTTP.
#[derive(Debug)]
pub(crate) struct Pace {
    own: Buckets,
    patience: Duration,
    /// The first and the last refusal of this episode.
    refused: Option<(Duration, Duration)>,
}

impl Pace {
    /// The limits of the settings; `None` if there are none.
    pub(crate) fn of(config: &Config) -> Option<Box<Self>> {
        let pace = Self::new(config);
        pace.own.is_limited().then(|| Box::new(pace))
    }

    fn new(config: &Config) -> Self {
        let per_second = config.rate_messages_per_sec;
        let burst = config.rate_burst_messages.unwrap_or(per_second);
        let bytes = config.rate_bytes_per_sec as u64;
        Self {
            own: Buckets::new(Limit::new(per_second, burst), Limit::new(bytes, bytes)),
            patience: config.rate_patience,
            refused: None,
        }
    }

    /// Counts so many commands of so many bytes under `grant`; `now` is the time since the start of the
    /// process, asked for only where there is a limit.
    /// `pace` is made where only the key has a limit.
    pub(crate) fn count(
        pace: &mut Option<Box<Self>>,
        config: &Config,
        grant: &Grant,
        (messages, bytes): (u64, usize),
        now: impl FnOnce() -> Duration,
    ) -> Verdict {
        if pace.is_none() && !grant.is_limited() {
            return Verdict::Within;
        }
        let now = now();
        let pace = pace.get_or_insert_with(|| Box::new(Self::new(config)));
        let counted = pace.own.count(messages, bytes, now);
        let counted = counted.and_then(|()| grant.count(messages, bytes, now));
        let Err(wait) = counted else {
            return Verdict::Within;
        };
        let retry_after_ms = wait.as_nanos().div_ceil(1_000_000);
        let retry_after_ms = u64::try_from(retry_after_ms).unwrap_or(u64::MAX);
        let first = match pace.refused {
            Some((first, last)) if now.saturating_sub(last) < EPISODE_END => first,
            _ => now,
        };
        pace.refused = Some((first, now));
        if now.saturating_sub(first) >= pace.patience {
            Verdict::Beyond { retry_after_ms }
        } else {
            Verdict::Over { retry_after_ms }
        }
    }
}
