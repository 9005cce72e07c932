//! `GET /topics` and `GET /stats`: every topic, in pieces.
//!
//! A piece is made when the socket has taken the one before, so a request pins two pieces and not
//! the whole list, however slowly it is read. Between two pieces everyone else on the core has a
//! turn, and only [`PIECES_AT_ONCE`] are made in one of these turns, in the order of asking. A list
//! that fits into one piece is answered whole, with its length.

use std::fmt::Write;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Answer, AnswerBody, json_bytes};
use super::stats::{cluster, totals};
use crate::access::grant::Grant;
use crate::broker::directory::{Directory, TopicEntry};
use crate::core::Core;

/// Topics in one piece. A few hundred take far less than a millisecond.
const PIECE_TOPICS_MAX: usize = 256;

/// A piece is closed behind the topic that brings it to this size.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Pieces that are made before a core looks at everything else again.
const PIECES_AT_ONCE: usize = 2;

/// What limits the making of pieces on one core. Fair: who asked first is served first.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PIECES_AT_ONCE)))
    }
}

impl Turns {
    /// Waits for one.
    pub(super) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `GET /topics`.
    Topics,
    /// `GET /stats`, with the totals at its end.
    Stats,
}

/// A piece, and what comes to the one behind it.
pub(super) type Made = (io::Result<Bytes>, Option<Step>);

/// Comes to a piece.
pub(super) struct Step(Pin<Box<dyn Future<Output = Made>>>);

impl Step {
    pub(super) fn new(making: impl Future<Output = Made> + 'static) -> Self {
        Self(Box::pin(making))
    }
}

/// A list on its way: what is made of it, and what is being made.
pub(super) struct Listing {
    making: Option<Step>,
    /// The piece that was made before the answer began.
    first: Option<Bytes>,
}

impl Listing {
    /// `first`, and what `rest` comes to.
    pub(super) fn new(first: Bytes, rest: Step) -> Self {
        Self {
            making: Some(rest),
            first: Some(first),
        }
    }

    /// The next piece, `None` behind the last. An error cuts the list off.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(piece) = self.first.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        let Some(Step(making)) = &mut self.making else {
            return Poll::Ready(None);
        };
        let (piece, rest) = ready!(making.as_mut().poll(cx));
        self.making = rest;
        Poll::Ready(Some(piece))
    }
}

/// Answers with the list.
pub(super) async fn list(core: &Rc<Core>, turns: &Turns, kind: Kind, grant: Grant) -> Answer {
    let maker = Maker {
        core: Rc::clone(core),
        turns: turns.clone(),
        kind,
        grant,
        cursor: Cursor::default(),
        has_begun: false,
        topics_made: 0,
    };
    let (piece, rest) = maker.piece().await;
    let body = match rest {
        None => AnswerBody::from(Vec::from(piece)),
        Some(maker) => AnswerBody::Listing(Listing::new(piece, maker.step())),
    };
    json_bytes(StatusCode::OK, body)
}

/// Makes one piece after the other.
struct Maker {
    core: Rc<Core>,
    turns: Turns,
    kind: Kind,
    /// Of whoever asks.
    grant: Grant,
    cursor: Cursor,
    has_begun: bool,
    topics_made: u64,
}

impl Maker {
    fn step(self) -> Step {
        Step::new(async {
            let (piece, rest) = self.piece().await;
            (Ok(piece), rest.map(Self::step))
        })
    }

    /// The next piece, and what makes the one behind it.
    async fn piece(mut self) -> (Bytes, Option<Self>) {
        let turn = self.turns.take().await;
        // With the turn in hand, so that the pieces of a crowd are spread over turns of the core.
        tokio::task::yield_now().await;
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            text.push_str(match self.kind {
                Kind::Topics => r#"{"topics":["#,
                Kind::Stats => r#"{"topics":{"#,
            });
        }
        let mut is_last = false;
        for _ in 0..PIECE_TOPICS_MAX {
            if text.len() >= PIECE_BYTES_MAX {
                break;
            }
            let Some(topic) = self.cursor.next(&self.core) else {
                is_last = true;
                break;
            };
            if self.kind == Kind::Topics && !self.grant.may_see(topic.name()) {
                continue;
            }
            if self.topics_made > 0 {
                text.push(',');
            }
            self.topics_made += 1;
            self.kind.write(&topic, &mut text);
        }
        drop(turn);
        if !is_last {
            return (text.into(), Some(self));
        }
        match self.kind {
            Kind::Topics => text.push_str("]}"),
            Kind::Stats => {
                let totals = serde_json::to_string(&totals(&self.core)).unwrap_or_default();
                write!(text, r#"}},"totals":{totals}"#).ok();
                if let Some(cluster) = cluster(&self.core) {
                    let cluster = serde_json::to_string(&cluster).unwrap_or_default();
                    write!(text, r#","cluster":{cluster}"#).ok();
                }
                text.push('}');
            }
        }
        (text.into(), None)
    }
}

impl Kind {
    fn write(self, topic: &TopicEntry, text: &mut String) {
        let name = topic.name_json();
        let subscribers = topic.subscribers();
        let of = topic.counters();
        let (messages, dropped) = (of.accepted.value(), of.dropped.value());
        let (bytes_in, bytes_out) = (of.bytes_in.value(), of.bytes_out.value());
        let written = match self {
            Self::Topics => write!(text, r#"{{"name":{name},"subscribers":{subscribers}}}"#),
            Self::Stats => write!(
                text,
                r#"{name}:{{"messages":{messages},"subscribers":{subscribers},"dropped":{dropped},"bytes_in":{bytes_in},"bytes_out":{bytes_out},"seq":{messages}}}"#
            ),
        };
        // A String takes all.
        written.ok();
    }
}

/// How far a list has come, in snapshots that do not change under it.
#[derive(Default)]
struct Cursor {
    shard: usize,
    directory: Arc<Directory>,
    page: usize,
    place: usize,
}

impl Cursor {
    fn next(&mut self, core: &Core) -> Option<Arc<TopicEntry>> {
        loop {
            let page = self.directory.page(self.page).unwrap_or_default();
            if let Some(topic) = page.get(self.place) {
                self.place += 1;
                return Some(Arc::clone(topic));
            }
            self.place = 0;
            self.page += 1;
            if page.is_empty() {
                let broker = &core.process().broker;
                if self.shard == broker.inboxes().len() {
                    return None;
                }
                self.directory = broker.directory(self.shard).snapshot();
                self.shard += 1;
                self.page = 0;
            }
        }
    }
}
