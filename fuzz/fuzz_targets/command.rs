//! A command is what a plain JSON parser reads of the same text, and its payload is a part of it.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use shardcast::pattern::has_wildcards;
use shardcast::protocol::command::{self, Command, Proof, Publish, Replay};

const DEPTH_MAX: usize = 16;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The text of `field`, the last one of that name, if it is there and not null.
fn raw<'a>(fields: &BTreeMap<String, &'a RawValue>, field: &str) -> Option<&'a str> {
    let raw = fields.get(field)?.get();
    (raw != "null").then_some(raw)
}

fn string(raw: Option<&str>) -> Option<String> {
    serde_json::from_str(raw?).ok()
}

fuzz_target!(|text: &str| {
    let fields: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(text).ok();
    let parsed = match command::parse(text, DEPTH_MAX) {
        Ok(parsed) => parsed,
        Err(bad) => {
            assert!(!bad.message.is_empty());
            if let Some(id) = bad.request_id {
                assert!(text.contains(id.as_json()));
            }
            return;
        }
    };
    let Some(fields) = fields else {
        // No String holds a name with half a surrogate pair, and who ignores it need not.
        assert!(text.contains("\\u") && serde_json::from_str::<IgnoredAny>(text).is_ok());
        return;
    };
    let kind = string(raw(&fields, "type")).expect("it has a type");
    let topic = string(raw(&fields, "topic"));
    match parsed {
        Command::Auth { proof, .. } => {
            assert_eq!(kind, "auth");
            let given = ["api_key", "token"].map(|name| string(raw(&fields, name)));
            let taken = proof.map(|proof| match proof {
                Proof::ApiKey(key) | Proof::Token(key) => key.into_owned(),
            });
            assert_eq!(taken, given.into_iter().flatten().next());
        }
        Command::Subscribe {
            topic: named,
            replay,
            ..
        } => {
            assert_eq!(
                (kind.as_str(), topic.as_deref()),
                ("subscribe", Some(&*named))
            );
            if let Replay::Since { seq, .. } = replay {
                assert!(
                    raw(&fields, "since")
                        .expect("it was given")
                        .contains(&seq.to_string()[..1])
                );
            }
        }
        Command::Unsubscribe { topic: named, .. } => {
            assert_eq!(
                (kind.as_str(), topic.as_deref()),
                ("unsubscribe", Some(&*named))
            );
        }
        Command::SubscribePattern { pattern, .. } => {
            assert_eq!(
                (kind.as_str(), topic.as_deref()),
                ("subscribe", Some(pattern.as_str()))
            );
            assert!(has_wildcards(pattern.as_str()));
        }
        Command::UnsubscribePattern { pattern, .. } => {
            assert_eq!(
                (kind.as_str(), topic.as_deref()),
                ("unsubscribe", Some(pattern.as_str()))
            );
            assert!(has_wildcards(pattern.as_str()));
        }
        Command::Publish(Publish {
            topic: named,
            id,
            payload,
            ..
        }) => {
            assert_eq!(
                (kind.as_str(), topic.as_deref()),
                ("publish", Some(&*named))
            );
            let message: BTreeMap<String, &RawValue> =
                serde_json::from_str(raw(&fields, "message").expect("a publish has a message"))
                    .expect("which is an object");
            assert_eq!(string(raw(&message, "id")).as_deref(), Some(&*id));
            // A part of the input, byte for byte, and not a copy; null where there is none.
            assert_eq!(
                message.get("payload").map_or("null", |raw| raw.get()),
                payload
            );
            let within = text.as_bytes().as_ptr_range();
            assert!(within.contains(&payload.as_ptr()) || !message.contains_key("payload"));
            serde_json::from_str::<IgnoredAny>(payload).expect("a payload is JSON");
            // Half a surrogate pair and 1e400 are JSON that no Value can hold.
            if let Ok(value) = serde_json::from_str::<Value>(payload) {
                assert!(depth(&value) <= DEPTH_MAX, "{payload}");
            }
        }
        Command::Ping { .. } => assert_eq!(kind, "ping"),
    }
});
