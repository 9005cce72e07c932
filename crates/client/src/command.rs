//! Commands as the broker reads them: compact JSON, keys in the order of the protocol, `request_id` last.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::event::Position;
use crate::pattern::is_pattern;
use crate::subscription::Subscribe;

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    let value = serde_json::Value::from(text);
    value.to_string()
}

#[derive(Serialize)]
struct Command<'a> {
    r#type: &'a str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<At<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    positions: Option<Positions<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rate: Option<u16>,
}

#[derive(Serialize)]
struct At<'a> {
    epoch: &'a str,
    seq: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Positions<'a> {
    Wanted(bool),
    Given(BTreeMap<&'a str, At<'a>>),
}

impl<'a> At<'a> {
    fn of(position: &'a Position) -> Self {
        Self {
            epoch: &position.epoch,
            seq: position.seq,
        }
    }
}

/// Where a subscription goes on.
#[derive(Debug)]
pub(crate) enum Past {
    /// It begins.
    Begins,
    /// Behind a position of its topic.
    After(Position),
    /// Behind positions of the topics of a pattern.
    AfterAll(BTreeMap<Arc<str>, Position>),
}

/// A command without `request_id`, as text. All that is in it is JSON.
fn text(command: &impl Serialize) -> String {
    serde_json::to_string(command).unwrap_or_default()
}

pub(crate) fn subscribe(name: &str, wish: &Subscribe, past: &Past) -> String {
    let begins = matches!(past, Past::Begins);
    let positions = match past {
        Past::AfterAll(all) => {
            let all = all.iter().map(|(topic, at)| (&**topic, At::of(at)));
            Some(Positions::Given(all.collect()))
        }
        Past::Begins if is_pattern(name) => Some(Positions::Wanted(true)),
        _ => None,
    };
    text(&Command {
        r#type: "subscribe",
        topic: name,
        since: match past {
            Past::After(position) => Some(At::of(position)),
            _ => None,
        },
        last_n: (begins && wish.last > 0).then_some(wish.last),
        positions,
        policy: wish.latest.then_some("latest"),
        max_rate: wish.max_rate.map(std::num::NonZeroU16::get),
    })
}

pub(crate) fn unsubscribe(name: &str) -> String {
    format!(r#"{{"type":"unsubscribe","topic":{}}}"#, quoted(name))
}

/// `id` is a UUID and `payload` is JSON.
pub(crate) fn publish(topic: &str, id: &str, payload: &str, once: bool) -> String {
    let topic = quoted(topic);
    let once = if once { r#","once":true"# } else { "" };
    format!(
        r#"{{"type":"publish","topic":{topic},"message":{{"id":"{id}","payload":{payload}{once}}}}}"#
    )
}

pub(crate) fn auth_key(key: &str) -> String {
    format!(r#"{{"type":"auth","api_key":{}}}"#, quoted(key))
}

pub(crate) fn auth_token(token: &str) -> String {
    format!(r#"{{"type":"auth","token":{}}}"#, quoted(token))
}

pub(crate) const PING: &str = r#"{"type":"ping"}"#;

/// What `request_id` adds to a command at most.
pub(crate) const REQUEST_ID_BYTES_MAX: usize = r#","request_id":"18446744073709551615""#.len();

/// `command` with `request_id`.
pub(crate) fn numbered(command: &str, request_id: u64) -> String {
    let open = command.strip_suffix('}').unwrap_or(command);
    format!(r#"{open},"request_id":"{request_id}"}}"#)
}

/// As many positions as go into so many bytes of a command.
///
/// The rest are topics that the broker takes for new to us: it replays all that it keeps of them, and what we
/// have seen of that is known here.
pub(crate) fn fitting(
    positions: BTreeMap<Arc<str>, Position>,
    bytes_max: usize,
) -> BTreeMap<Arc<str>, Position> {
    let mut left = bytes_max;
    let fits = |(topic, at): &(Arc<str>, Position)| {
        let bytes = quoted(topic).len() + text(&At::of(at)).len() + 2;
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    positions.into_iter().take_while(fits).collect()
}
