//! `/topics/{name}/messages`: messages in by POST, and what a topic keeps by GET.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use utoipa::ToSchema;

use super::access;
use super::answer::{Answer, AnswerBody, bad_request, error, json, json_bytes, unavailable};
use super::body::RequestBody;
use super::caller::Caller;
use super::listing::{Listing, Made, Step, Turns};
use super::topics::{ask, book_input, no_answer, not_found, unread};
use super::{Http, is_draining};
use crate::access::grant::{Grant, Right};
use crate::broker::inbox::Inbox;
use crate::broker::request::{Posted, Recalled, Receipt, Receipts, Replay, Request};
use crate::broker::ring::{Fetch, Piece};
use crate::protocol::codes::ErrorCode;
use crate::protocol::names::TopicName;
use crate::protocol::post::{BadPost, PostLimits, Reading};
use crate::protocol::time::Moment;
use crate::protocol::websocket::frame;

/// What became of one message.
#[derive(Serialize, ToSchema)]
#[schema(as = Published)]
pub(super) struct One<'a> {
    status: &'static str,
    topic: &'a str,
    epoch: &'a str,
    #[serde(flatten)]
    receipt: Shown<'a>,
}

/// What became of an array of messages.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishedMany)]
pub(super) struct Many<'a> {
    status: &'static str,
    topic: &'a str,
    epoch: &'a str,
    messages: Vec<Shown<'a>>,
}

/// What became of a message.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipt)]
struct Shown<'a> {
    id: &'a str,
    seq: u64,
    /// Subscribers at that moment.
    matched: u64,
    /// One with its id is kept, and it was not published.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl<'a> From<&'a Receipt> for Shown<'a> {
    fn from(receipt: &'a Receipt) -> Self {
        Self {
            id: &receipt.id,
            seq: receipt.seq,
            matched: receipt.matched,
            duplicate: receipt.is_duplicate,
        }
    }
}

/// An error that says which message of an array it is about.
#[derive(Serialize, ToSchema)]
#[schema(as = ErrorAt)]
pub(super) struct ErrorAt<'a> {
    error: &'a str,
    code: &'static str,
    index: usize,
}

/// The name in a path, checked.
pub(super) fn name_of(path: &str) -> Result<TopicName<'static>, String> {
    let name = percent_decode_str(path).decode_utf8();
    let name = name.map_err(|_| "the name in the path is not UTF-8")?;
    TopicName::parse(name.into_owned()).map_err(|wrong| wrong.to_string())
}

/// `POST`: publishes what is in the body.
pub(super) async fn post(
    http: &Http,
    caller: &Caller<'_>,
    path: &str,
    body: &mut RequestBody,
    grant: &Grant,
) -> Answer {
    let core = &http.core;
    let (config, process) = (core.config(), core.process());
    let name = match name_of(path) {
        Ok(name) => name,
        Err(text) => return bad_request(&text),
    };
    if let Err(text) = grant.check(Right::Publish, &name) {
        return access::forbidden(&text);
    }
    if is_draining(core) {
        return unavailable(config.reconnect_spread);
    }
    let bytes_max = config.publish_body_bytes_max;
    let mut booked = book_input(core);
    let bytes = match body.read(bytes_max, &mut booked).await {
        Ok(bytes) => bytes,
        Err(why) => return unread(&why, bytes_max),
    };
    let read_at = Moment::at(process.started.elapsed());
    let Ok(text) = str::from_utf8(&bytes) else {
        return bad_request("the body is not UTF-8");
    };
    let limits = PostLimits {
        bytes_max: config.message_bytes_max,
        depth_max: config.payload_depth_max,
    };
    let mut reading = Reading::new(text, limits);
    let read = loop {
        match reading.go_on() {
            Some(read) => break read,
            // Everybody else of this core has a turn.
            None => tokio::task::yield_now().await,
        }
    };
    let posts = match read {
        Ok(posts) => posts,
        Err(bad) => return refused(&bad),
    };
    // Until they are answered: the body, and what was read out of it.
    booked.set(2 * bytes.capacity());
    // The request was counted as one.
    let further = posts.messages.len() as u64 - 1;
    if let Some(refusal) = caller.are_too_many(process, grant, further) {
        return refusal;
    }
    let inbox = process.broker.lane_for(&name);
    let posted = ask(inbox, |reply| {
        Request::Post(Posted {
            topic: name.clone().into(),
            messages: posts.messages,
            read_at,
            reply,
        })
    });
    match posted.await {
        Some(Ok(receipts)) => accepted(&receipts, posts.is_array),
        Some(Err(refusal)) => {
            let (what, text) = refusal.describe(&name);
            let status = match what {
                ErrorCode::TopicNotFound => StatusCode::NOT_FOUND,
                ErrorCode::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            error(status, what, &text)
        }
        None => no_answer(),
    }
}

fn refused(bad: &BadPost) -> Answer {
    let (status, code) = if bad.is_too_long {
        (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::MessageTooLarge)
    } else {
        (StatusCode::BAD_REQUEST, ErrorCode::BadRequest)
    };
    let Some(index) = bad.index else {
        return error(status, code, &bad.text);
    };
    let body = ErrorAt {
        error: &bad.text,
        code: code.as_str(),
        index,
    };
    json(status, &body)
}

fn accepted(receipts: &Receipts, is_array: bool) -> Answer {
    let (topic, epoch) = (receipts.topic.name(), receipts.topic.epoch());
    let mut shown = receipts.messages.iter().map(Shown::from);
    let status = "ok";
    match shown.next() {
        Some(receipt) if !is_array => json(
            StatusCode::OK,
            &One {
                status,
                topic,
                epoch,
                receipt,
            },
        ),
        first => json(
            StatusCode::OK,
            &Many {
                status,
                topic,
                epoch,
                messages: first.into_iter().chain(shown).collect(),
            },
        ),
    }
}

/// What a client wants to read.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    replay: Replay,
    limit: u64,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, &'static str> {
        let (mut last, mut since, mut limit) = (None, None, u64::MAX);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "last" => {
                    last = Some(value.parse().map_err(|_| "last must be a whole number")?);
                }
                "since" => {
                    let position = self::since(&value);
                    since = Some(position.ok_or("since must be EPOCH:SEQ")?);
                }
                "limit" => {
                    let number = value.parse().ok().filter(|limit| *limit > 0);
                    limit = number.ok_or("limit must be a whole number from 1")?;
                }
                _ => {}
            }
        }
        let replay = since.unwrap_or_else(|| Replay::Last(last.unwrap_or(u64::MAX)));
        Ok(Self { replay, limit })
    }
}

/// All after a position, which is written EPOCH:SEQ.
pub(super) fn since(position: &str) -> Option<Replay> {
    let (epoch, seq) = position.split_once(':')?;
    let epoch = (!epoch.is_empty()).then(|| epoch.into())?;
    let seq = seq.parse().ok()?;
    Some(Replay::Since { epoch, seq })
}

/// `GET`: what the topic keeps of what is wanted, in pieces.
pub(super) async fn recall(http: &Http, path: &str, query: &str, grant: &Grant) -> Answer {
    let core = &http.core;
    let name = match name_of(path) {
        Ok(name) => name,
        Err(text) => return bad_request(&text),
    };
    if let Err(text) = grant.check(Right::Subscribe, &name) {
        return access::forbidden(&text);
    }
    let wanted = match Wanted::parse(query) {
        Ok(wanted) => wanted,
        Err(text) => return bad_request(text),
    };
    let broker = &core.process().broker;
    let inbox = broker.inbox(broker.shard_of(&name));
    let recalled = ask(inbox, |reply| Request::Recall {
        name: name.into(),
        wanted: wanted.replay,
        reply,
    });
    let Some(recalled) = recalled.await.flatten() else {
        return not_found();
    };
    let Recalled {
        topic,
        seq,
        recovered,
        events,
    } = recalled;
    let (name, epoch) = (topic.name_json(), topic.epoch());
    let mut head = format!(r#"{{"topic":{name},"epoch":"{epoch}","seq":{seq},"#);
    if let Some(recovered) = recovered {
        write!(head, r#""recovered":{recovered},"#).ok();
    }
    head.push_str(r#""messages":["#);
    let Some(mut events) = events else {
        head.push_str("]}");
        return json_bytes(StatusCode::OK, AnswerBody::from(head.into_bytes()));
    };
    events.last = events
        .last
        .min(events.first.saturating_add(wanted.limit - 1));
    let reader = Reader {
        inbox: Arc::clone(inbox),
        turns: http.turns.clone(),
        rest: events,
        is_first: true,
    };
    let body = AnswerBody::Listing(Listing::new(head.into(), reader.step()));
    json_bytes(StatusCode::OK, body)
}

/// Reads one piece of a history after the other.
struct Reader {
    inbox: Arc<Inbox>,
    turns: Turns,
    rest: Fetch,
    is_first: bool,
}

impl Reader {
    fn step(self) -> Step {
        Step::new(self.piece())
    }

    async fn piece(mut self) -> Made {
        let turn = self.turns.take().await;
        let wanted = self.rest.clone();
        let read = ask(&self.inbox, |reply| Request::Read { wanted, reply });
        let Some(Piece {
            kept, next, lost, ..
        }) = read.await
        else {
            return (Err(io::ErrorKind::BrokenPipe.into()), None);
        };
        if lost > 0 {
            // The head of the answer has promised them.
            let text = "the history has let go of what was to be read next";
            return (Err(io::Error::other(text)), None);
        }
        let mut text = Vec::new();
        for part in &kept {
            for (seq, event) in part.run.each(part.start) {
                if seq > self.rest.last {
                    break;
                }
                if !std::mem::replace(&mut self.is_first, false) {
                    text.push(b',');
                }
                text.extend_from_slice(frame::body(event));
            }
        }
        drop(turn);
        self.rest.first = next;
        if next > self.rest.last {
            text.extend_from_slice(b"]}");
            return (Ok(text.into()), None);
        }
        (Ok(text.into()), Some(self.step()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_say_what_is_wanted_or_what_is_wrong() {
        let since = Replay::Since {
            epoch: "e".into(),
            seq: 4,
        };
        for (query, replay, limit) in [
            ("", Replay::Last(u64::MAX), u64::MAX),
            ("last=5&limit=2", Replay::Last(5), 2),
            ("since=e:4&last=1", since, u64::MAX),
        ] {
            assert_eq!(Wanted::parse(query), Ok(Wanted { replay, limit }));
        }
        for (query, text) in [
            ("last=-1", "last must be a whole number"),
            ("since=4", "since must be EPOCH:SEQ"),
            ("since=:4", "since must be EPOCH:SEQ"),
            ("since=e:x", "since must be EPOCH:SEQ"),
            ("limit=0", "limit must be a whole number from 1"),
        ] {
            assert_eq!(Wanted::parse(query), Err(text), "{query}");
        }
    }
}
