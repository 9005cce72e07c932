//! What this client sends and which names it takes, against the vectors that all clients share.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::command::{self, Past};
use crate::event::Position;
use crate::pattern::{check_name, matches};
use crate::subscription::Subscribe;

const PATTERNS: &str = include_str!("../../../tests/contract/patterns.json");
const FRAMES: &str = include_str!("../../../tests/contract/frames.json");

fn list(file: &str, part: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).expect("it is JSON");
    let list = file[part].as_array().expect("a list").clone();
    assert!(!list.is_empty());
    list
}

#[test]
fn patterns_mean_what_they_mean_everywhere() {
    for vector in list(PATTERNS, "vectors") {
        let of = |key: &str| vector[key].as_str().expect("text");
        check_name(of("pattern"), true).expect("a name or a pattern");
        let wanted = vector["matches"].as_bool().expect("one of two");
        assert_eq!(matches(of("pattern"), of("name")), wanted, "{vector}");
    }
    for name in list(PATTERNS, "invalid") {
        let name = name.as_str().expect("text");
        let error = check_name(name, true).expect_err(name);
        assert_eq!(error.code, "BAD_REQUEST");
    }
}

fn position(value: &Value) -> Position {
    Position {
        epoch: value["epoch"].as_str().expect("text").into(),
        seq: value["seq"].as_u64().expect("a number"),
    }
}

/// The text of a payload as it stands in the file, whose order a map would not keep.
fn payload(call: &Value, frame: &str) -> Box<RawValue> {
    #[derive(serde::Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        message: Inner<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    let frame: Outer<'_> = serde_json::from_str(frame).expect("a publish");
    let raw = frame.message.payload;
    let same: Value = serde_json::from_str(raw.get()).expect("JSON");
    assert_eq!(same, call["payload"]);
    raw.to_owned()
}

#[test]
fn a_call_is_the_frame_that_it_is_everywhere() {
    for vector in list(FRAMES, "commands") {
        let (call, wanted) = (&vector["call"], vector["frame"].as_str().expect("text"));
        let text = |key: &str| call[key].as_str();
        let frame = if let Some(name) = text("subscribe") {
            let past = match &call["since"] {
                Value::Object(since) if since.contains_key("epoch") => {
                    Past::After(position(&call["since"]))
                }
                Value::Object(since) => {
                    let all = since
                        .iter()
                        .map(|(topic, at)| (topic.as_str().into(), position(at)));
                    Past::AfterAll(all.collect())
                }
                _ => Past::Begins,
            };
            let rate = call["maxRate"]
                .as_u64()
                .map(|rate| u16::try_from(rate).expect("small"));
            let wish = Subscribe {
                last: call["last"].as_u64().unwrap_or_default(),
                latest: text("policy") == Some("latest"),
                max_rate: rate.and_then(std::num::NonZeroU16::new),
                ..Subscribe::default()
            };
            command::subscribe(name, &wish, &past)
        } else if let Some(name) = text("unsubscribe") {
            command::unsubscribe(name)
        } else if let Some(topic) = text("publish") {
            let once = call["once"].as_bool().expect("one of two");
            let payload = payload(call, wanted);
            command::publish(topic, text("id").expect("text"), payload.get(), once)
        } else if let Some(key) = call["auth"]["key"].as_str() {
            command::auth_key(key)
        } else if let Some(token) = call["auth"]["token"].as_str() {
            command::auth_token(token)
        } else {
            assert_eq!(call["ping"], true, "an unknown call");
            command::PING.to_owned()
        };
        assert_eq!(frame, wanted, "{}", vector["name"]);
        let numbered = command::numbered(&frame, 7);
        let value: Value = serde_json::from_str(&numbered).expect("JSON");
        assert_eq!(value["request_id"], "7");
    }
}

#[test]
fn as_many_positions_go_along_as_there_is_room_for() {
    let all = (0..100).map(|n| {
        let position = Position {
            epoch: "9f3c02be77a1d540".into(),
            seq: n,
        };
        (format!("orders.{n:03}").as_str().into(), position)
    });
    let fitting = command::fitting(all.collect(), 1000);
    assert!((15..20).contains(&fitting.len()), "{}", fitting.len());
    let past = Past::AfterAll(fitting);
    let command = command::subscribe("orders.*", &Subscribe::default(), &past);
    assert!(command.len() < 1100, "{command}");
}
