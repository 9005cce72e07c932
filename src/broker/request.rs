//! What goes into a shard.

use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use tokio::sync::oneshot;

use super::ConnectionId;
use super::delivery::Refusal;
use super::directory::TopicEntry;
use super::ring::{Fetch, Piece};
use super::topic::Image;
use crate::pattern::Pattern;
use crate::protocol::policy::Policy;
use crate::protocol::post::Post;
use crate::protocol::time::{Moment, Timestamp};

/// Something for a shard to do.
#[derive(Debug)]
pub enum Request {
    /// Messages of one connection, for topics of this shard.
    Publish(Publishes),
    /// Make a connection a subscriber.
    Subscribe {
        /// Who.
        subscriber: ConnectionId,
        /// To what.
        topic: Box<str>,
        /// Which earlier events it wants.
        replay: Replay,
        /// Which later ones: nothing to the shard, told again with the answer.
        policy: Policy,
        /// The first piece of them comes with the ack; otherwise it is fetched in its turn.
        is_inline: bool,
        /// Echoed, as JSON.
        request_id: Option<Box<str>>,
    },
    /// End a subscription.
    Unsubscribe {
        /// Who.
        subscriber: ConnectionId,
        /// From what.
        topic: Box<str>,
        /// Echoed, as JSON.
        request_id: Option<Box<str>>,
    },
    /// Do this shard's part of what a connection wants of a pattern. Every shard is asked.
    Pattern(Box<PatternRequest>),
    /// Send the next piece of a replay.
    Fetch {
        /// To whom.
        subscriber: ConnectionId,
        /// What is still to come.
        wanted: Fetch,
    },
    /// Take a connection off topics of this shard, because it has ended or may not have them.
    Leave {
        /// Which connection.
        connection: ConnectionId,
        /// Its topics.
        topics: Vec<Arc<TopicEntry>>,
        /// It goes on, and is to hear of each topic when no more events of it follow.
        is_told: bool,
    },
    /// Take a connection off patterns, because it has ended or may not have them.
    LeavePatterns {
        /// Which connection.
        connection: ConnectionId,
        /// Its patterns.
        patterns: Arc<[Arc<Pattern>]>,
        /// Why.
        why: Leaving,
    },
    /// Create a topic.
    Create {
        /// Its name, checked.
        name: Box<str>,
        /// Takes the outcome.
        reply: oneshot::Sender<Created>,
    },
    /// Delete a topic.
    Delete {
        /// Its name.
        name: Box<str>,
        /// Takes whether there was one.
        reply: oneshot::Sender<Result<bool, Refusal>>,
    },
    /// Accept messages that came over HTTP: all of them, or none, one behind the other.
    Post(Posted),
    /// Say what a topic keeps.
    Recall {
        /// Its name.
        name: Box<str>,
        /// Of what it keeps.
        wanted: Replay,
        /// Takes what there is.
        reply: oneshot::Sender<Option<Recalled>>,
    },
    /// Read the next events of what was recalled.
    Read {
        /// Which.
        wanted: Fetch,
        /// Takes them.
        reply: oneshot::Sender<Piece>,
    },
    /// Describe a topic.
    Describe {
        /// Its name.
        name: Box<str>,
        /// Takes what there is.
        reply: oneshot::Sender<Option<Description>>,
    },
    /// Say when everything before this request has been done and handed to the connections.
    Fence {
        /// Takes the answer.
        reply: oneshot::Sender<()>,
    },
    /// Show every topic as it is at this moment.
    Survey {
        /// Takes them, some at a time.
        images: std::sync::mpsc::Sender<Vec<Image>>,
    },
    /// Make a topic as it was shown.
    Restore(Box<Restored>),
    /// Carry out a change whose place among all changes is decided already: it happens on terms that are
    /// not this shard's, so that it comes to the same wherever it is carried out.
    Settled(Box<Settled>),
    /// Answer a change that is not carried out.
    Refuse(Box<Request>, Refusal),
}

/// A topic as it was shown, to be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Its name, checked.
    pub name: Box<str>,
    /// Its epoch.
    pub epoch: Box<str>,
    /// When it was created.
    pub created: Timestamp,
    /// The number of its newest message.
    pub seq: u64,
    /// The newest messages, up to that one.
    pub messages: Vec<RestoredMessage>,
    /// Ids that count as kept though their messages are not: the first and the last with each.
    pub ids: Vec<(u128, u64, u64)>,
}

/// A message of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredMessage {
    /// Its id, as its publisher wrote it.
    pub id: Box<str>,
    /// JSON, byte for byte.
    pub payload: Box<str>,
    /// When it was accepted.
    pub ts: Timestamp,
}

/// A change that has its place among all changes.
#[derive(Debug)]
pub struct Settled {
    /// On what terms.
    pub terms: Terms,
    /// What.
    pub request: Request,
}

/// The terms on which changes happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When.
    pub ts: Timestamp,
    /// What the epoch of a topic is made of that comes to be. Chance, where nothing else is wanted: then
    /// the change is not settled, and may be refused for want of room.
    pub birth: Option<u64>,
    /// Whether it may make its topic.
    pub creation: Creation,
}

/// Whether what needs a topic may make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// No: it has to be there.
    Never,
    /// Yes.
    Allowed,
    /// It might, were there not as many topics as there may be.
    Full,
}

impl Terms {
    /// Whether the change has its place: then it happens, whether there is room or not.
    pub fn are_settled(&self) -> bool {
        self.birth.is_some()
    }
}

/// What a connection wants of a pattern.
#[derive(Debug)]
pub struct PatternRequest {
    /// Which connection.
    pub subscriber: ConnectionId,
    /// Which pattern.
    pub pattern: Arc<Pattern>,
    /// What.
    pub wish: Wish,
}

/// What is to be done about a pattern.
#[derive(Debug, Clone)]
pub enum Wish {
    /// Say whether there is room for it. Nothing is changed.
    Ask {
        /// Say also how many topics it means, as far as that is not above this. None: it cannot be.
        topics_max: Option<usize>,
    },
    /// Make the connection a subscriber of all topics that it means, and of those to come.
    Join {
        /// Which earlier events it wants.
        past: Past,
        /// It wants to know where live events begin.
        wants_positions: bool,
    },
    /// End that.
    Leave(Leaving),
}

/// Why a pattern is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// The client wants it, and is answered.
    Asked,
    /// The client may not have it any more, and is told.
    Forbidden,
    /// The connection has ended; nobody is told.
    Ended,
}

/// Which earlier events a new subscriber of many topics wants.
#[derive(Debug, Clone)]
pub enum Past {
    /// None.
    None,
    /// The newest so many of each.
    Last(u64),
    /// All behind what it has, by the topic's name: the epoch and the sequence number; and all of
    /// the topics that it has nothing of.
    After(Arc<Positions>),
}

/// An epoch and a sequence number for each of some topics, by name.
pub type Positions = AHashMap<Box<str>, (Box<str>, u64)>;

/// Messages that came over HTTP.
#[derive(Debug)]
pub struct Posted {
    /// Where to.
    pub topic: Box<str>,
    /// What.
    pub messages: Vec<Post>,
    /// When they were read.
    pub read_at: Moment,
    /// Takes what became of them.
    pub reply: oneshot::Sender<Result<Receipts, Refusal>>,
}

/// What became of messages that came over HTTP.
#[derive(Debug)]
pub struct Receipts {
    /// Where they are.
    pub topic: Arc<TopicEntry>,
    /// One for each.
    pub messages: Vec<Receipt>,
}

/// What became of one of them.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Its id.
    pub id: Box<str>,
    /// Its sequence number, or that of the one that was there before.
    pub seq: u64,
    /// Subscribers that it was offered to.
    pub matched: u64,
    /// One with this id was there before, and it was not published.
    pub is_duplicate: bool,
}

/// What a topic keeps of what was asked for.
#[derive(Debug)]
pub struct Recalled {
    /// The topic.
    pub topic: Arc<TopicEntry>,
    /// Sequence number of its newest message.
    pub seq: u64,
    /// Whether nothing is missing, where that was asked.
    pub recovered: Option<bool>,
    /// Which events; `None` if there are none.
    pub events: Option<Fetch>,
}

/// What only its shard knows of a topic.
#[derive(Debug, Clone)]
pub struct Description {
    /// What anybody may know.
    pub topic: Arc<TopicEntry>,
    /// Events that its history keeps.
    pub kept: u64,
}

/// What became of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    Created,
    /// It was there before.
    Exists,
    /// `MAX_TOPICS` are there.
    LimitReached,
    /// `MEMORY_BUDGET` is used up.
    NoMemory,
    /// It has not found its place among all changes in time, and may still do so.
    Unavailable,
}

/// Which earlier events a new subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// None.
    None,
    /// The newest so many.
    Last(u64),
    /// All after `seq` of `epoch`.
    Since {
        /// The epoch that `seq` belongs to.
        epoch: Box<str>,
        /// The last sequence number that the subscriber has.
        seq: u64,
    },
}

/// Messages of one connection, copied out of its read buffer in one piece.
#[derive(Debug)]
pub struct Publishes {
    /// Whose.
    pub publisher: ConnectionId,
    /// When they were read.
    pub read_at: Moment,
    /// Names, ids, payloads and request ids, back to back.
    pub text: String,
    /// Where each part stands in `text`.
    pub items: Vec<PublishItem>,
}

/// One message in [`Publishes`].
#[derive(Debug, Clone)]
pub struct PublishItem {
    topic_start: u32,
    id_start: u32,
    payload_start: u32,
    request_id_start: u32,
    end: u32,
    /// The publisher wants an ack.
    pub ack: bool,
    /// It is not to be published if one with its id is kept.
    pub once: bool,
}

impl Publishes {
    /// An empty batch of `publisher`, for messages that were read at `read_at`.
    pub fn new(publisher: ConnectionId, read_at: Moment) -> Self {
        Self {
            publisher,
            read_at,
            text: String::new(),
            items: Vec::new(),
        }
    }

    /// Adds a message. `request_id` is JSON, empty for none.
    pub fn push(
        &mut self,
        topic: &str,
        id: &str,
        payload: &str,
        request_id: &str,
        ack: bool,
        once: bool,
    ) {
        let at = |text: &String| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let topic_start = at(&self.text);
        self.text.push_str(topic);
        let id_start = at(&self.text);
        self.text.push_str(id);
        let payload_start = at(&self.text);
        self.text.push_str(payload);
        let request_id_start = at(&self.text);
        self.text.push_str(request_id);
        let end = at(&self.text);
        self.items.push(PublishItem {
            topic_start,
            id_start,
            payload_start,
            request_id_start,
            end,
            ack,
            once,
        });
    }

    fn part(&self, range: Range<u32>) -> &str {
        self.text
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    /// The topic of `item`.
    pub fn topic(&self, item: &PublishItem) -> &str {
        self.part(item.topic_start..item.id_start)
    }

    /// The message id of `item`.
    pub fn id(&self, item: &PublishItem) -> &str {
        self.part(item.id_start..item.payload_start)
    }

    /// The payload of `item`, byte for byte.
    pub fn payload(&self, item: &PublishItem) -> &str {
        self.part(item.payload_start..item.request_id_start)
    }

    /// The request id of `item` as JSON, or empty.
    pub fn request_id(&self, item: &PublishItem) -> &str {
        self.part(item.request_id_start..item.end)
    }
}
