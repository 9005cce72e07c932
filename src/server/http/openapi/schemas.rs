//! The schemas: those of what is sent, and the shapes of what is read or written piece by piece.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use super::super::access::KeyErrorBody;
use super::super::answer::ErrorBody;
use super::super::connections::{Connections, Shown, Subscribers};
use super::super::messages::{ErrorAt, Many, One};
use super::super::settings::Settings;
use super::super::stats::{Cluster, Health, Identity, Ready, Totals};
use super::super::tickets::Ticket;
use super::super::topics::{Described, TopicAnswer};

/// A topic in a list.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "lists are written while they leave: this is their shape"
)]
struct Listed {
    name: String,
    subscribers: usize,
}

/// All topics that a key may see.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Topics {
    topics: Vec<Listed>,
}

/// What was counted of a topic.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Counted {
    messages: u64,
    subscribers: usize,
    dropped: u64,
    bytes_in: u64,
    bytes_out: u64,
    seq: u64,
}

/// What was counted of every topic, and in all.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Stats {
    topics: BTreeMap<String, Counted>,
    totals: Totals,
    /// Of a node of a cluster.
    cluster: Option<Cluster>,
}

/// A message on a topic, as subscribers get it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "events are written by the broker")]
struct Event {
    r#type: String,
    topic: String,
    message: Message,
    ts: String,
    seq: u64,
}

/// What was published.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Message {
    id: String,
    /// Any JSON, byte for byte.
    payload: Value,
}

/// What a topic keeps.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Kept {
    topic: String,
    epoch: String,
    /// That of the topic's newest message.
    seq: u64,
    /// Whether nothing is missing, where `since` was given.
    recovered: Option<bool>,
    messages: Vec<Event>,
}

/// A topic to be created.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a body is read field by field, so that each fault has its words"
)]
struct NewTopic {
    /// 1 to 255 bytes of UTF-8, without control characters, `*` and `>`.
    #[schema(min_length = 1, pattern = r"^[^\u0000-\u001f\u007f-\u009f*>]+$")]
    name: String,
}

/// A message to be published.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct NewMessage {
    /// One is made if there is none.
    #[schema(pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    id: Option<String>,
    /// Any JSON, delivered byte for byte.
    payload: Value,
    /// Not if a message with its `id` is kept.
    once: Option<bool>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "shardcast",
        description = "An in-memory publish/subscribe broker over WebSockets. What goes over /ws and in event streams is described by docs/asyncapi.yaml (AsyncAPI 3.0) in its repository."
    ),
    components(schemas(
        Cluster,
        Connections,
        Counted,
        Described<'_>,
        ErrorAt<'_>,
        ErrorBody<'_>,
        Event,
        Health,
        Identity,
        Kept,
        KeyErrorBody,
        Listed,
        Many<'_>,
        NewMessage,
        NewTopic,
        One<'_>,
        Ready,
        Settings,
        Shown,
        Stats,
        Subscribers,
        Ticket<'_>,
        TopicAnswer<'_>,
        Topics,
        Totals
    ))
)]
pub(super) struct Schemas;
