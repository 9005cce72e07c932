//! Frames from the server, complete with their WebSocket header, never masked and never fragmented.
//!
//! [`EventTemplate::encode`] is the hot path: each event is encoded once and shared by every subscriber, with
//! what is fixed for a topic copied from a head made when the topic was. Nothing here escapes an id or a
//! payload: the command parser lets only safe ones through.

use std::fmt;

use crate::protocol::codes::CloseCode;
use crate::protocol::json;
use crate::protocol::time::Timestamp;

const FINAL_TEXT: u8 = 0x81;
const FINAL_DEFLATED: u8 = 0xc1;
const FINAL_CLOSE: u8 = 0x88;
const FINAL_PING: u8 = 0x89;
const FINAL_PONG: u8 = 0x8a;

/// The longest payload of a control frame (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Appends one text frame around what `body` appends.
pub fn text(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    whole(out, FINAL_TEXT, body);
}

/// Appends one text frame, marked as deflated, around what `body` appends. Gives on what `body`
/// returns.
pub fn deflated(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    whole(out, FINAL_DEFLATED, body)
}

fn whole<R>(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let start = out.len();
    // Two bytes do for the header of most replies; a longer body moves up to make room.
    out.extend([first, 0]);
    let body_start = out.len();
    let returned = body(out);
    let body_len = out.len() - body_start;
    let header = Header::text(body_len);
    let extra = header.as_bytes().len() - (body_start - start);
    out.resize(out.len() + extra, 0);
    out.copy_within(body_start..body_start + body_len, body_start + extra);
    out[start..body_start + extra].copy_from_slice(header.as_bytes());
    out[start] = first;
    returned
}

/// Appends one ping frame. A payload over 125 bytes is cut.
pub fn ping(out: &mut Vec<u8>, payload: &[u8]) {
    control(out, FINAL_PING, payload);
}

/// Appends one pong frame. A payload over 125 bytes is cut; no legal ping holds one.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    control(out, FINAL_PONG, payload);
}

/// Appends one close frame. A reason over 123 bytes is cut between two characters.
pub fn close(out: &mut Vec<u8>, code: CloseCode, reason: &str) {
    let code = code.0.to_be_bytes();
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - code.len())];
    control(out, FINAL_CLOSE, &[&code, reason.as_bytes()].concat());
}

/// Appends a close frame without a code, the answer to one without.
pub fn close_without_code(out: &mut Vec<u8>) {
    control(out, FINAL_CLOSE, b"");
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the payload is cut to 125 bytes first"
)]
fn control(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    out.extend([first, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// The header of one text frame.
struct Header {
    bytes: [u8; 10],
    len: usize,
}

impl Header {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each arm has checked that the length fits"
    )]
    fn text(body_len: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = FINAL_TEXT;
        match body_len {
            0..=125 => bytes[1] = body_len as u8,
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(body_len as u16).to_be_bytes());
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(body_len as u64).to_be_bytes());
            }
        }
        Self {
            bytes,
            len: header_len(body_len),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

const fn header_len(body_len: usize) -> usize {
    match body_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// The text in a frame that [`text`] or [`EventTemplate::encode`] has made.
pub fn body(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(0..=125) => 2,
        Some(126) => 4,
        _ => 10,
    };
    frame.get(header..).unwrap_or_default()
}

/// Appends an event that [`EventTemplate::encode`] has made, with the number of those that it stands
/// for beside itself.
pub fn skipping(out: &mut Vec<u8>, event: &[u8], skipped: u64) {
    let body = body(event);
    let open = body.strip_suffix(AFTER_SEQ.as_bytes()).unwrap_or(body);
    skipping_behind(out, open, skipped);
}

/// Appends an event that [`skipping`] has made, with another number.
pub fn skipping_other(out: &mut Vec<u8>, event: &[u8], skipped: u64) {
    let body = body(event);
    // What it has appended begins with the last comma of the event.
    let open = body.iter().rposition(|byte| *byte == b',');
    skipping_behind(out, &body[..open.unwrap_or(body.len())], skipped);
}

fn skipping_behind(out: &mut Vec<u8>, open: &[u8], skipped: u64) {
    text(out, |out| {
        out.extend_from_slice(open);
        out.extend_from_slice(BEFORE_SKIPPED.as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(skipped).as_bytes());
        out.extend_from_slice(AFTER_SEQ.as_bytes());
    });
}

/// The part of an event that is the same for every message of a topic.
#[derive(Clone)]
pub struct EventTemplate {
    /// From `{` to the quote before the id.
    head: Box<str>,
    topic_json_len: usize,
}

const BEFORE_TOPIC: &str = r#"{"type":"event","topic":"#;
const BEFORE_ID: &str = r#","message":{"id":""#;
const BEFORE_PAYLOAD: &str = r#"","payload":"#;
const BEFORE_TS: &str = r#"},"ts":""#;
const BEFORE_SEQ: &str = r#"","seq":"#;
const BEFORE_SKIPPED: &str = r#","skipped":"#;
const AFTER_SEQ: &str = "}";

impl EventTemplate {
    /// Makes the template of a topic.
    pub fn new(topic: &str) -> Self {
        let topic_json = json::string(topic);
        Self {
            head: [BEFORE_TOPIC, &topic_json, BEFORE_ID].concat().into(),
            topic_json_len: topic_json.len(),
        }
    }

    /// The topic's name as a JSON string, quotes included.
    pub fn topic_json(&self) -> &str {
        &self.head[BEFORE_TOPIC.len()..BEFORE_TOPIC.len() + self.topic_json_len]
    }

    /// The length of the complete frame that [`encode`](Self::encode) appends.
    pub fn encoded_len(&self, id: &str, payload: &str, seq: u64) -> usize {
        let body_len = self.body_len(id, payload, seq);
        header_len(body_len) + body_len
    }

    /// Appends the complete frame of one event.
    ///
    /// `id` is the checked UUID of a publish and `payload` its valid JSON: both are copied as they are.
    pub fn encode(&self, out: &mut Vec<u8>, id: &str, payload: &str, ts: Timestamp, seq: u64) {
        let header = Header::text(self.body_len(id, payload, seq));
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(BEFORE_PAYLOAD.as_bytes());
        out.extend_from_slice(payload.as_bytes());
        out.extend_from_slice(BEFORE_TS.as_bytes());
        out.extend_from_slice(ts.as_bytes());
        out.extend_from_slice(BEFORE_SEQ.as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        out.extend_from_slice(AFTER_SEQ.as_bytes());
    }

    /// The id in an event that [`encode`](Self::encode) has appended.
    pub fn id<'f>(&self, frame: &'f [u8]) -> Option<&'f str> {
        let behind = body(frame).get(self.head.len()..)?;
        let end = behind.iter().position(|byte| *byte == b'"')?;
        str::from_utf8(behind.get(..end)?).ok()
    }

    /// The id, the payload and the time in an event that [`encode`](Self::encode) has appended with the
    /// number `seq`.
    pub fn parts<'f>(&self, frame: &'f [u8], seq: u64) -> Option<(&'f str, &'f str, Timestamp)> {
        let id = self.id(frame)?;
        let body = body(frame);
        let payload = self.head.len() + id.len() + BEFORE_PAYLOAD.len();
        let behind = BEFORE_SEQ.len() + decimal_len(seq) + AFTER_SEQ.len();
        let ts = body.len().checked_sub(behind + Timestamp::LEN)?;
        let payload = body.get(payload..ts.checked_sub(BEFORE_TS.len())?)?;
        let ts = body.get(ts..ts + Timestamp::LEN)?;
        let ts = Timestamp::from_text(str::from_utf8(ts).ok()?)?;
        Some((id, str::from_utf8(payload).ok()?, ts))
    }

    fn body_len(&self, id: &str, payload: &str, seq: u64) -> usize {
        const FIXED: usize = BEFORE_PAYLOAD.len()
            + BEFORE_TS.len()
            + Timestamp::LEN
            + BEFORE_SEQ.len()
            + AFTER_SEQ.len();
        self.head.len() + id.len() + payload.len() + FIXED + decimal_len(seq)
    }
}

impl fmt::Debug for EventTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("EventTemplate")
            .field(&self.topic_json())
            .finish()
    }
}

fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

    /// Reads a header by the letter of RFC 6455, section 5.2: first byte, header length, payload length.
    fn read_header(frame: &[u8]) -> (u8, usize, usize) {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        match frame[1] {
            126 => (frame[0], 4, number(&frame[2..4])),
            127 => (frame[0], 10, number(&frame[2..10])),
            short => (frame[0], 2, usize::from(short)),
        }
    }

    #[test]
    fn text_frames_take_the_shortest_length_form() {
        for (body_len, header_len) in [
            (0, 2),
            (1, 2),
            (125, 2),
            (126, 4),
            (127, 4),
            (65_535, 4),
            (65_536, 10),
            (70_000, 10),
        ] {
            let body: Vec<u8> = (0..body_len)
                .map(|at: u32| b'a' + (at % 26) as u8)
                .collect();
            let mut out = b"before".to_vec();
            text(&mut out, |out| out.extend_from_slice(&body));
            let frame = &out[6..];
            assert_eq!(read_header(frame), (0x81, header_len, body.len()));
            assert_eq!(frame[header_len..], body);
            assert_eq!(&out[..6], b"before");
        }
    }

    #[test]
    fn events_are_encoded_to_the_byte() {
        let template = EventTemplate::new("orders");
        let mut out = Vec::new();
        template.encode(&mut out, ID, "{\"a\": 1.0}", Timestamp::from_unix_ms(0), 42);
        let body = "{\"type\":\"event\",\"topic\":\"orders\",\"message\":{\"id\":\"550e8400-e29b-41d4-a716-446655440000\",\
            \"payload\":{\"a\": 1.0}},\"ts\":\"1970-01-01T00:00:00.000Z\",\"seq\":42}";
        assert_eq!(read_header(&out), (0x81, 4, body.len()));
        assert_eq!(str::from_utf8(&out[4..]), Ok(body));
        assert_eq!(template.topic_json(), "\"orders\"");
        let parts = template.parts(&out, 42);
        assert_eq!(
            parts,
            Some((ID, "{\"a\": 1.0}", Timestamp::from_unix_ms(0)))
        );
        assert_eq!(template.parts(&out, 4200), None);
    }

    #[test]
    fn the_encoded_length_is_exact() {
        let template = EventTemplate::new("a\"ü");
        let ts = Timestamp::from_unix_ms(1_756_116_000_000);
        let around = template.encoded_len("", "", 1) - 2;
        let boundaries = [125, 126, 65_535, 65_536].map(|body_len| body_len - around);
        for payload_len in boundaries.into_iter().chain(1..300) {
            for seq in [0, 1, 9, 10, 99, 100, 1_000_000, u64::MAX] {
                let payload = "7".repeat(payload_len);
                let mut out = Vec::new();
                template.encode(&mut out, "", &payload, ts, seq);
                assert_eq!(out.len(), template.encoded_len("", &payload, seq));
                let (first, header_len, body_len) = read_header(&out);
                assert_eq!((first, header_len + body_len), (0x81, out.len()));
                serde_json::from_slice::<serde::de::IgnoredAny>(&out[header_len..]).expect("JSON");
            }
        }
    }

    #[test]
    fn topics_are_escaped_once() {
        let template = EventTemplate::new("a\"b\\é");
        assert_eq!(template.topic_json(), r#""a\"b\\é""#);
        assert_eq!(
            format!("{template:?}"),
            r#"EventTemplate("\"a\\\"b\\\\é\"")"#
        );
    }

    #[test]
    fn control_frames_are_short() {
        let mut out = Vec::new();
        ping(&mut out, b"hi");
        pong(&mut out, b"");
        assert_eq!(out, b"\x89\x02hi\x8a\x00");
        out.clear();
        pong(&mut out, &[7; 126]);
        assert_eq!(read_header(&out), (0x8a, 2, 125));
        assert_eq!(out.len(), 127);
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let mut out = Vec::new();
        close(&mut out, CloseCode::GOING_AWAY, "bye");
        assert_eq!(out, b"\x88\x05\x03\xe9bye");
        for (reason, kept) in [("x".repeat(124), 123), ("é".repeat(62), 122)] {
            out.clear();
            close(&mut out, CloseCode::POLICY, &reason);
            assert_eq!(read_header(&out), (0x88, 2, 2 + kept));
            assert_eq!(out[4..], reason.as_bytes()[..kept]);
        }
    }
}
