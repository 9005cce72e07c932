//! JSON as text: where the order of keys and the spelling of numbers count, a parsed value says too little.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The keys of an object in the order of the text, a space between them.
pub(crate) fn keys(object: &str) -> String {
    let keys: Keys =
        serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
    keys.0.join(" ")
}

/// The text of one member of an object.
pub(crate) fn member(object: &str, key: &str) -> String {
    let members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
    members
        .get(key)
        .unwrap_or_else(|| panic!("no {key} in {object}"))
        .to_string()
}

/// A fresh message id.
pub(crate) fn message_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("550e8400-e29b-41d4-a716-{number:012x}")
}

/// The text of a `publish` whose payload is exactly this text.
pub(crate) fn publish_text(topic: &str, payload: &str) -> String {
    let (topic, id) = (Value::from(topic), message_id());
    format!(r#"{{"type":"publish","topic":{topic},"message":{{"id":"{id}","payload":{payload}}}}}"#)
}

/// The text with white space behind it, up to this many bytes.
pub(crate) fn padded(text: &str, bytes: usize) -> String {
    text.to_owned() + &" ".repeat(bytes - text.len())
}

/// The number under `key`.
pub(crate) fn number(message: &Value, key: &str) -> u64 {
    message[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {key} in {message}"))
}

/// Whether it reads like `2025-08-25T10:00:00.000Z`.
pub(crate) fn is_timestamp(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00T00:00:00.000Z"
}

struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
