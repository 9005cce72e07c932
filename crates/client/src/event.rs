//! What callers are given: events, gaps, receipts, and positions to come back to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::Error;

/// A place in a topic: behind the message `seq` of its `epoch`. Its text is `EPOCH:SEQ`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Which life of the topic.
    pub epoch: Arc<str>,
    /// Number of the message.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.rsplit_once(':');
        let parts = parts.filter(|(epoch, seq)| {
            !epoch.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit())
        });
        let position = parts.and_then(|(epoch, seq)| {
            Some(Self {
                epoch: epoch.into(),
                seq: seq.parse().ok()?,
            })
        });
        position.ok_or_else(|| {
            Error::new(
                "BAD_REQUEST",
                format!("a position is EPOCH:SEQ, not '{text}'"),
            )
        })
    }
}

/// One message of a topic.
#[derive(Debug, Clone)]
pub struct Event {
    /// Of which topic.
    pub topic: Arc<str>,
    /// The id that its publisher gave it.
    pub id: String,
    /// JSON, byte for byte as it was published.
    pub payload: Box<RawValue>,
    /// Its number in the topic, from 1.
    pub seq: u64,
    /// The life of the topic that it belongs to.
    pub epoch: Arc<str>,
    /// When the broker accepted it: RFC 3339, UTC, milliseconds.
    pub ts: String,
    /// Events that this one stands for, where a policy was asked for.
    pub skipped: u64,
    /// All of it as the broker sent it, where [`Subscribe::keep_text`](crate::Subscribe::keep_text) asks for that.
    pub text: Option<Box<str>>,
}

impl Event {
    /// The payload as a value.
    ///
    /// # Errors
    ///
    /// It is another one than `T` can be.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload.get())
    }

    /// Give it as [`Subscribe::since`](crate::Subscribe::since) to go on behind this event.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: Arc::clone(&self.epoch),
            seq: self.seq,
        }
    }
}

/// Why events will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The consumer, or its network, was slow.
    Slow,
    /// The history does not reach back that far.
    History,
    /// The topic is another one than it was: it was created again, or the broker has forgotten it. Its events
    /// start from 1.
    Epoch,
}

/// Messages that this subscription will never see: `first` to `last`, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Of which topic.
    pub topic: Arc<str>,
    /// And of which of its lives.
    pub epoch: Arc<str>,
    /// The first that is missing.
    pub first: u64,
    /// The last. None where the reason is [`Reason::Epoch`]: nobody knows what followed in the old one.
    pub last: Option<u64>,
    /// How many of the range are lost: fewer than all only where a policy had some replaced on purpose.
    pub count: Option<u64>,
    /// Why.
    pub reason: Reason,
}

/// What a subscription gives.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event: in the order of its `seq` in the topic, and once.
    Event(Event),
    /// What is missing between the event before and the one behind it.
    Gap(Gap),
}

/// What the broker says of a message that it has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub id: String,
    /// Its number in the topic.
    pub seq: u64,
    /// Subscribers that it was offered to.
    pub matched: u64,
    /// It had been accepted before, and `seq` is of that time; only for messages sent with `once`.
    pub duplicate: bool,
}
