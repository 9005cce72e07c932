//! The text of a command to its known fields, each still raw JSON.
//!
//! Everything is checked for syntax here, once; nothing is interpreted. Values stay spans of the input, so a
//! number is never rounded and a payload never rewritten. The scan of a value is iterative: no depth of
//! nesting can overflow the stack.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The known fields of a command. `None` is absent or `null`; of a repeated key the last one counts.
#[derive(Debug)]
pub(super) struct Fields<'a, M = Message<'a>> {
    pub(super) kind: Option<&'a str>,
    pub(super) request_id: Option<&'a str>,
    pub(super) topic: Option<&'a str>,
    pub(super) message: Option<M>,
    pub(super) last_n: Option<&'a str>,
    pub(super) since: Option<&'a str>,
    pub(super) positions: Option<&'a str>,
    pub(super) policy: Option<&'a str>,
    pub(super) max_rate: Option<&'a str>,
    pub(super) ack: Option<&'a str>,
    pub(super) api_key: Option<&'a str>,
    pub(super) token: Option<&'a str>,
}

/// The `message` of a publish.
#[derive(Debug)]
pub(super) enum Message<'a> {
    /// An object. `payload` may be `null`, which is a value like any other.
    Object {
        id: Option<&'a str>,
        payload: Option<&'a str>,
        once: Option<&'a str>,
    },
    /// Any other JSON value.
    NotAnObject,
}

/// The `since` of a subscribe. Unknown fields cost their scan and nothing else.
#[derive(Debug, Default)]
pub(super) struct Since<'a> {
    pub(super) epoch: Option<&'a str>,
    pub(super) seq: Option<&'a str>,
}

impl<'a> Since<'a> {
    /// Reads the fields; `None` if `json` is no object.
    pub(super) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

/// The `positions` of a subscribe, each still raw JSON. What is `null` is absent.
#[derive(Debug)]
pub(super) struct Positions<'a>(pub(super) Vec<(String, &'a str)>);

impl<'a> Positions<'a> {
    /// Reads the names; `None` if `json` is no object, or one of them holds a lone surrogate.
    pub(super) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_slice(json.as_bytes()).ok()
    }
}

/// Why a text has no fields.
#[derive(Debug)]
pub(super) enum FieldsError {
    /// The text is not JSON.
    Syntax(serde_json::Error),
    /// The text is JSON, but not an object.
    NotAnObject,
}

impl<'a> Fields<'a> {
    /// Reads the fields in one pass; a second one is made only when `message` is not an object.
    pub(super) fn read(text: &'a str) -> Result<Self, FieldsError> {
        // Names are read as bytes, so that an unknown one may hold a lone surrogate, and serde_json
        // then lets raw control characters pass. They are only legal as white space, which is rare.
        if holds_control(text.as_bytes())
            && let Err(error) = serde_json::from_str::<&RawValue>(text)
        {
            return Err(FieldsError::Syntax(error));
        }
        serde_json::from_str(text).or_else(|_| Self::read_any_message(text))
    }

    fn read_any_message(text: &'a str) -> Result<Self, FieldsError> {
        if let Err(error) = serde_json::from_str::<&RawValue>(text) {
            return Err(FieldsError::Syntax(error));
        }
        let fields: Fields<'a, &'a RawValue> =
            serde_json::from_str(text).map_err(|_| FieldsError::NotAnObject)?;
        let message = fields
            .message
            .and_then(|raw| not_null(raw))
            .map(|raw| serde_json::from_str(raw).unwrap_or(Message::NotAnObject));
        Ok(Self {
            kind: fields.kind,
            request_id: fields.request_id,
            topic: fields.topic,
            message,
            last_n: fields.last_n,
            since: fields.since,
            positions: fields.positions,
            policy: fields.policy,
            max_rate: fields.max_rate,
            ack: fields.ack,
            api_key: fields.api_key,
            token: fields.token,
        })
    }
}

/// The value of a JSON string, borrowed when it has no escapes. `None` when `json`, which must be one valid
/// JSON value, is not a string or holds a lone surrogate.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

fn not_null(raw: &RawValue) -> Option<&str> {
    Some(raw.get()).filter(|json| *json != "null")
}

enum FieldName {
    Kind,
    RequestId,
    Topic,
    Message,
    LastN,
    Since,
    Positions,
    Policy,
    MaxRate,
    Ack,
    ApiKey,
    Token,
    Id,
    Payload,
    Once,
    Epoch,
    Seq,
    Unknown,
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Bytes, not a str: an unknown key may hold a lone surrogate, and unknown keys are ignored.
        deserializer.deserialize_bytes(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = FieldName;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<FieldName, E> {
        Ok(match name {
            b"type" => FieldName::Kind,
            b"request_id" => FieldName::RequestId,
            b"topic" => FieldName::Topic,
            b"message" => FieldName::Message,
            b"last_n" => FieldName::LastN,
            b"since" => FieldName::Since,
            b"positions" => FieldName::Positions,
            b"policy" => FieldName::Policy,
            b"max_rate" => FieldName::MaxRate,
            b"ack" => FieldName::Ack,
            b"api_key" => FieldName::ApiKey,
            b"token" => FieldName::Token,
            b"id" => FieldName::Id,
            b"payload" => FieldName::Payload,
            b"once" => FieldName::Once,
            b"epoch" => FieldName::Epoch,
            b"seq" => FieldName::Seq,
            _ => FieldName::Unknown,
        })
    }
}

struct FieldsVisitor<M>(PhantomData<M>);

impl<'de, M: Deserialize<'de>> Deserialize<'de> for Fields<'de, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor(PhantomData))
    }
}

impl<'de, M: Deserialize<'de>> Visitor<'de> for FieldsVisitor<M> {
    type Value = Fields<'de, M>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a command")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields {
            kind: None,
            request_id: None,
            topic: None,
            message: None,
            last_n: None,
            since: None,
            positions: None,
            policy: None,
            max_rate: None,
            ack: None,
            api_key: None,
            token: None,
        };
        while let Some(name) = map.next_key()? {
            let field = match name {
                FieldName::Kind => &mut fields.kind,
                FieldName::RequestId => &mut fields.request_id,
                FieldName::Topic => &mut fields.topic,
                FieldName::LastN => &mut fields.last_n,
                FieldName::Since => &mut fields.since,
                FieldName::Positions => &mut fields.positions,
                FieldName::Policy => &mut fields.policy,
                FieldName::MaxRate => &mut fields.max_rate,
                FieldName::Ack => &mut fields.ack,
                FieldName::ApiKey => &mut fields.api_key,
                FieldName::Token => &mut fields.token,
                FieldName::Message => {
                    fields.message = Some(map.next_value()?);
                    continue;
                }
                FieldName::Id
                | FieldName::Payload
                | FieldName::Once
                | FieldName::Epoch
                | FieldName::Seq
                | FieldName::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = not_null(map.next_value()?);
        }
        Ok(fields)
    }
}

struct SinceVisitor;

impl<'de> Deserialize<'de> for Since<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SinceVisitor)
    }
}

impl<'de> Visitor<'de> for SinceVisitor {
    type Value = Since<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a position")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut since = Since::default();
        while let Some(name) = map.next_key()? {
            match name {
                FieldName::Epoch => since.epoch = not_null(map.next_value()?),
                FieldName::Seq => since.seq = not_null(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(since)
    }
}

struct PositionsVisitor;

impl<'de> Deserialize<'de> for Positions<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PositionsVisitor)
    }
}

impl<'de> Visitor<'de> for PositionsVisitor {
    type Value = Positions<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("positions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut positions = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            positions.extend(not_null(value).map(|json| (name, json)));
        }
        Ok(Positions(positions))
    }
}

struct MessageVisitor;

impl<'de> Deserialize<'de> for Message<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MessageVisitor)
    }
}

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut id = None;
        let mut payload = None;
        let mut once = None;
        while let Some(name) = map.next_key()? {
            match name {
                FieldName::Id => id = not_null(map.next_value()?),
                FieldName::Payload => payload = Some(map.next_value::<&RawValue>()?.get()),
                FieldName::Once => once = not_null(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Message::Object { id, payload, once })
    }
}

/// Whether a control character of ASCII below the blank is in `text`. The least of all bytes, since
/// that takes no branch for each and vectorizes.
fn holds_control(text: &[u8]) -> bool {
    text.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' '
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_borrowed_unless_they_have_escapes() {
        assert!(matches!(string(r#""aé""#), Some(Cow::Borrowed("aé"))));
        assert_eq!(string(r#""a\u0041\n""#).as_deref(), Some("aA\n"));
        for json in ["1", "null", "[\"a\"]", r#""\ud800""#] {
            assert_eq!(string(json), None, "{json}");
        }
    }

    #[test]
    fn a_message_of_another_kind_costs_no_other_field() {
        for message in ["1e400", "[1]", "true", r#""\ud800""#, "-0"] {
            let text = format!(r#"{{"message":{message},"request_id":"r"}}"#);
            let fields = Fields::read(&text).expect("an object");
            assert!(matches!(fields.message, Some(Message::NotAnObject)));
            assert_eq!(fields.request_id, Some("\"r\""));
        }
        let fields = Fields::read(r#"{"message":null}"#).expect("an object");
        assert!(fields.message.is_none());
    }
}
