//! `/connections`, and a topic's subscribers: who is connected, who lags, and who has gone.
//!
//! Every core is asked for the largest of its own, and the largest of those are the page. A page is
//! bounded like a piece of any other list.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, bad_request, error, json};
use super::listing::Turns;
use crate::broker::ConnectionId;
use crate::broker::directory::TopicEntry;
use crate::connection::Sort;
use crate::core::Core;
use crate::core::census::{Census, Dismissal, Look, Mark};
use crate::core::mailbox::{Letter, Mailbox};
use crate::process::Process;
use crate::protocol::codes::ErrorCode;
use crate::protocol::time::Timestamp;
use crate::roster::{Ended, Entry};

/// Connections on a page, unless the client says how many.
const PAGE: usize = 100;

/// Connections on a page at most: about 80 KB.
const PAGE_MAX: usize = 200;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    sort: Sort,
    count: usize,
    after: Option<Mark>,
    is_closed: bool,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, String> {
        let mut wanted = Self {
            sort: Sort::Lag,
            count: PAGE,
            after: None,
            is_closed: false,
        };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*key, &*value) {
                ("sort", "lag") => wanted.sort = Sort::Lag,
                ("sort", "dropped") => wanted.sort = Sort::Dropped,
                ("sort", "age") => wanted.sort = Sort::Age,
                ("sort", _) => return Err("sort must be lag, dropped or age".into()),
                ("limit", count) => {
                    let count = count.parse().ok();
                    let count = count.filter(|count| (1..=PAGE_MAX).contains(count));
                    let text = || format!("limit must be a number from 1 to {PAGE_MAX}");
                    wanted.count = count.ok_or_else(text)?;
                }
                ("after", after) => {
                    let text = "after must be what next was in the page before";
                    wanted.after = Some(after.parse().map_err(|()| text)?);
                }
                ("closed", "1" | "true") => wanted.is_closed = true,
                ("closed", "0" | "false") => wanted.is_closed = false,
                ("closed", _) => return Err("closed must be 1 or 0".into()),
                _ => {}
            }
        }
        Ok(wanted)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (figure, id) = text.split_once('-').ok_or(())?;
        let number = |digits| u64::from_str_radix(digits, 16).map_err(drop);
        Ok(Self {
            figure: number(figure)?,
            id: number(id)?,
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}-{:x}", self.figure, self.id)
    }
}

/// A connection.
#[derive(Serialize, ToSchema)]
#[schema(as = Connection)]
pub(super) struct Shown {
    id: String,
    /// Where the client is.
    address: String,
    /// What the client calls itself, or what the log calls it.
    #[schema(value_type = String)]
    client_id: Box<str>,
    /// The name of its key or token.
    #[schema(value_type = Option<String>)]
    key: Option<Box<str>>,
    /// `ws` or `sse`.
    transport: &'static str,
    since: String,
    subscriptions: usize,
    lag: ShownLag,
    /// Events that fell out of its ring, each announced.
    dropped: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Messages that it published.
    events_in: u64,
    /// Live events that the kernel took for it.
    events_out: u64,
    last_write: Option<String>,
    /// Of one connection: up to 1,000 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    topics: Option<Vec<Arc<str>>>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    ended: Option<ShownEnd>,
}

/// What waits for a connection.
#[derive(Serialize, ToSchema)]
#[schema(as = Lag)]
struct ShownLag {
    events: u64,
    age_ms: u64,
}

/// How a connection ended.
#[derive(Serialize, ToSchema)]
#[schema(as = End)]
struct ShownEnd {
    /// Of the close frame; 1005 for one without, 1006 for none.
    code: u16,
    #[schema(value_type = String)]
    reason: Box<str>,
    ended: String,
}

/// A page of connections.
#[derive(Serialize, ToSchema)]
pub(super) struct Connections {
    connections: Vec<Shown>,
    next: Option<String>,
}

/// A page of those who get a topic.
#[derive(Serialize, ToSchema)]
pub(super) struct Subscribers {
    subscribers: Vec<Shown>,
    next: Option<String>,
}

impl Shown {
    fn new(process: &Process, entry: Entry) -> Self {
        let Entry {
            id,
            address,
            client_id,
            transport,
            key,
            since_ms,
            subscriptions,
            lag,
            done,
        } = entry;
        Self {
            id: format!("{id:x}"),
            address: match address.port() {
                // A proxy has not said it.
                0 => address.ip().to_string(),
                _ => address.to_string(),
            },
            client_id,
            key,
            transport,
            since: when(process, since_ms),
            subscriptions,
            lag: ShownLag {
                events: lag.events,
                age_ms: lag.age_ms,
            },
            dropped: done.dropped,
            bytes_in: done.bytes_in,
            bytes_out: done.bytes_out,
            events_in: done.events_in,
            events_out: done.events_out,
            last_write: (done.last_write_ms > 0).then(|| when(process, done.last_write_ms)),
            topics: None,
            ended: None,
        }
    }

    fn ended(process: &Process, ended: &Ended) -> Self {
        Self {
            ended: Some(ShownEnd {
                code: ended.farewell.code,
                reason: ended.farewell.reason.clone(),
                ended: when(process, ended.ended_ms),
            }),
            ..Self::new(process, ended.entry.clone())
        }
    }
}

/// The moment so long after the start of the process.
fn when(process: &Process, since_start_ms: u64) -> String {
    let at = process.started_at + Duration::from_millis(since_start_ms);
    let at = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_unix_ms(unix_ms).as_str().to_owned()
}

/// `GET /connections`.
pub(super) async fn list(core: &Core, turns: &Turns, query: &str) -> Answer {
    let wanted = match Wanted::parse(query) {
        Ok(wanted) => wanted,
        Err(text) => return bad_request(&text),
    };
    let process = core.process();
    let (connections, next) = if wanted.is_closed {
        closed(process, &wanted)
    } else {
        open(core, turns, &wanted, None).await
    };
    json(StatusCode::OK, &Connections { connections, next })
}

/// `GET /topics/{name}/subscribers`.
pub(super) async fn subscribers(
    core: &Core,
    turns: &Turns,
    query: &str,
    topic: Arc<TopicEntry>,
) -> Answer {
    let wanted = match Wanted::parse(query) {
        Ok(wanted) if !wanted.is_closed => wanted,
        Ok(_) => return bad_request("closed is for /connections"),
        Err(text) => return bad_request(&text),
    };
    let (subscribers, next) = open(core, turns, &wanted, Some(topic)).await;
    json(StatusCode::OK, &Subscribers { subscribers, next })
}

async fn open(
    core: &Core,
    turns: &Turns,
    wanted: &Wanted,
    among: Option<Arc<TopicEntry>>,
) -> (Vec<Shown>, Option<String>) {
    // A crowd of those who ask is served one after the other.
    let turn = turns.take().await;
    let census = |reply| {
        Letter::Census(Census {
            among: among.clone(),
            sort: wanted.sort,
            after: wanted.after,
            // One more shows whether there is another page.
            count: wanted.count + 1,
            reply,
        })
    };
    let lists: Vec<_> = core.mailboxes().iter().map(|to| to.ask(census)).collect();
    let mut entries = Vec::new();
    for list in lists {
        entries.append(&mut list.await.unwrap_or_default());
    }
    drop(turn);
    entries.sort_unstable_by_key(|(mark, _)| Reverse(*mark));
    let is_last = entries.len() <= wanted.count;
    entries.truncate(wanted.count);
    let last = entries.last().filter(|_| !is_last);
    let next = last.map(|(mark, _)| mark.to_string());
    let shown = |(_, entry)| Shown::new(core.process(), entry);
    (entries.into_iter().map(shown).collect(), next)
}

fn closed(process: &Process, wanted: &Wanted) -> (Vec<Shown>, Option<String>) {
    let before = wanted.after.map_or(u64::MAX, |after| after.figure);
    let mut ended = process.ledger.newest(before, wanted.count + 1);
    let is_last = ended.len() <= wanted.count;
    ended.truncate(wanted.count);
    let mark = |ended: &Arc<Ended>| Mark {
        figure: ended.number,
        id: ended.entry.id,
    };
    let next = ended.last().filter(|_| !is_last).map(mark);
    let shown = ended.iter().map(|ended| Shown::ended(process, ended));
    (shown.collect(), next.map(|next| next.to_string()))
}

/// `GET /connections/{id}`.
pub(super) async fn show(core: &Core, id: &str) -> Answer {
    let shown = match find(core, id) {
        Some((id, mailbox)) => {
            let shown = mailbox.ask(|reply| Letter::Look(Look { id, reply }));
            shown.await.ok().flatten()
        }
        None => None,
    };
    let Some((entry, topics)) = shown else {
        return nobody();
    };
    let shown = Shown {
        topics: Some(topics),
        ..Shown::new(core.process(), entry)
    };
    json(StatusCode::OK, &shown)
}

/// `DELETE /connections/{id}`.
pub(super) async fn dismiss(core: &Core, id: &str) -> Answer {
    let Some((id, mailbox)) = find(core, id) else {
        return nobody();
    };
    let done = mailbox.ask(|reply| Letter::Dismiss(Dismissal { id, reply }));
    if !done.await.unwrap_or(false) {
        return nobody();
    }
    let mut answer = Response::new(Vec::new().into());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn find<'c>(core: &'c Core, id: &str) -> Option<(ConnectionId, &'c Mailbox)> {
    let number = u64::from_str_radix(id.strip_suffix('/').unwrap_or(id), 16).ok()?;
    let id = ConnectionId::of_number(number);
    Some((id, core.mailboxes().get(id.core())?))
}

fn nobody() -> Answer {
    let text = "there is no such connection; GET /connections?closed=1 has those that have ended";
    error(StatusCode::NOT_FOUND, ErrorCode::BadRequest, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_one_before_ended() {
        let mark = Mark {
            figure: u64::MAX,
            id: 0x00ab_cdef,
        };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        let wanted = Wanted::parse(&format!("sort=age&after={mark}&limit=200"));
        let wanted = wanted.expect("a good query");
        assert_eq!((wanted.after, wanted.count), (Some(mark), 200));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (query, text) in [
            ("sort=name", "sort must be lag, dropped or age"),
            ("limit=0", "limit must be a number from 1 to 200"),
            ("limit=201", "limit must be a number from 1 to 200"),
            ("limit=-1", "limit must be a number from 1 to 200"),
            ("after=12", "after must be what next was in the page before"),
            (
                "after=x-y",
                "after must be what next was in the page before",
            ),
            ("closed=yes", "closed must be 1 or 0"),
        ] {
            assert_eq!(Wanted::parse(query), Err(text.into()), "{query}");
        }
    }
}
