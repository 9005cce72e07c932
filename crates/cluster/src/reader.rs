//! All entries in their order, each once, whatever happens to NATS in between.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::log::Log;

/// Entries that are asked for at once: what is read ahead, some of at most the largest message of NATS each.
const AHEAD_ENTRIES_MAX: usize = 256;

/// NATS says so often that it is there, where it has nothing to say; missed twice, it is asked anew.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Pause before another attempt to read on.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads a log. Dropping what [`Self::next`] returns before it is done loses nothing.
pub struct Reader {
    log: Log,
    /// The entry that comes next.
    next: u64,
    messages: Option<Box<pull::Stream>>,
    connections: watch::Receiver<u64>,
    /// The log has said twice that it has nothing before this entry.
    gap_at: Option<u64>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// What comes out of a log.
#[derive(Debug)]
pub enum Read {
    /// It can be read, and has so many entries behind the last that was read.
    Open {
        /// How many.
        behind: u64,
    },
    /// The next entry.
    Entry(Stored),
    /// It cannot be read now. That is tried again.
    Lost,
}

/// An entry as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the log, from 1.
    pub place: u64,
    /// When it was stored, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Entries behind it when it was sent.
    pub behind: u64,
    /// What [`crate::entry::Entry::parse`] reads.
    pub bytes: Bytes,
}

/// Why a log cannot be read on from where this node is. It has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// It begins behind the entry that comes next.
    #[error("the log begins with entry {first}, and this node needs entry {next} next")]
    Purged {
        /// The first that it has.
        first: u64,
        /// The one that comes next.
        next: u64,
    },
    /// It ends before the entry that was read last: it was made anew, or NATS has lost what it had confirmed.
    #[error(
        "the log ends with entry {last}, and this node has read entry {read} of it: NATS has lost entries, or the log was made anew"
    )]
    Shorter {
        /// The last that it has.
        last: u64,
        /// The last that was read.
        read: u64,
    },
}

impl Reader {
    pub(crate) fn new(log: Log, next: u64) -> Self {
        Self {
            connections: log.status().connections(),
            log,
            next: next.max(1),
            messages: None,
            gap_at: None,
        }
    }

    /// What comes next. Never ends by itself.
    pub async fn next(&mut self) -> Result<Read, Gone> {
        loop {
            let Some(messages) = &mut self.messages else {
                match self.open().await? {
                    Some(behind) => return Ok(Read::Open { behind }),
                    None => sleep(PAUSE).await,
                }
                continue;
            };
            // What NATS has sent into a connection that ended counts as delivered. If that was the last of the log,
            // nothing behind it would ever show that it is missing.
            let message = tokio::select! {
                biased;
                message = messages.next() => message,
                Ok(()) = self.connections.changed() => None,
            };
            let Some(Ok(message)) = message else {
                self.messages = None;
                return Ok(Read::Lost);
            };
            let Ok(info) = message.info() else {
                continue;
            };
            let place = info.stream_sequence;
            if place < self.next {
                continue;
            }
            if place > self.next && self.gap_at != Some(place) {
                // What is in between may only have been lost on the way: ask once more.
                self.gap_at = Some(place);
                self.messages = None;
                continue;
            }
            if place > self.next {
                tracing::error!(
                    "entries {} to {} are missing in the log: NATS has lost them",
                    self.next,
                    place - 1
                );
            }
            let unix_ms = info.published.unix_timestamp_nanos() / 1_000_000;
            let stored = Stored {
                place,
                unix_ms: u64::try_from(unix_ms).unwrap_or_default(),
                behind: info.pending,
                bytes: message.payload.clone(),
            };
            (self.next, self.gap_at) = (place + 1, None);
            return Ok(Read::Entry(stored));
        }
    }

    /// Begins to read. Returns how many entries wait; none if that is not possible now.
    async fn open(&mut self) -> Result<Option<u64>, Gone> {
        self.connections.mark_unchanged();
        match timeout(HEARTBEAT * 3, self.try_open()).await {
            Ok(Ok(opened)) => opened.map(Some),
            Ok(Err(error)) => {
                tracing::debug!("the log cannot be read: {error}");
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    async fn try_open(&mut self) -> Result<Result<u64, Gone>, async_nats::Error> {
        let stream = self
            .log
            .context()
            .get_stream(self.log.stream_name())
            .await?;
        let state = &stream.cached_info().state;
        self.log.note(state);
        let (first, last) = (state.first_sequence, state.last_sequence);
        if last + 1 < self.next {
            return Ok(Err(Gone::Shorter {
                last,
                read: self.next - 1,
            }));
        }
        if first > self.next {
            return Ok(Err(Gone::Purged {
                first,
                next: self.next,
            }));
        }
        let consumer = stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence {
                    start_sequence: self.next,
                },
                ack_policy: AckPolicy::None,
                replay_policy: ReplayPolicy::Instant,
                inactive_threshold: HEARTBEAT * 30,
                memory_storage: true,
                num_replicas: 1,
                ..pull::Config::default()
            })
            .await?;
        let behind = consumer.cached_info().num_pending;
        let messages = consumer
            .stream()
            .max_messages_per_batch(AHEAD_ENTRIES_MAX)
            .heartbeat(HEARTBEAT)
            .expires(HEARTBEAT * 30)
            .messages()
            .await?;
        self.messages = Some(Box::new(messages));
        Ok(Ok(behind))
    }
}
