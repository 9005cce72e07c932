//! The native dialect: every [`Answer`] as one complete text frame of JSON.
//!
//! Frames can be strung together in one buffer and leave in one write. The order of keys is part of
//! the contract, and so is the absence of absent things.

use super::answer::{Answer, Position};
use super::codes::ErrorCode;

use super::json::put_string;
use super::names::RequestId;
use super::time::Timestamp;
use super::websocket::frame;

/// Appends `answer`, given at `ts`.
pub fn encode(out: &mut Vec<u8>, answer: &Answer<'_>, ts: Timestamp) {
    frame::text(out, |out| json(out, answer, ts));
}

/// Appends the JSON of `answer`, given at `ts`, without a frame. It has no line breaks.
pub fn json(out: &mut Vec<u8>, answer: &Answer<'_>, ts: Timestamp) {
    match *answer {
        Answer::Published {
            request_id,
            topic,
            seq,
            matched,
            is_duplicate,
        } => {
            put_topic_ack(out, request_id, topic, ts);
            put_number(out, r#"","seq":"#, seq);
            put_number(out, r#","matched":"#, matched);
            if is_duplicate {
                out.extend_from_slice(br#","duplicate":true"#);
            }
            put(out, "}");
        }
        Answer::Subscribed {
            request_id,
            topic,
            epoch,
            seq,
            recovered,
        } => {
            put_topic_ack(out, request_id, topic, ts);
            put(out, r#"","epoch":"#);
            put_string(out, epoch);
            put_number(out, r#","seq":"#, seq);
            put(
                out,
                match recovered {
                    None => "}",
                    Some(true) => r#","recovered":true}"#,
                    Some(false) => r#","recovered":false}"#,
                },
            );
        }
        Answer::SubscribedToMany {
            request_id,
            topic,
            matched,
            positions,
            lost,
        } => {
            put_ack_of_many(out, request_id, topic, ts);
            put_number(out, r#"","matched":"#, matched);
            put_standing(out, positions, lost);
        }
        Answer::Unsubscribed { request_id, topic } => {
            put_topic_ack(out, request_id, topic, ts);
            put(out, r#""}"#);
        }
        Answer::Authenticated { request_id } => {
            put_type(out, "ack", request_id);
            put(out, r#","status":"authenticated""#);
            put_last_ts(out, ts);
        }
        Answer::Pong { request_id } => {
            put_type(out, "pong", request_id);
            put_last_ts(out, ts);
        }
        Answer::Error {
            request_id,
            code,
            message,
        } => {
            put_type(out, "error", request_id);
            put(out, r#","error":{"code":""#);
            put(out, code.as_str());
            put(out, r#"","message":"#);
            put_string(out, message);
            put(out, "}");
            put_last_ts(out, ts);
        }
        Answer::TooSoon {
            request_id,
            retry_after_ms,
        } => {
            put_too_soon(out, request_id, retry_after_ms, ts);
        }
        Answer::Lost { events } => put_lost(out, events, ts),
        Answer::Heartbeat => put_info(out, "ping", ts),
        Answer::ShuttingDown { retry_after_ms } => {
            put(out, r#"{"type":"info","msg":"shutting_down","ts":""#);
            put(out, ts.as_str());
            put_number(out, r#"","retry_after_ms":"#, retry_after_ms);
            put(out, "}");
        }
        Answer::TopicCreated { topic, epoch } => {
            put_topic_info(out, topic, "topic_created", ts);
            put(out, r#"","epoch":"#);
            put_string(out, epoch);
            put(out, "}");
        }
        Answer::TopicDeleted { topic } => {
            put_topic_info(out, topic, "topic_deleted", ts);
            put(out, r#""}"#);
        }
    }
}

/// The end of an ack for several topics.
fn put_standing(out: &mut Vec<u8>, positions: Option<&[Position<'_>]>, lost: Option<&[&str]>) {
    if let Some(positions) = positions {
        put_positions(out, positions);
    }
    if let Some(lost) = lost {
        put_recovered(out, lost);
    }
    put(out, "}");
}

/// `positions` of an ack for several topics.
fn put_positions(out: &mut Vec<u8>, positions: &[Position<'_>]) {
    put(out, r#","positions":{"#);
    for (index, Position { topic, epoch, seq }) in positions.iter().enumerate() {
        if index > 0 {
            put(out, ",");
        }
        put_string(out, topic);
        put(out, r#":{"epoch":"#);
        put_string(out, epoch);
        put_number(out, r#","seq":"#, *seq);
        put(out, "}");
    }
    put(out, "}");
}

/// `recovered` of an ack for several topics, and `lost` where it is false.
fn put_recovered(out: &mut Vec<u8>, lost: &[&str]) {
    if lost.is_empty() {
        return put(out, r#","recovered":true"#);
    }
    put(out, r#","recovered":false,"lost":["#);
    for (index, topic) in lost.iter().enumerate() {
        if index > 0 {
            put(out, ",");
        }
        put_string(out, topic);
    }
    put(out, "]");
}

fn put_too_soon(
    out: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    retry_after_ms: u64,
    ts: Timestamp,
) {
    put_type(out, "error", request_id);
    put(out, r#","error":{"code":""#);
    put(out, ErrorCode::LimitExceeded.as_str());
    put(out, r#"","message":"Rate limit exceeded"},"ts":""#);
    put(out, ts.as_str());
    put_number(out, r#"","retry_after_ms":"#, retry_after_ms);
    put(out, "}");
}

fn put_lost(out: &mut Vec<u8>, events: u64, ts: Timestamp) {
    put(out, r#"{"type":"error","error":{"code":""#);
    put(out, ErrorCode::SlowConsumer.as_str());
    put_number(out, r#"","message":"Subscriber queue overflow, "#, events);
    put(out, r#" messages dropped"},"ts":""#);
    put(out, ts.as_str());
    put_number(out, r#"","dropped":"#, events);
    put(out, "}");
}

fn put_info(out: &mut Vec<u8>, msg: &str, ts: Timestamp) {
    put(out, r#"{"type":"info","msg":""#);
    put(out, msg);
    put(out, r#"""#);
    put_last_ts(out, ts);
}

/// The same for a notice of a topic.
fn put_topic_info(out: &mut Vec<u8>, topic: &str, msg: &str, ts: Timestamp) {
    put(out, r#"{"type":"info","topic":"#);
    put_string(out, topic);
    put(out, r#","msg":""#);
    put(out, msg);
    put(out, r#"","ts":""#);
    put(out, ts.as_str());
}

/// From `{` to the open end of `ts`, whose closing quote the caller writes.
fn put_topic_ack(out: &mut Vec<u8>, request_id: Option<RequestId<'_>>, topic: &str, ts: Timestamp) {
    put_type(out, "ack", request_id);
    put_topic(out, topic);
    put_ok(out, ts);
}

/// The same where there may be no one topic to name.
fn put_ack_of_many(
    out: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    topic: Option<&str>,
    ts: Timestamp,
) {
    put_type(out, "ack", request_id);
    if let Some(topic) = topic {
        put_topic(out, topic);
    }
    put_ok(out, ts);
}

fn put_topic(out: &mut Vec<u8>, topic: &str) {
    put(out, r#","topic":"#);
    put_string(out, topic);
}

fn put_ok(out: &mut Vec<u8>, ts: Timestamp) {
    put(out, r#","status":"ok","ts":""#);
    put(out, ts.as_str());
}

fn put_type(out: &mut Vec<u8>, kind: &str, request_id: Option<RequestId<'_>>) {
    put(out, r#"{"type":""#);
    put(out, kind);
    put(out, r#"""#);
    if let Some(request_id) = request_id {
        put(out, r#","request_id":"#);
        put(out, request_id.as_json());
    }
}

fn put_last_ts(out: &mut Vec<u8>, ts: Timestamp) {
    put(out, r#","ts":""#);
    put(out, ts.as_str());
    put(out, r#""}"#);
}

fn put_number(out: &mut Vec<u8>, before: &str, number: u64) {
    put(out, before);
    put(out, itoa::Buffer::new().format(number));
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const TS: &str = "2025-08-25T10:00:00.000Z";

    fn ts() -> Timestamp {
        Timestamp::from_unix_ms(1_756_116_000_000)
    }

    fn id() -> Option<RequestId<'static>> {
        RequestId::from_json(r#""r-\u0031""#).ok()
    }

    /// Asserts that `answer` is one whole frame around `body`, which must be JSON. `…` in `body` stands for the timestamp.
    #[track_caller]
    fn assert_frame(answer: &Answer<'_>, body: &str) {
        let body = body.replace('…', TS);
        let mut out = Vec::new();
        encode(&mut out, answer, ts());
        let header_len = if body.len() < 126 {
            assert_eq!(usize::from(out[1]), body.len());
            2
        } else {
            assert_eq!(out[1], 126);
            assert_eq!(usize::from(out[2]) * 256 + usize::from(out[3]), body.len());
            4
        };
        assert_eq!(out[0], 0x81);
        assert_eq!(str::from_utf8(&out[header_len..]), Ok(body.as_str()));
        serde_json::from_str::<serde_json::Value>(&body).expect("a reply is JSON");

        let once = out.len();
        encode(&mut out, answer, ts());
        assert_eq!(out[..once], out[once..], "a second frame follows the first");
    }

    #[test]
    fn acks_are_those_of_the_contract() {
        let topic = "orders";
        assert_frame(
            &Answer::Unsubscribed {
                request_id: id(),
                topic,
            },
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders","status":"ok","ts":"…"}"#,
        );
        assert_frame(
            &Answer::Unsubscribed {
                request_id: None,
                topic,
            },
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…"}"#,
        );
        assert_frame(
            &Answer::Subscribed {
                request_id: id(),
                topic,
                epoch: "9f3c",
                seq: 42,
                recovered: None,
            },
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders","status":"ok","ts":"…","epoch":"9f3c","seq":42}"#,
        );
        assert_frame(
            &Answer::Subscribed {
                request_id: None,
                topic,
                epoch: "9f3c",
                seq: 0,
                recovered: Some(true),
            },
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…","epoch":"9f3c","seq":0,"recovered":true}"#,
        );
        assert_frame(
            &Answer::Subscribed {
                request_id: None,
                topic,
                epoch: "9f3c",
                seq: u64::MAX,
                recovered: Some(false),
            },
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…","epoch":"9f3c","seq":18446744073709551615,"recovered":false}"#,
        );
    }

    #[test]
    fn an_ack_for_several_topics_says_where_each_begins_and_what_is_lost() {
        let ack = |topic, positions, lost| Answer::SubscribedToMany {
            request_id: id(),
            topic,
            matched: 2,
            positions,
            lost,
        };
        assert_frame(
            &ack(Some("orders.*"), None, None),
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders.*","status":"ok","ts":"…","matched":2}"#,
        );
        let position = |topic, seq| Position {
            topic,
            epoch: "9f3c",
            seq,
        };
        let positions = [position("orders.\"eu", 42), position("orders.us", 0)];
        assert_frame(
            &ack(None, Some(&positions), Some(&[])),
            r#"{"type":"ack","request_id":"r-\u0031","status":"ok","ts":"…","matched":2,"positions":{"orders.\"eu":{"epoch":"9f3c","seq":42},"orders.us":{"epoch":"9f3c","seq":0}},"recovered":true}"#,
        );
        assert_frame(
            &ack(
                Some("orders.*"),
                Some(&[]),
                Some(&["orders.us", "orders.\"eu"]),
            ),
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders.*","status":"ok","ts":"…","matched":2,"positions":{},"recovered":false,"lost":["orders.us","orders.\"eu"]}"#,
        );
    }

    #[test]
    fn acks_without_a_subscription_are_those_of_the_contract() {
        let topic = "orders";
        assert_frame(
            &Answer::Published {
                request_id: id(),
                topic,
                seq: 43,
                matched: 3,
                is_duplicate: false,
            },
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders","status":"ok","ts":"…","seq":43,"matched":3}"#,
        );
        assert_frame(
            &Answer::Published {
                request_id: None,
                topic,
                seq: 1,
                matched: 0,
                is_duplicate: true,
            },
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…","seq":1,"matched":0,"duplicate":true}"#,
        );
        assert_frame(
            &Answer::Authenticated { request_id: id() },
            r#"{"type":"ack","request_id":"r-\u0031","status":"authenticated","ts":"…"}"#,
        );
        assert_frame(
            &Answer::Authenticated { request_id: None },
            r#"{"type":"ack","status":"authenticated","ts":"…"}"#,
        );
    }

    #[test]
    fn errors_are_those_of_the_contract() {
        assert_frame(
            &Answer::Error {
                request_id: id(),
                code: ErrorCode::TopicNotFound,
                message: "Topic 'orders' does not exist",
            },
            r#"{"type":"error","request_id":"r-\u0031","error":{"code":"TOPIC_NOT_FOUND","message":"Topic 'orders' does not exist"},"ts":"…"}"#,
        );
        assert_frame(
            &Answer::Error {
                request_id: None,
                code: ErrorCode::BadRequest,
                message: "a\"\\\n\u{1}é",
            },
            r#"{"type":"error","error":{"code":"BAD_REQUEST","message":"a\"\\\n\u0001é"},"ts":"…"}"#,
        );
        assert_frame(
            &Answer::Lost { events: 37 },
            r#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"Subscriber queue overflow, 37 messages dropped"},"ts":"…","dropped":37}"#,
        );
    }

    #[test]
    fn pongs_and_infos_are_those_of_the_contract() {
        assert_frame(
            &Answer::Pong { request_id: id() },
            r#"{"type":"pong","request_id":"r-\u0031","ts":"…"}"#,
        );
        assert_frame(
            &Answer::Pong { request_id: None },
            r#"{"type":"pong","ts":"…"}"#,
        );
        assert_frame(
            &Answer::Heartbeat,
            r#"{"type":"info","msg":"ping","ts":"…"}"#,
        );
        assert_frame(
            &Answer::TopicCreated {
                topic: "orders.us",
                epoch: "9f3c",
            },
            r#"{"type":"info","topic":"orders.us","msg":"topic_created","ts":"…","epoch":"9f3c"}"#,
        );
        assert_frame(
            &Answer::TopicDeleted { topic: "orders" },
            r#"{"type":"info","topic":"orders","msg":"topic_deleted","ts":"…"}"#,
        );
        assert_frame(
            &Answer::ShuttingDown {
                retry_after_ms: 1250,
            },
            r#"{"type":"info","msg":"shutting_down","ts":"…","retry_after_ms":1250}"#,
        );
    }
}
