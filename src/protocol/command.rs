//! One message of a client to one command, borrowed from its text.
//!
//! A command that comes out is complete and checked; one that does not is a [`BadCommand`], which becomes
//! `BAD_REQUEST` while the connection lives on. The payload of a publish is never decoded: it is a slice of
//! the input, so every spelling of a number, key order and white space survives. No input panics or recurses.

use std::borrow::Cow;

use uuid::Uuid;

use super::codes::MESSAGE_ID_NOT_UUID_TEXT;
use super::depth::nests_deeper;
use super::fields::{self, Fields, FieldsError, Message};
use super::json;
use super::names::{RequestId, TopicName};
use super::policy::Policy;
use crate::pattern::{self, Pattern};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// Prove the right to be here.
    Auth {
        /// Echoed in the reply.
        request_id: Option<RequestId<'a>>,
        /// Not yet compared with anything. `None` if there is none, or no string.
        proof: Option<Proof<'a>>,
    },
    /// Receive a topic's events.
    Subscribe {
        /// Echoed in the reply.
        request_id: Option<RequestId<'a>>,
        /// Of which.
        topic: TopicName<'a>,
        /// What to send of the past.
        replay: Replay<'a>,
        /// What to send of what is to come.
        policy: Policy,
    },
    /// Receive no more events of a topic.
    Unsubscribe {
        /// Echoed in the reply.
        request_id: Option<RequestId<'a>>,
        /// Of which.
        topic: TopicName<'a>,
    },
    /// Receive the events of all topics that a pattern means, also of those to come.
    SubscribePattern {
        /// Echoed in the reply.
        request_id: Option<RequestId<'a>>,
        /// Which topics.
        pattern: Pattern,
        /// What to send of their past.
        past: Past,
        /// What to send of what is to come.
        policy: Policy,
        /// The reply is to say where live events begin in each of them.
        wants_positions: bool,
    },
    /// Receive no more events on account of a pattern.
    UnsubscribePattern {
        /// Echoed in the reply.
        request_id: Option<RequestId<'a>>,
        /// Which.
        pattern: Pattern,
    },
    /// Send a message to a topic.
    Publish(Publish<'a>),
    /// Ask for a sign of life.
    Ping {
        /// Echoed in the reply.
        request_id: Option<RequestId<'a>>,
    },
}

/// What a client says that it may be here by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof<'a> {
    /// A key. It counts where there is a token too, as it did before there were any.
    ApiKey(Cow<'a, str>),
    /// A token.
    Token(Cow<'a, str>),
}

/// A message on its way to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Echoed in the ack.
    pub request_id: Option<RequestId<'a>>,
    /// Which.
    pub topic: TopicName<'a>,
    /// A UUID as the client spelled it: hyphenated, simple, braced or `urn:uuid:`. No such text needs
    /// escaping in JSON.
    pub id: Cow<'a, str>,
    /// One valid JSON value, byte for byte as it was sent, without white space around it.
    pub payload: &'a str,
    /// Whether the client wants an ack; errors come in any case.
    pub ack: bool,
    /// It is not to be published if one with its id is kept.
    pub once: bool,
}

/// What a subscriber wants of the past. Where a command holds both fields, `since` wins over `last_n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay<'a> {
    /// Nothing.
    None,
    /// The newest so many messages, or what there is of them.
    Last(u64),
    /// Everything after a message that it has seen.
    Since {
        /// The epoch of the topic in which that message was sent.
        epoch: Cow<'a, str>,
        /// The sequence number of that message.
        seq: u64,
    },
}

/// What a subscriber to several topics wants of the past of each. Where a command holds both fields, an object
/// `positions` wins over `last_n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// Nothing.
    None,
    /// The newest so many messages of each, or what there is of them.
    Last(u64),
    /// Everything after what it has seen of each, and all of those that it has seen nothing of.
    After(Vec<Seen>),
}

/// The last message of a topic that a subscriber has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which topic, or what is none.
    pub topic: Box<str>,
    /// The epoch of the topic in which that message was sent.
    pub epoch: Box<str>,
    /// The sequence number of that message.
    pub seq: u64,
}

/// A command that cannot be understood. Its code is always `BAD_REQUEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadCommand<'a> {
    /// Echoed in the error, whenever the text held one that could be read.
    pub request_id: Option<RequestId<'a>>,
    /// What is wrong, in words for the client.
    pub message: Cow<'static, str>,
    /// It was meant as an `auth`.
    pub is_auth: bool,
}

/// How much of a client's own text is quoted back to it.
const QUOTED_BYTES_MAX: usize = 32;

/// Reads one command.
///
/// Unknown fields are ignored, `null` stands for an absent field everywhere but in `payload`, and of a
/// repeated key the last one counts, as in a browser. `payload_depth_max` bounds how deep objects and arrays
/// nest inside the payload; unknown fields may nest as they like.
pub fn parse(text: &str, payload_depth_max: usize) -> Result<Command<'_>, BadCommand<'_>> {
    let fields = Fields::read(text).map_err(|error| BadCommand {
        request_id: None,
        message: fields_error_text(&error),
        is_auth: false,
    })?;
    let is_auth = fields.kind == Some(r#""auth""#);
    let request_id = fields
        .request_id
        .map(RequestId::from_value)
        .transpose()
        .map_err(|error| BadCommand {
            request_id: None,
            message: error.to_string().into(),
            is_auth,
        })?;
    interpret(&fields, request_id, payload_depth_max).map_err(|message| BadCommand {
        request_id,
        message,
        is_auth,
    })
}

type Text = Cow<'static, str>;

fn interpret<'a>(
    fields: &Fields<'a>,
    request_id: Option<RequestId<'a>>,
    payload_depth_max: usize,
) -> Result<Command<'a>, Text> {
    match kind(fields.kind)?.as_ref() {
        "publish" => publish(fields, request_id, payload_depth_max).map(Command::Publish),
        "subscribe" => subscribe(fields, request_id),
        "unsubscribe" => match target(fields.topic)? {
            Target::Topic(topic) => Ok(Command::Unsubscribe { request_id, topic }),
            Target::Pattern(pattern) => Ok(Command::UnsubscribePattern {
                request_id,
                pattern,
            }),
        },
        "ping" => Ok(Command::Ping { request_id }),
        "auth" => Ok(Command::Auth {
            request_id,
            proof: proof(fields),
        }),
        unknown => Err(unknown_kind_text(unknown)),
    }
}

/// Kept out of what reads publishes, which the compiler then makes shorter.
#[inline(never)]
fn subscribe<'a>(
    fields: &Fields<'a>,
    request_id: Option<RequestId<'a>>,
) -> Result<Command<'a>, Text> {
    let target = target(fields.topic)?;
    let policy = policy(fields)?;
    match target {
        Target::Topic(topic) => Ok(Command::Subscribe {
            request_id,
            topic,
            replay: replay(fields)?,
            policy,
        }),
        Target::Pattern(pattern) => Ok(Command::SubscribePattern {
            request_id,
            pattern,
            past: past(fields)?,
            policy,
            wants_positions: wants_positions(fields.positions)?,
        }),
    }
}

fn publish<'a>(
    fields: &Fields<'a>,
    request_id: Option<RequestId<'a>>,
    payload_depth_max: usize,
) -> Result<Publish<'a>, Text> {
    let topic = topic(fields.topic)?;
    let (id, payload, once) = match fields.message {
        Some(Message::Object { id, payload, once }) => (id, payload, once),
        Some(Message::NotAnObject) => return Err("message must be an object".into()),
        None => return Err("message is required".into()),
    };
    let id = required_string("message.id", id)?;
    if Uuid::try_parse(&id).is_err() {
        return Err(MESSAGE_ID_NOT_UUID_TEXT.into());
    }
    let payload = payload.unwrap_or("null");
    if nests_deeper(payload, payload_depth_max) {
        return Err(format!(
            "nesting is too deep: at most {payload_depth_max} levels are allowed in a payload"
        )
        .into());
    }
    Ok(Publish {
        request_id,
        topic,
        id,
        payload,
        ack: ack(fields.ack)?,
        once: self::once(once)?,
    })
}

fn proof<'a>(fields: &Fields<'a>) -> Option<Proof<'a>> {
    let string = |field: Option<&'a str>| field.and_then(fields::string);
    let api_key = string(fields.api_key).map(Proof::ApiKey);
    api_key.or_else(|| string(fields.token).map(Proof::Token))
}

fn kind(json: Option<&str>) -> Result<Cow<'_, str>, Text> {
    let json = json.ok_or("type is required: auth, subscribe, unsubscribe, publish or ping")?;
    fields::string(json).ok_or_else(|| {
        "type must be a string: auth, subscribe, unsubscribe, publish or ping".into()
    })
}

fn topic(json: Option<&str>) -> Result<TopicName<'_>, Text> {
    let topic = required_string("topic", json)?;
    let topic = TopicName::parse(topic).map_err(|error| error.to_string())?;
    Ok(topic)
}

/// What a subscribe is about.
enum Target<'a> {
    Topic(TopicName<'a>),
    Pattern(Pattern),
}

fn target(json: Option<&str>) -> Result<Target<'_>, Text> {
    let name = required_string("topic", json)?;
    if pattern::has_wildcards(&name) {
        let pattern = Pattern::parse(&name).map_err(|error| error.to_string())?;
        return Ok(Target::Pattern(pattern));
    }
    let topic = TopicName::parse(name).map_err(|error| error.to_string())?;
    Ok(Target::Topic(topic))
}

fn wanted_last_n(fields: &Fields<'_>) -> Result<Option<u64>, Text> {
    let last_n = fields.last_n.map(last_n);
    Ok(last_n
        .map(|count| count.ok_or("last_n must be an integer"))
        .transpose()?)
}

fn replay<'a>(fields: &Fields<'a>) -> Result<Replay<'a>, Text> {
    let last_n = wanted_last_n(fields)?;
    let Some(since) = fields.since else {
        return Ok(last_n.map_or(Replay::None, Replay::Last));
    };
    let (epoch, seq) = position("since", since)?;
    Ok(Replay::Since { epoch, seq })
}

/// Epoch and sequence number of an object that is called `name`.
fn position<'a>(name: &str, json: &'a str) -> Result<(Cow<'a, str>, u64), Text> {
    let since = fields::Since::read(json).ok_or_else(|| format!("{name} must be an object"))?;
    let epoch = required_string(&format!("{name}.epoch"), since.epoch)?;
    let seq = since.seq.and_then(integer);
    let seq = seq.ok_or_else(|| format!("{name}.seq must be a non-negative integer"))?;
    Ok((epoch, seq))
}

fn past(fields: &Fields<'_>) -> Result<Past, Text> {
    if fields.since.is_some() {
        return Err("since is for one topic: a pattern goes on by positions".into());
    }
    let last_n = wanted_last_n(fields)?;
    match fields.positions.filter(|json| json.starts_with('{')) {
        None => Ok(last_n.map_or(Past::None, Past::Last)),
        Some(positions) => {
            let positions = fields::Positions::read(positions);
            let positions = positions.ok_or("positions has a name that is no text")?;
            let seen = positions.0.into_iter().map(|(topic, json)| {
                let (epoch, seq) = position("positions[…]", json)?;
                Ok(Seen {
                    topic: topic.into(),
                    epoch: epoch.into(),
                    seq,
                })
            });
            Ok(Past::After(seen.collect::<Result<_, Text>>()?))
        }
    }
}

/// Who says where it stands is told where it stands now, or it could not go on from there.
fn wants_positions(json: Option<&str>) -> Result<bool, Text> {
    match json {
        Some("true") => Ok(true),
        Some("false") | None => Ok(false),
        Some(json) if json.starts_with('{') => Ok(true),
        Some(_) => Err("positions must be an object, true or false".into()),
    }
}

fn policy(fields: &Fields<'_>) -> Result<Policy, Text> {
    // What is no string is no policy that there is.
    let policy = fields
        .policy
        .map(|json| fields::string(json).unwrap_or_default());
    Ok(Policy::parse(policy.as_deref(), fields.max_rate)?)
}

fn ack(json: Option<&str>) -> Result<bool, Text> {
    match json {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err("ack must be true or false".into()),
    }
}

fn once(json: Option<&str>) -> Result<bool, Text> {
    match json {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err("message.once must be true or false".into()),
    }
}

/// Any JSON integer: a negative one counts as 0, since clients send -1 for "none".
fn last_n(json: &str) -> Option<u64> {
    match json.strip_prefix('-') {
        Some(digits) => integer(digits).map(|_| 0),
        None => integer(json),
    }
}

/// A non-negative JSON integer; one beyond 64 bits is as good as the largest.
fn integer(json: &str) -> Option<u64> {
    let digits = json.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| json.parse().unwrap_or(u64::MAX))
}

fn required_string<'a>(name: &str, json: Option<&'a str>) -> Result<Cow<'a, str>, Text> {
    let json = json.ok_or_else(|| format!("{name} is required"))?;
    Ok(fields::string(json).ok_or_else(|| format!("{name} must be a string"))?)
}

fn unknown_kind_text(kind: &str) -> Text {
    let quoted = &kind[..kind.floor_char_boundary(QUOTED_BYTES_MAX)];
    let cut = if quoted.len() < kind.len() { "…" } else { "" };
    format!(
        "Unknown message type: '{quoted}{cut}'; auth, subscribe, unsubscribe, publish and ping are allowed"
    )
    .into()
}

fn fields_error_text(error: &FieldsError) -> Text {
    let error = match error {
        FieldsError::NotAnObject => return "a command must be a JSON object".into(),
        FieldsError::Syntax(error) => error,
    };
    let (line, column, cause) = (error.line(), error.column(), json::cause(error));
    let line = if line > 1 {
        format!("line {line} ")
    } else {
        String::new()
    };
    format!("invalid JSON: {cause} at {line}column {column}").into()
}

#[cfg(test)]
mod tests;
