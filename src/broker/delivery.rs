//! What comes out of a shard: one ordered list for each core.
//!
//! The order of the list is the order on every socket of that core. Answers are values: the
//! dialect of each connection gives them their form, on its own core.

use std::sync::Arc;

use super::ConnectionId;
use super::directory::{Audience, TopicEntry};
use super::request::{Leaving, Publishes};
use super::ring::{Fetch, Piece};
use super::run::Run;
use crate::pattern::Pattern;
use crate::protocol::answer::Answer;
use crate::protocol::codes::ErrorCode;
use crate::protocol::names::RequestId;
use crate::protocol::policy::Policy;
use crate::protocol::time::Timestamp;

/// What one turn of a shard has for the connections of one core.
#[derive(Debug)]
pub struct Delivery {
    /// The shard it comes from.
    pub shard: usize,
    /// What happened, in its order.
    pub items: Vec<Item>,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Item {
    /// For one connection.
    Reply(Reply),
    /// Live events, for everyone who was subscribed when they were accepted.
    Events {
        /// The events.
        run: Arc<Run>,
        /// Who of this core gets them.
        to: Arc<Audience>,
    },
}

/// Something for one connection, never dropped.
#[derive(Debug)]
pub struct Reply {
    /// To whom.
    pub to: ConnectionId,
    /// When it was made.
    pub ts: Timestamp,
    /// What.
    pub said: Said,
}

/// What is said to one connection.
#[derive(Debug)]
pub enum Said {
    /// What became of its messages.
    Published {
        /// The messages.
        publishes: Publishes,
        /// The fate of each.
        outcomes: Vec<Outcome>,
    },
    /// It is subscribed now.
    Subscribed {
        /// Echoed, as JSON.
        request_id: Option<Box<str>>,
        /// To what.
        topic: Arc<TopicEntry>,
        /// Sequence number of the topic's newest message.
        seq: u64,
        /// Whether nothing is missing, where `since` was given.
        recovered: Option<bool>,
        /// Which events to come it wants.
        policy: Policy,
        /// It was not subscribed before.
        is_new: bool,
        /// The past that it wants, and the first piece of it, if it came inline.
        replay: Option<(Option<Piece>, Fetch)>,
    },
    /// It is not subscribed now.
    Unsubscribed {
        /// Echoed, as JSON.
        request_id: Option<Box<str>>,
        /// From what.
        topic: Box<str>,
        /// The topic, if it was subscribed before.
        left: Option<Arc<TopicEntry>>,
    },
    /// Its subscribe was not carried out.
    Refused {
        /// Echoed, as JSON.
        request_id: Option<Box<str>>,
        /// To what.
        topic: Box<str>,
        /// Why not.
        refusal: Refusal,
    },
    /// What a shard has done about a pattern.
    Pattern(Box<PatternPart>),
    /// A piece of a replay that it has asked for.
    Replayed(Piece),
    /// It was taken off a topic. Why is its own affair.
    Left(Arc<TopicEntry>),
    /// A topic has come to be that one of its patterns means.
    TopicCreated(Arc<TopicEntry>),
    /// A topic has ended, and its subscription with it.
    TopicDeleted(Arc<TopicEntry>),
}

/// What one shard has done about a pattern.
#[derive(Debug)]
pub struct PatternPart {
    /// Which shard.
    pub shard: usize,
    /// Which pattern.
    pub pattern: Arc<Pattern>,
    /// What.
    pub done: PatternDone,
}

/// What was done.
#[derive(Debug)]
pub enum PatternDone {
    /// Nothing yet: there is room. So many topics are meant, if they were counted.
    Counted(usize),
    /// Nothing: there is no room.
    Refused(Refusal),
    /// The connection gets all of them.
    Joined(Joined),
    /// It gets none of them any more.
    Left(Leaving),
}

/// What a subscriber of a pattern begins with.
#[derive(Debug, Default)]
pub struct Joined {
    /// It did not have the pattern before.
    pub is_new: bool,
    /// Topics that the pattern means.
    pub matched: u64,
    /// The newest message of each, where that was asked.
    pub positions: Vec<(Arc<TopicEntry>, u64)>,
    /// Topics of which something is missing.
    pub lost: Vec<Arc<TopicEntry>>,
    /// The past that is wanted, topic by topic.
    pub replay: Vec<Fetch>,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It waits to be accepted. No message leaves the shard like this.
    Waiting,
    /// It is sequenced, kept and offered.
    Accepted {
        /// Its sequence number.
        seq: u64,
        /// Subscribers at that moment.
        matched: u64,
    },
    /// One with its id is kept, and it was not published.
    Duplicate {
        /// The sequence number of that one.
        seq: u64,
    },
    /// Nothing happened.
    Refused(Refusal),
}

/// Why a shard does not do what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such topic.
    NoTopic,
    /// So many topics are there, and no more are allowed.
    TooManyTopics(usize),
    /// A pattern means more topics than this, and no more are allowed.
    TooManyMatched(usize),
    /// `MEMORY_BUDGET` is used up.
    NoMemory,
    /// It has not found its place among all changes in time, and may still do so.
    Unavailable,
    /// It is larger than can be told to all nodes at once.
    TooLarge,
}

impl Refusal {
    /// The code and the words for `topic`.
    pub fn describe(self, topic: &str) -> (ErrorCode, String) {
        match self {
            Self::NoTopic => (
                ErrorCode::TopicNotFound,
                format!("Topic '{topic}' does not exist"),
            ),
            Self::TooManyTopics(topics_max) => (
                ErrorCode::LimitExceeded,
                format!("No room for another topic: MAX_TOPICS is {topics_max}"),
            ),
            Self::TooManyMatched(topics_max) => (
                ErrorCode::LimitExceeded,
                format!("'{topic}' means too many topics: MAX_PATTERN_TOPICS is {topics_max}"),
            ),
            Self::NoMemory => (
                ErrorCode::LimitExceeded,
                "No room: the memory budget is used up (MEMORY_BUDGET)".into(),
            ),
            Self::Unavailable => (
                ErrorCode::Unavailable,
                "The cluster's log did not confirm it in time: it may still happen".into(),
            ),
            Self::TooLarge => (
                ErrorCode::MessageTooLarge,
                "Larger than the cluster's log takes at once (max_payload of NATS)".into(),
            ),
        }
    }
}

impl PatternPart {
    /// Whether it is part of the answer to a command.
    pub fn is_of_command(&self) -> bool {
        !matches!(
            self.done,
            PatternDone::Left(Leaving::Forbidden | Leaving::Ended)
        )
    }
}

impl Said {
    /// How many commands of the connection this answers. Of one that all shards are asked, each
    /// answers one.
    pub fn commands(&self) -> u32 {
        match self {
            Self::Published { publishes, .. } => {
                u32::try_from(publishes.items.len()).unwrap_or(u32::MAX)
            }
            Self::Subscribed { .. } | Self::Unsubscribed { .. } | Self::Refused { .. } => 1,
            Self::Pattern(part) => u32::from(part.is_of_command()),
            Self::Replayed(_) | Self::Left(_) | Self::TopicCreated(_) | Self::TopicDeleted(_) => 0,
        }
    }

    /// How many bytes of requests it gives back to the connection.
    pub fn request_bytes(&self) -> usize {
        match self {
            Self::Published { publishes, .. } => publishes.text.len(),
            _ => 0,
        }
    }

    /// Gives `say` what the client is to be told, in its order.
    pub fn answers(&self, mut say: impl FnMut(&Answer<'_>)) {
        match self {
            Self::Published {
                publishes,
                outcomes,
            } => {
                for (item, outcome) in publishes.items.iter().zip(outcomes) {
                    let topic = publishes.topic(item);
                    let request_id = request_id(Some(publishes.request_id(item)));
                    match *outcome {
                        Outcome::Accepted { .. } | Outcome::Duplicate { .. } if !item.ack => {}
                        Outcome::Duplicate { seq } => say(&Answer::Published {
                            request_id,
                            topic,
                            seq,
                            matched: 0,
                            is_duplicate: true,
                        }),
                        Outcome::Accepted { seq, matched } => say(&Answer::Published {
                            request_id,
                            topic,
                            seq,
                            matched,
                            is_duplicate: false,
                        }),
                        Outcome::Refused(refusal) => refuse(request_id, topic, refusal, &mut say),
                        Outcome::Waiting => say(&Answer::Error {
                            request_id,
                            code: ErrorCode::Internal,
                            message: "The message was not accepted",
                        }),
                    }
                }
            }
            Self::Subscribed {
                request_id: id,
                topic,
                seq,
                recovered,
                ..
            } => say(&Answer::Subscribed {
                request_id: request_id(id.as_deref()),
                topic: topic.name(),
                epoch: topic.epoch(),
                seq: *seq,
                recovered: *recovered,
            }),
            Self::Unsubscribed {
                request_id: id,
                topic,
                ..
            } => say(&Answer::Unsubscribed {
                request_id: request_id(id.as_deref()),
                topic,
            }),
            Self::Refused {
                request_id: id,
                topic,
                refusal,
            } => refuse(request_id(id.as_deref()), topic, *refusal, &mut say),
            Self::TopicDeleted(topic) => say(&Answer::TopicDeleted {
                topic: topic.name(),
            }),
            Self::TopicCreated(topic) => say(&Answer::TopicCreated {
                topic: topic.name(),
                epoch: topic.epoch(),
            }),
            // The parts of all shards together make one answer.
            Self::Pattern(_) | Self::Replayed(_) | Self::Left(_) => {}
        }
    }
}

fn refuse(
    request_id: Option<RequestId<'_>>,
    topic: &str,
    refusal: Refusal,
    say: &mut impl FnMut(&Answer<'_>),
) {
    let (code, message) = refusal.describe(topic);
    say(&Answer::Error {
        request_id,
        code,
        message: &message,
    });
}

/// What the command parser has checked. Empty is none.
pub(crate) fn request_id(json: Option<&str>) -> Option<RequestId<'_>> {
    json.filter(|json| !json.is_empty()).map(RequestId::trusted)
}
