//! What the server says but events, as values. A dialect gives them their form.

use super::codes::ErrorCode;
use super::names::RequestId;

/// Where a client stands in a topic: the last message that it has, or that it will not get live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position<'a> {
    /// Which topic.
    pub topic: &'a str,
    /// Its epoch.
    pub epoch: &'a str,
    /// The sequence number of that message, 0 if there is none.
    pub seq: u64,
}

/// One answer or notice for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A publish was accepted.
    Published {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
        /// To which topic.
        topic: &'a str,
        /// Its sequence number.
        seq: u64,
        /// Subscribers at that moment.
        matched: u64,
        /// One with its id was there before, and it was not published.
        is_duplicate: bool,
    },
    /// A subscribe was carried out.
    Subscribed {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
        /// To which topic.
        topic: &'a str,
        /// The topic's epoch.
        epoch: &'a str,
        /// Sequence number of its newest message, 0 if none.
        seq: u64,
        /// Whether nothing is missing; given where `since` was.
        recovered: Option<bool>,
    },
    /// A subscribe to several topics was carried out: to a pattern, or to a list of names.
    SubscribedToMany {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
        /// The pattern, as it was asked for; a list has none.
        topic: Option<&'a str>,
        /// How many topics those are now.
        matched: u64,
        /// Where live events begin in each of them, where that was asked.
        positions: Option<&'a [Position<'a>]>,
        /// The topics of which something is missing; given where positions were.
        lost: Option<&'a [&'a str]>,
    },
    /// An unsubscribe was carried out.
    Unsubscribed {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
        /// From which topic.
        topic: &'a str,
    },
    /// An auth was accepted.
    Authenticated {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
    },
    /// The answer to a ping command.
    Pong {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
    },
    /// Something went wrong.
    Error {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
        /// What.
        code: ErrorCode,
        /// In words.
        message: &'a str,
    },
    /// A command came above the rate limit and was not carried out.
    TooSoon {
        /// Echoed.
        request_id: Option<RequestId<'a>>,
        /// After how many milliseconds it would be.
        retry_after_ms: u64,
    },
    /// Events fell out of the client's ring since it was last told.
    Lost {
        /// How many.
        events: u64,
    },
    /// The heartbeat that scripts in a browser can see.
    Heartbeat,
    /// The server is draining.
    ShuttingDown {
        /// After how many milliseconds the client should come back.
        retry_after_ms: u64,
    },
    /// A topic is there from now on, and a pattern of the connection means it.
    TopicCreated {
        /// Which.
        topic: &'a str,
        /// Its epoch.
        epoch: &'a str,
    },
    /// A topic is gone, and the subscription with it.
    TopicDeleted {
        /// Which.
        topic: &'a str,
    },
}
