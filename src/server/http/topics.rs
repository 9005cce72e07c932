//! `POST /topics` and `DELETE /topics/{name}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::access;
use super::answer::{Answer, bad_request, error, json, unavailable};
use super::body::{RequestBody, Unread};
use super::{Http, connections, is_draining};
use crate::access::grant::{Grant, Right};
use crate::broker::delivery::Refusal;
use crate::broker::inbox::Inbox;
use crate::broker::request::{Created, Description, Request as ShardRequest};
use crate::budget::{Booked, Kind};
use crate::core::Core;
use crate::protocol::codes::ErrorCode;
use crate::protocol::names::{TopicName, TopicNameError};

/// What became of a topic.
#[derive(Serialize, ToSchema)]
#[schema(as = TopicChanged)]
pub(super) struct TopicAnswer<'a> {
    status: &'static str,
    topic: &'a str,
}

/// Asks a shard, waiting for room in its inbox.
pub(super) async fn ask<T>(
    inbox: &Arc<Inbox>,
    request: impl FnOnce(oneshot::Sender<T>) -> ShardRequest,
) -> Option<T> {
    let (reply, replied) = oneshot::channel();
    inbox.send(request(reply)).await;
    replied.await.ok()
}

pub(super) async fn create(core: &Core, body: &mut RequestBody, grant: &Grant) -> Answer {
    let name = match read_name(core, body).await {
        Ok(name) => name,
        Err(refusal) => return refusal,
    };
    if let Err(text) = grant.check(Right::Manage, &name) {
        return access::forbidden(&text);
    }
    if is_draining(core) {
        return unavailable(core.config().reconnect_spread);
    }
    let inbox = core.process().broker.lane_for(&name);
    match ask(inbox, |reply| ShardRequest::Create {
        name: (&*name).into(),
        reply,
    })
    .await
    {
        Some(Created::Exists) => error(
            StatusCode::CONFLICT,
            ErrorCode::TopicExists,
            "topic already exists",
        ),
        Some(created) => not_created(core, created).unwrap_or_else(|| {
            json(
                StatusCode::CREATED,
                &TopicAnswer {
                    status: "created",
                    topic: &name,
                },
            )
        }),
        None => no_answer(),
    }
}

/// What a topic that is not there after all is answered with.
pub(super) fn not_created(core: &Core, created: Created) -> Option<Answer> {
    let why = match created {
        Created::Created | Created::Exists => return None,
        Created::NoMemory => "the memory budget is used up (MEMORY_BUDGET)".to_owned(),
        Created::LimitReached => format!("MAX_TOPICS is {}", core.config().topics_max),
        Created::Unavailable => return Some(refused(Refusal::Unavailable)),
    };
    let text = format!("no room for another topic: {why}");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Some(error(status, ErrorCode::LimitExceeded, &text))
}

/// What was not done, for a reason that is no topic's.
fn refused(refusal: Refusal) -> Answer {
    let (code, text) = refusal.describe("");
    error(StatusCode::SERVICE_UNAVAILABLE, code, &text)
}

/// A shard has not answered: the process is about to end.
pub(super) fn no_answer() -> Answer {
    error(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Internal,
        "the topic's shard did not answer",
    )
}

/// What a body that is read is booked as.
pub(super) fn book_input(core: &Core) -> Booked {
    let budget = Arc::clone(&core.process().budget);
    Booked::new(budget, core.local.index, Kind::Input, 0)
}

/// The answer to a body that could not be read.
pub(super) fn unread(why: &Unread, bytes_max: usize) -> Answer {
    match why {
        Unread::TooLong => error(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::MessageTooLarge,
            &format!("body over the limit of {bytes_max} bytes"),
        ),
        Unread::TooSlow => error(
            StatusCode::REQUEST_TIMEOUT,
            ErrorCode::BadRequest,
            "the body did not come within READ_TIMEOUT_SEC",
        ),
        Unread::Broken => bad_request("the body could not be read"),
        Unread::NoMemory => error(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::LimitExceeded,
            "no room for the body: the memory budget is used up (MEMORY_BUDGET)",
        ),
    }
}

/// The `name` in the body of a request, checked.
async fn read_name(core: &Core, body: &mut RequestBody) -> Result<TopicName<'static>, Answer> {
    let bytes_max = core.config().http_body_bytes_max;
    let mut booked = book_input(core);
    let read = body.read(bytes_max, &mut booked).await;
    let body = read.map_err(|why| unread(&why, bytes_max))?;
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&body)
        .map_err(|failed| bad_request(&format!("the body is not a JSON object: {failed}")))?;
    let name = match fields.get("name").map(|value| value.get()) {
        None | Some("null") => return Err(bad_request("name is required")),
        Some(name) => serde_json::from_str::<String>(name)
            .map_err(|_| bad_request("name must be a string"))?,
    };
    match TopicName::parse(name) {
        Ok(name) => Ok(name),
        Err(TopicNameError::Empty) => Err(bad_request("name is required")),
        Err(wrong) => Err(bad_request(&wrong.to_string())),
    }
}

/// A topic.
#[derive(Serialize, ToSchema)]
#[schema(as = Topic)]
pub(super) struct Described<'a> {
    name: &'a str,
    epoch: &'a str,
    seq: u64,
    subscribers: usize,
    messages: u64,
    kept: u64,
    dropped: u64,
    bytes: u64,
    created: &'a str,
}

/// Describes the topic that a path names, or lists its subscribers: as it stands, or else without
/// the slash at its end.
pub(super) async fn show(http: &Http, path: &str, query: &str, grant: &Grant) -> Answer {
    let core = &http.core;
    let mut forbidden = None;
    for path in [Some(path), path.strip_suffix('/')].into_iter().flatten() {
        let (name, is_list) = match path.strip_suffix("/subscribers") {
            Some(name) => (name, true),
            None => (path, false),
        };
        let Ok(name) = percent_decode_str(name).decode_utf8() else {
            break;
        };
        let checked = if is_list {
            grant.check_observe().and_then(|()| grant.check_see(&name))
        } else {
            grant.check_see(&name)
        };
        if let Err(text) = checked {
            forbidden = Some(text);
            continue;
        }
        let broker = &core.process().broker;
        let inbox = broker.inbox(broker.shard_of(&name));
        let description = ask(inbox, |reply| ShardRequest::Describe {
            name: (&*name).into(),
            reply,
        });
        let Some(Description { topic, kept }) = description.await.flatten() else {
            continue;
        };
        if is_list {
            return connections::subscribers(core, &http.turns, query, topic).await;
        }
        let of = topic.counters();
        return json(
            StatusCode::OK,
            &Described {
                name: topic.name(),
                epoch: topic.epoch(),
                seq: of.accepted.value(),
                subscribers: topic.subscribers(),
                messages: of.accepted.value(),
                kept,
                dropped: of.dropped.value(),
                bytes: of.history_bytes.value(),
                created: topic.created().as_str(),
            },
        );
    }
    forbidden.map_or_else(not_found, |text| access::forbidden(&text))
}

pub(super) fn not_found() -> Answer {
    error(
        StatusCode::NOT_FOUND,
        ErrorCode::TopicNotFound,
        "topic not found",
    )
}

/// Deletes the topic that a path names: as it stands, or else without the slash at its end.
pub(super) async fn delete(core: &Core, path: &str, grant: &Grant) -> Answer {
    if is_draining(core) {
        return unavailable(core.config().reconnect_spread);
    }
    let mut forbidden = None;
    for path in [Some(path), path.strip_suffix('/')].into_iter().flatten() {
        let Ok(name) = percent_decode_str(path).decode_utf8() else {
            break;
        };
        forbidden = grant.check(Right::Manage, &name).err();
        if forbidden.is_some() {
            continue;
        }
        match delete_exactly(core, &name).await {
            Ok(false) => {}
            Ok(true) => {
                return json(
                    StatusCode::OK,
                    &TopicAnswer {
                        status: "deleted",
                        topic: &name,
                    },
                );
            }
            Err(refusal) => return refused(refusal),
        }
    }
    if let Some(text) = forbidden {
        return access::forbidden(&text);
    }
    not_found()
}

async fn delete_exactly(core: &Core, name: &str) -> Result<bool, Refusal> {
    let inbox = core.process().broker.lane_for(name);
    let deleted = ask(inbox, |reply| ShardRequest::Delete {
        name: name.into(),
        reply,
    });
    deleted.await.unwrap_or(Ok(false))
}
