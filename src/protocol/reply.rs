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

    /// Asserts one whole frame around `body`, which must be JSON. `…` in `body` stands for the timestamp.
    #[track_caller]
    fn assert_frame(write: impl Fn(&mut Vec<u8>), body: &str) {
        let body = body.replace('…', TS);
        let mut out = Vec::new();
        write(&mut out);
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
        write(&mut out);
        assert_eq!(out[..once], out[once..], "a second frame follows the first");
    }

    #[test]
    fn acks_are_those_of_the_contract() {
        let topic = r#""orders""#;
        assert_frame(
            |out| ack_unsubscribe(out, id(), topic, ts()),
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders","status":"ok","ts":"…"}"#,
        );
        assert_frame(
            |out| ack_unsubscribe(out, None, topic, ts()),
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…"}"#,
        );
        assert_frame(
            |out| ack_subscribe(out, id(), topic, ts(), "9f3c", 42, None),
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders","status":"ok","ts":"…","epoch":"9f3c","seq":42}"#,
        );
        assert_frame(
            |out| ack_subscribe(out, None, topic, ts(), "9f3c", 0, Some(true)),
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…","epoch":"9f3c","seq":0,"recovered":true}"#,
        );
        assert_frame(
            |out| ack_subscribe(out, None, topic, ts(), "9f3c", u64::MAX, Some(false)),
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…","epoch":"9f3c","seq":18446744073709551615,"recovered":false}"#,
        );
        assert_frame(
            |out| ack_publish(out, id(), topic, ts(), 43, 3, 0),
            r#"{"type":"ack","request_id":"r-\u0031","topic":"orders","status":"ok","ts":"…","seq":43,"matched":3,"dropped":0}"#,
        );
        assert_frame(
            |out| ack_publish(out, None, topic, ts(), 1, 0, 7),
            r#"{"type":"ack","topic":"orders","status":"ok","ts":"…","seq":1,"matched":0,"dropped":7}"#,
        );
        assert_frame(
            |out| ack_auth(out, id(), ts()),
            r#"{"type":"ack","request_id":"r-\u0031","status":"authenticated","ts":"…"}"#,
        );
        assert_frame(
            |out| ack_auth(out, None, ts()),
            r#"{"type":"ack","status":"authenticated","ts":"…"}"#,
        );
    }

    #[test]
    fn errors_are_those_of_the_contract() {
        assert_frame(
            |out| {
                error(
                    out,
                    id(),
                    ErrorCode::TopicNotFound,
                    "Topic 'orders' does not exist",
                    ts(),
                );
            },
            r#"{"type":"error","request_id":"r-\u0031","error":{"code":"TOPIC_NOT_FOUND","message":"Topic 'orders' does not exist"},"ts":"…"}"#,
        );
        assert_frame(
            |out| error(out, None, ErrorCode::BadRequest, "a\"\\\n\u{1}é", ts()),
            r#"{"type":"error","error":{"code":"BAD_REQUEST","message":"a\"\\\n\u0001é"},"ts":"…"}"#,
        );
        assert_frame(
            |out| slow_consumer(out, 37, ts()),
            r#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"Subscriber queue overflow, 37 messages dropped"},"ts":"…","dropped":37}"#,
        );
    }

    #[test]
    fn pongs_and_infos_are_those_of_the_contract() {
        assert_frame(
            |out| pong(out, id(), ts()),
            r#"{"type":"pong","request_id":"r-\u0031","ts":"…"}"#,
        );
        assert_frame(|out| pong(out, None, ts()), r#"{"type":"pong","ts":"…"}"#);
        assert_frame(
            |out| info_ping(out, ts()),
            r#"{"type":"info","msg":"ping","ts":"…"}"#,
        );
        assert_frame(
            |out| info_topic_deleted(out, r#""orders""#, ts()),
            r#"{"type":"info","topic":"orders","msg":"topic_deleted","ts":"…"}"#,
        );
        assert_frame(
            |out| info_shutting_down(out, ts()),
            r#"{"type":"info","msg":"shutting_down","ts":"…"}"#,
        );
    }

    #[test]
    fn strings_are_escaped_as_json() {
        for text in [
            "",
            "orders",
            "\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}é日\u{2028}😀",
        ] {
            let json = json_string(text);
            let mut out = Vec::new();
            put_json_string(&mut out, text);
            assert_eq!(out, json.as_bytes());
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }
}
