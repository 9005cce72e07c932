//! How a connection is spoken to: the one `match` between what is said and the bytes it takes.
//!
//! Events are not in here. They are encoded once for everybody, when they are accepted
//! ([`EventTemplate`](super::websocket::frame::EventTemplate)), and a second time for all event
//! streams together ([`sse::event`]).

use super::answer::Answer;
use super::codes::CloseCode;
use super::time::Timestamp;
use super::websocket::frame;
use super::{native, sse};

/// The form of everything that a connection is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// JSON in frames of a `WebSocket`.
    Native,
    /// The same, with events deflated where that makes them smaller.
    Deflated,
    /// The same JSON as Server-Sent Events.
    Sse,
}

impl Dialect {
    /// Appends `answer`, given at `ts`.
    pub fn encode(self, out: &mut Vec<u8>, answer: &Answer<'_>, ts: Timestamp) {
        match self {
            // What is said once is not worth it.
            Self::Native | Self::Deflated => native::encode(out, answer, ts),
            Self::Sse => sse::encode(out, answer, ts),
        }
    }

    /// Appends a sign of life; also one that scripts in a browser can see, if `is_seen` says so. An
    /// event stream needs none: a script sees there that the connection has gone.
    pub fn heartbeat(self, out: &mut Vec<u8>, is_seen: bool, ts: Timestamp) {
        match self {
            Self::Native | Self::Deflated => {
                frame::ping(out, b"");
                if is_seen {
                    native::encode(out, &Answer::Heartbeat, ts);
                }
            }
            Self::Sse => sse::comment(out),
        }
    }

    /// Appends the last words. An event stream has none: it ends.
    pub fn close(self, out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
        match (self, code) {
            (Self::Sse, _) => {}
            (_, Some(code)) => frame::close(out, code, reason),
            (_, None) => frame::close_without_code(out),
        }
    }

    /// What `/connections` calls it.
    pub fn transport(self) -> &'static str {
        match self {
            Self::Native | Self::Deflated => "ws",
            Self::Sse => "sse",
        }
    }
}
