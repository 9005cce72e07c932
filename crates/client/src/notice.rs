//! What a person, or a log, may want to know beside the items of a subscription.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Position;

/// Something that has happened. Nothing has to be done about any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// There is no connection, or no more.
    Disconnected {
        /// In words.
        reason: String,
        /// When the next one is tried.
        retry_in: Duration,
    },
    /// The broker has acked a subscription.
    Subscribed {
        /// Of the topic or pattern.
        name: String,
        /// Of the newest event of each of its topics.
        positions: BTreeMap<Arc<str>, Position>,
    },
    /// A topic has come to match a pattern that is subscribed to.
    TopicCreated(String),
    /// A topic that is subscribed to is deleted. Its last events may still wait.
    TopicDeleted(String),
    /// The broker had to drop events, in its words. Each loss is also a [`Gap`](crate::Gap) in its place.
    SlowConsumer(String),
    /// The broker is about to end.
    ShuttingDown,
}

/// Called with each notice, on the task of the connection: it must not block.
#[derive(Clone)]
pub struct OnNotice(Arc<dyn Fn(Notice) + Send + Sync>);

impl OnNotice {
    pub(crate) fn tell(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl<F: Fn(Notice) + Send + Sync + 'static> From<F> for OnNotice {
    fn from(told: F) -> Self {
        Self(Arc::new(told))
    }
}

impl fmt::Debug for OnNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnNotice(…)")
    }
}
