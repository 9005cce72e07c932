//! Changes as groups of an entry, and back.

use shardcast_cluster::entry::{self, Draft, Group, Kind, Message};
use tokio::sync::oneshot;

use crate::broker::ConnectionId;
use crate::broker::request::{Creation, Posted, Publishes, Request};
use crate::protocol::names::TopicName;
use crate::protocol::post::Post;
use crate::protocol::time::Moment;

/// What a message takes in an entry beside its texts, at most.
const MESSAGE_OVERHEAD_BYTES: usize = 16;

/// The topic that decides where a change goes; none for what is no change.
pub(super) fn topic_of(request: &Request) -> Option<&str> {
    match request {
        Request::Publish(publishes) => publishes.items.first().map(|item| publishes.topic(item)),
        Request::Subscribe { topic, .. } => Some(topic),
        Request::Post(posted) => Some(&posted.topic),
        Request::Create { name, .. } | Request::Delete { name, .. } => Some(name),
        _ => None,
    }
}

/// Bytes that a change takes in an entry, at most.
pub(super) fn bytes_max(request: &Request) -> usize {
    let (texts, messages) = match request {
        Request::Publish(publishes) => (publishes.text.len(), publishes.items.len()),
        Request::Post(posted) => {
            let texts = posted.messages.iter();
            let texts = texts.map(|message| message.id.len() + message.payload.len());
            (
                posted.topic.len() + texts.sum::<usize>(),
                posted.messages.len(),
            )
        }
        other => (topic_of(other).map_or(0, str::len), 1),
    };
    texts + (messages + 1) * MESSAGE_OVERHEAD_BYTES
}

/// Writes a change.
pub(super) fn write(request: &Request, creation: Creation, draft: &mut Draft) {
    let creation = match creation {
        Creation::Never => entry::Creation::Never,
        Creation::Allowed => entry::Creation::Allowed,
        Creation::Full => entry::Creation::Full,
    };
    match request {
        Request::Publish(publishes) => {
            let messages = publishes.items.iter().map(|item| Message {
                topic: publishes.topic(item),
                id: publishes.id(item),
                payload: publishes.payload(item),
                once: item.once,
            });
            draft.messages(Kind::Messages, creation, messages);
        }
        Request::Post(posted) => {
            let messages = posted.messages.iter().map(|message| Message {
                topic: &posted.topic,
                id: &message.id,
                payload: &message.payload,
                once: message.once,
            });
            draft.messages(Kind::Together, creation, messages);
        }
        Request::Create { name, .. } => draft.change(Kind::Create, creation, name),
        Request::Subscribe { topic, .. } => draft.change(Kind::Create, creation, topic),
        Request::Delete { name, .. } => draft.change(Kind::Delete, creation, name),
        _ => {}
    }
}

/// Whether its topics may be made.
pub(super) fn creation(group: &Group<'_>) -> Creation {
    match group.creation {
        entry::Creation::Never => Creation::Never,
        entry::Creation::Allowed => Creation::Allowed,
        entry::Creation::Full => Creation::Full,
    }
}

/// The change that a group is, for nobody here to be answered. None if it is not what a node writes.
pub(super) fn read(group: &Group<'_>, read_at: Moment) -> Option<Request> {
    let topic = group.messages.first()?.topic;
    let are_names = |message: &Message<'_>| TopicName::parse(message.topic).is_ok();
    if !group.messages.iter().all(are_names) {
        return None;
    }
    let request = match group.kind {
        Kind::Messages => {
            let mut publishes = Publishes::new(ConnectionId::NOBODY, read_at);
            for message in &group.messages {
                let Message {
                    topic,
                    id,
                    payload,
                    once,
                } = *message;
                publishes.push(topic, id, payload, "", false, once);
            }
            Request::Publish(publishes)
        }
        Kind::Together => Request::Post(Posted {
            topic: topic.into(),
            messages: group.messages.iter().map(post).collect(),
            read_at,
            reply: oneshot::channel().0,
        }),
        Kind::Create => Request::Create {
            name: topic.into(),
            reply: oneshot::channel().0,
        },
        Kind::Delete => Request::Delete {
            name: topic.into(),
            reply: oneshot::channel().0,
        },
    };
    Some(request)
}

fn post(message: &Message<'_>) -> Post {
    Post {
        id: message.id.into(),
        payload: message.payload.into(),
        once: message.once,
    }
}
