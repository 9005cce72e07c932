//! Everything the server says but events: acks, errors, pongs, info.
//!
//! Each function appends one complete text frame, so replies can be strung together in one buffer and leave
//! in one write. The order of keys is part of the contract, and so is the absence of absent things.

use super::codes::ErrorCode;
use super::frame::{self, Timestamp};
use super::names::RequestId;

/// Acks a publish: its sequence number, the rings it was offered to, the older events it pushed out of them.
pub fn ack_publish(
    out: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    topic_json: &str,
    ts: Timestamp,
    seq: u64,
    matched: u64,
    dropped: u64,
) {
    frame::text(out, |out| {
        put_topic_ack(out, request_id, topic_json, ts);
        put_number(out, r#"","seq":"#, seq);
        put_number(out, r#","matched":"#, matched);
        put_number(out, r#","dropped":"#, dropped);
        put(out, "}");
    });
}

/// Acks a subscribe. `seq` is that of the newest message, 0 if none; `recovered` is given where `since` was.
pub fn ack_subscribe(
    out: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    topic_json: &str,
    ts: Timestamp,
    epoch: &str,
    seq: u64,
    recovered: Option<bool>,
) {
    frame::text(out, |out| {
        put_topic_ack(out, request_id, topic_json, ts);
        put(out, r#"","epoch":"#);
        put_json_string(out, epoch);
        put_number(out, r#","seq":"#, seq);
        put(
            out,
            match recovered {
                None => "}",
                Some(true) => r#","recovered":true}"#,
                Some(false) => r#","recovered":false}"#,
            },
        );
    });
}

/// Acks an unsubscribe.
pub fn ack_unsubscribe(
    out: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    topic_json: &str,
    ts: Timestamp,
) {
    frame::text(out, |out| {
        put_topic_ack(out, request_id, topic_json, ts);
        put(out, r#""}"#);
    });
}

/// Acks an auth.
pub fn ack_auth(out: &mut Vec<u8>, request_id: Option<RequestId<'_>>, ts: Timestamp) {
    frame::text(out, |out| {
        put_type(out, "ack", request_id);
        put(out, r#","status":"authenticated""#);
        put_last_ts(out, ts);
    });
}

/// Says what went wrong.
pub fn error(
    out: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    code: ErrorCode,
    message: &str,
    ts: Timestamp,
) {
    frame::text(out, |out| {
        put_type(out, "error", request_id);
        put(out, r#","error":{"code":""#);
        put(out, code.as_str());
        put(out, r#"","message":"#);
        put_json_string(out, message);
        put(out, "}");
        put_last_ts(out, ts);
    });
}

/// Tells a subscriber how many events its ring dropped since it was last told.
pub fn slow_consumer(out: &mut Vec<u8>, dropped: u64, ts: Timestamp) {
    frame::text(out, |out| {
        put(out, r#"{"type":"error","error":{"code":""#);
        put(out, ErrorCode::SlowConsumer.as_str());
        put_number(out, r#"","message":"Subscriber queue overflow, "#, dropped);
        put(out, r#" messages dropped"},"ts":""#);
        put(out, ts.as_str());
        put_number(out, r#"","dropped":"#, dropped);
        put(out, "}");
    });
}

/// Answers a ping command.
pub fn pong(out: &mut Vec<u8>, request_id: Option<RequestId<'_>>, ts: Timestamp) {
    frame::text(out, |out| {
        put_type(out, "pong", request_id);
        put_last_ts(out, ts);
    });
}

/// The heartbeat that scripts in a browser can see.
pub fn info_ping(out: &mut Vec<u8>, ts: Timestamp) {
    info(out, "ping", ts);
}

/// Tells a subscriber that its topic is gone, and its subscription with it.
pub fn info_topic_deleted(out: &mut Vec<u8>, topic_json: &str, ts: Timestamp) {
    frame::text(out, |out| {
        put(out, r#"{"type":"info","topic":"#);
        put(out, topic_json);
        put(out, r#","msg":"topic_deleted""#);
        put_last_ts(out, ts);
    });
}

/// Tells a client that the server is draining.
pub fn info_shutting_down(out: &mut Vec<u8>, ts: Timestamp) {
    info(out, "shutting_down", ts);
}

/// `text` as a JSON string, quoted and escaped.
#[expect(clippy::missing_panics_doc, reason = "every str has a JSON form")]
pub fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("every str has a JSON form")
}

/// Appends `text` as a JSON string, quoted and escaped.
#[expect(clippy::missing_panics_doc, reason = "writing to a Vec cannot fail")]
pub fn put_json_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to a Vec cannot fail");
}

fn info(out: &mut Vec<u8>, msg: &str, ts: Timestamp) {
    frame::text(out, |out| {
        put(out, r#"{"type":"info","msg":""#);
        put(out, msg);
        put(out, r#"""#);
        put_last_ts(out, ts);
    });
}

/// From `{` to the open end of `ts`, whose closing quote the caller writes.
fn put_topic_ack(
    out: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    topic_json: &str,
    ts: Timestamp,
) {
    put_type(out, "ack", request_id);
    put(out, r#","topic":"#);
    put(out, topic_json);
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
