//! `/topics/{name}/events` and `/events`: the request for an event stream.
//!
//! What can be refused is refused here, with a status. Then the socket leaves HTTP, as it does for a
//! `WebSocket`, and becomes a connection like any other: the answer's head is the first thing in its
//! ring. The stream has no length and is not chunked, so its end is the end of the socket.

use std::rc::Rc;
use std::time::SystemTime;

use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, DATE, HeaderName, HeaderValue,
};
use hyper::{HeaderMap, Method, Request, StatusCode};

use socket2::SockRef;

use super::accept::has_one_of;
use super::access;
use super::answer::{Answer, AnswerBody, bad_request, error};
use super::body::RequestBody;
use super::caller::Caller;
use super::messages::{name_of, since};
use super::topics::{ask, no_answer, not_created, not_found};
use super::upgrade::{client_id, enter};
use super::{Http, is_draining, tickets};
use crate::access::grant::{Grant, Right};
use crate::broker::request::{Replay, Request as ShardRequest};
use crate::connection::session::Admission;
use crate::connection::{Entrance, Newcomer};
use crate::core::Core;
use crate::protocol::codes::ErrorCode;
use crate::protocol::names::TopicName;
use crate::protocol::policy::Policy;
use crate::wire::Wire;

/// Topics of one stream at most. Each event of a stream of several carries its position in all.
const TOPICS_MAX: usize = 64;

/// What a browser says where it was when it comes again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A stream that may begin.
pub(super) struct Stream {
    admission: Admission,
    address: std::net::SocketAddr,
    client_id: Option<Box<str>>,
    grant: Grant,
    topics: Vec<(TopicName<'static>, Replay)>,
    policy: Policy,
}

/// Answers a request for events of the topic in its path, or of those in its query.
pub(super) async fn open(
    http: &Http,
    caller: &Caller<'_>,
    path: Option<&str>,
    request: &Request<()>,
    body: &RequestBody,
    grant: Grant,
) -> Answer {
    let core = &http.core;
    if request.method() == Method::HEAD || !takes_events(request.headers()) {
        let text = "an event stream is asked for by GET, and accepted as text/event-stream";
        return error(StatusCode::NOT_ACCEPTABLE, ErrorCode::BadRequest, text);
    }
    if !body.is_empty() {
        return bad_request("a request for an event stream has no body");
    }
    let query = request.uri().query().unwrap_or_default();
    let mut wanted = match Wanted::parse(path, query, request.headers()) {
        Ok(wanted) => wanted,
        Err(text) => return bad_request(&text),
    };
    let topics_max = core.config().subscriptions_max;
    if wanted.names.len() > topics_max {
        let text = format!(
            "more topics than a connection may have: MAX_SUBSCRIPTIONS_PER_CONNECTION is {topics_max}"
        );
        return error(StatusCode::BAD_REQUEST, ErrorCode::LimitExceeded, &text);
    }
    for name in &wanted.names {
        if let Err(text) = grant.check(Right::Subscribe, name) {
            return access::forbidden(&text);
        }
    }
    if is_draining(core) {
        // A browser takes 503 for the end of all, and does not come again. So it gets a stream that
        // says when to, and ends.
        wanted.names.clear();
    }
    for name in &wanted.names {
        if let Err(refusal) = find(core, name).await {
            return refusal;
        }
    }
    let admission = match enter(core, caller, Some(&grant)) {
        Ok(admission) => admission,
        Err(refusal) => return *refusal,
    };
    if let Some(ticket) = tickets::of_query(query)
        && let Err(wrong) = tickets::redeem(core, &ticket)
    {
        return wrong.answer();
    }
    let stream = Stream {
        admission,
        address: caller.address,
        client_id: client_id(query),
        grant,
        topics: wanted.names.into_iter().zip(wanted.replays).collect(),
        policy: wanted.policy,
    };
    let mut answer = Answer::new(AnswerBody::Stream(Box::new(stream)));
    let headers = answer.headers_mut();
    let mut put = |name, value| headers.insert(name, HeaderValue::from_static(value));
    put(CONTENT_TYPE, "text/event-stream");
    put(CACHE_CONTROL, "no-store");
    // nginx holds answers back until it has a page of them, unless it is told.
    put(HeaderName::from_static("x-accel-buffering"), "no");
    put(CONNECTION, "close");
    answer
}

/// Sees to it that the topic is there, as far as that is allowed.
async fn find(core: &Core, name: &TopicName<'_>) -> Result<(), Answer> {
    let broker = &core.process().broker;
    let inbox = broker.inbox(broker.shard_of(name));
    let own = || Box::from(&**name);
    let found = ask(inbox, |reply| ShardRequest::Describe { name: own(), reply });
    match found.await {
        Some(Some(_)) => return Ok(()),
        Some(None) if core.config().auto_create_topics => {}
        Some(None) => return Err(not_found()),
        None => return Err(no_answer()),
    }
    let inbox = broker.lane_for(name);
    let created = ask(inbox, |reply| ShardRequest::Create { name: own(), reply });
    let created = created.await.ok_or_else(no_answer)?;
    not_created(core, created).map_or(Ok(()), Err)
}

/// Whether the client takes what it would get. One that says nothing takes everything.
fn takes_events(headers: &HeaderMap) -> bool {
    !headers.contains_key(ACCEPT)
        || has_one_of(headers, &ACCEPT, &["text/event-stream", "text/*", "*/*"])
}

/// What a client wants to hear.
#[derive(Debug, PartialEq)]
struct Wanted {
    names: Vec<TopicName<'static>>,
    /// One for each.
    replays: Vec<Replay>,
    policy: Policy,
}

impl Wanted {
    fn parse(path: Option<&str>, query: &str, headers: &HeaderMap) -> Result<Self, String> {
        let mut names = Vec::new();
        if let Some(name) = path {
            names.push(name_of(name)?);
        }
        let (mut last, mut positions) = (None, None);
        let (mut policy, mut max_rate) = (None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "topic" if path.is_none() => {
                    // Before it is known how many there are.
                    if names.len() == TOPICS_MAX {
                        return Err(format!("more than {TOPICS_MAX} topics in one stream"));
                    }
                    let name = TopicName::parse(value.into_owned());
                    let name = name.map_err(|wrong| wrong.to_string())?;
                    if names.contains(&name) {
                        return Err(format!("topic '{}' is named twice", &*name));
                    }
                    names.push(name);
                }
                "last" => {
                    let number = value.parse().map_err(|_| "last must be a whole number")?;
                    last = Some(number);
                }
                "policy" => policy = Some(value),
                "max_rate" => max_rate = Some(value),
                "since" => positions = Some(("since", value)),
                _ => {}
            }
        }
        if names.is_empty() {
            return Err("a topic is required: ?topic=NAME, one for each".into());
        }
        let header = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes);
        let header = header.map(String::from_utf8_lossy);
        // A browser has an empty one until it has seen an event.
        if let Some(header) = header.filter(|header| !header.is_empty()) {
            positions = Some(("Last-Event-ID", header));
        }
        let replays = if let Some((what, positions)) = positions {
            resume(what, &positions, names.len())?
        } else {
            let replay = last.map_or(Replay::None, Replay::Last);
            vec![replay; names.len()]
        };
        Ok(Self {
            names,
            replays,
            policy: Policy::parse(policy.as_deref(), max_rate.as_deref())?,
        })
    }
}

/// The positions in `text`, one for each topic in their order.
fn resume(what: &str, text: &str, topics: usize) -> Result<Vec<Replay>, String> {
    let positions: Option<Vec<_>> = text.split(',').map(since).collect();
    let positions = positions.filter(|positions| positions.len() == topics);
    positions.ok_or_else(|| match topics {
        1 => format!("{what} must be EPOCH:SEQ"),
        _ => format!(
            "{what} must be {topics} times EPOCH:SEQ with commas, in the order of the topics"
        ),
    })
}

/// Takes the socket over, and lets the stream begin.
pub(super) fn begin(core: &Rc<Core>, wire: Wire, answer: Answer) {
    let head = head(&answer);
    let AnswerBody::Stream(stream) = answer.into_body() else {
        return;
    };
    let Stream {
        admission,
        address,
        client_id,
        grant,
        topics,
        policy,
    } = *stream;
    // Who only listens says nothing by which it could be known to live: the kernel hears whether
    // its machine takes the heartbeats.
    let pong_wait = core.config().pong_wait;
    if let Err(error) = SockRef::from(&wire.socket).set_tcp_user_timeout(Some(pong_wait)) {
        tracing::warn!(%error, "an event stream may outlive its client");
    }
    let newcomer = Newcomer {
        wire,
        address,
        client_id,
        grant: Some(grant),
        entrance: Entrance::Stream {
            head,
            topics: topics.iter().map(|(name, _)| (**name).into()).collect(),
        },
    };
    let listener = core.adopt_listener(admission, newcomer, topics, policy);
    tokio::task::spawn_local(listener);
}

/// The head of `answer` as it is on the wire.
fn head(answer: &Answer) -> Vec<u8> {
    let mut head = Vec::from(*b"HTTP/1.1 200 OK\r\n");
    let mut put = |name: &HeaderName, value: &[u8]| {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    for (name, value) in answer.headers() {
        put(name, value.as_bytes());
    }
    put(&DATE, httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().copied().map(HeaderValue::from_static);
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn a_client_takes_events_unless_it_says_otherwise() {
        for (accept, takes) in [
            (&[][..], true),
            (&["*/*"], true),
            (&["text/html, Text/Event-Stream"], true),
            (&["application/json", "text/*;q=0.1"], true),
            (&["text/event-stream;q=0"], false),
            (&["text/html,application/json"], false),
            (&[""], false),
        ] {
            assert_eq!(takes_events(&headers(&ACCEPT, accept)), takes, "{accept:?}");
        }
    }

    #[test]
    fn a_header_wins_over_a_query_and_last_comes_after_since() {
        let parsed = |path, query, id: &[&'static str]| {
            Wanted::parse(path, query, &headers(&LAST_EVENT_ID, id)).map(|wanted| wanted.replays)
        };
        let at = |epoch: &str, seq| Replay::Since {
            epoch: epoch.into(),
            seq,
        };
        for (path, query, id, replays) in [
            (Some("t"), "", &[][..], vec![Replay::None]),
            (Some("t"), "last=3", &[""], vec![Replay::Last(3)]),
            (Some("t"), "last=3&since=a:1", &[], vec![at("a", 1)]),
            (Some("t"), "since=a:1", &["b:2"], vec![at("b", 2)]),
            (
                None,
                "topic=t&last=1&topic=u",
                &[],
                vec![Replay::Last(1); 2],
            ),
            (
                None,
                "topic=t&topic=u&since=a:1,b:2",
                &[],
                vec![at("a", 1), at("b", 2)],
            ),
        ] {
            assert_eq!(parsed(path, query, id), Ok(replays), "{query}");
        }
        let many: Vec<_> = (0..65).map(|n| format!("topic={n}")).collect();
        let many = many.join("&");
        for (path, query, id, text) in [
            (
                None,
                "",
                &[][..],
                "a topic is required: ?topic=NAME, one for each",
            ),
            (None, "topic=t&topic=t", &[], "topic 't' is named twice"),
            (None, &*many, &[], "more than 64 topics in one stream"),
            (Some("t"), "last=-1", &[], "last must be a whole number"),
            (Some("t"), "since=a", &[], "since must be EPOCH:SEQ"),
            (
                Some("t"),
                "",
                &["a:1,b:2"],
                "Last-Event-ID must be EPOCH:SEQ",
            ),
            (
                None,
                "topic=t&topic=u",
                &["a:1"],
                "Last-Event-ID must be 2 times EPOCH:SEQ with commas, in the order of the topics",
            ),
        ] {
            assert_eq!(parsed(path, query, id), Err(text.to_owned()), "{query}");
        }
    }
}
