//! The contract's messages: publishes out of a template, events read in place, everything else through JSON.
//!
//! A payload is `{"n":1…,"p":1…,"t":1…,"pad":"…"}`: the publisher's number, the stream it belongs to and the time it was due.
//! Each number carries a leading 1 so that its width is fixed and it is still valid JSON below 2^53: a publish is a few
//! digits written into a finished frame, and an event is read at known offsets. An event that does not look exactly as it
//! was sent is not an event; the caller then asks [`Told::parse`] what it is.

use memchr::memmem::{self, FinderRev};
use serde_json::Value;
use simd_json::BorrowedValue;
use simd_json::derived::ValueObjectAccessAsScalar;
use simd_json::prelude::ValueObjectAccess;

use crate::frame::{MASK, TEXT, append_masked};

const NUMBER_BASE: u64 = 100_000_000_000;
const STREAM_BASE: u64 = 100_000;
const TIME_BASE: u64 = 1_000_000_000_000_000;
const NUMBER_DIGITS: usize = 12;
const STREAM_DIGITS: usize = 6;
const TIME_DIGITS: usize = 16;

const NUMBER_KEY: &[u8] = br#"{"n":"#;
const STREAM_KEY: &[u8] = br#","p":"#;
const TIME_KEY: &[u8] = br#","t":"#;
const PAD_KEY: &[u8] = br#","pad":""#;
const PAYLOAD_END: &[u8] = br#""}"#;
const SEQ_KEY: &[u8] = br#","seq":"#;

const NUMBER_AT: usize = NUMBER_KEY.len();
const STREAM_KEY_AT: usize = NUMBER_AT + NUMBER_DIGITS;
const STREAM_AT: usize = STREAM_KEY_AT + STREAM_KEY.len();
const TIME_KEY_AT: usize = STREAM_AT + STREAM_DIGITS;
const TIME_AT: usize = TIME_KEY_AT + TIME_KEY.len();
const PAD_KEY_AT: usize = TIME_AT + TIME_DIGITS;

/// The smallest payload: all its numbers and an empty pad.
pub(crate) const PAYLOAD_BYTES_MIN: usize = PAD_KEY_AT + PAD_KEY.len() + PAYLOAD_END.len();
/// More streams than this do not fit their digits.
pub(crate) const STREAMS_MAX: usize = 900_000;

/// One stream's publish, complete and masked; only digits change.
#[derive(Debug)]
pub(crate) struct PublishTemplate {
    frame: Vec<u8>,
    payload_start: usize,
    id_at: usize,
    number_at: usize,
    time_at: usize,
}

impl PublishTemplate {
    pub(crate) fn new(topic: &str, stream: u64, run: u32, payload_bytes: usize) -> Self {
        let pad = "x".repeat(payload_bytes.saturating_sub(PAYLOAD_BYTES_MIN));
        let id = format!("{run:08x}-{:04x}-4000-8000-", stream & 0xffff);
        let head = format!(
            r#"{{"type":"publish","topic":{},"message":{{"id":"{id}"#,
            Value::from(topic)
        );
        let middle = format!(r#"{NUMBER_BASE}","payload":"#);
        let tail = format!(
            r#"{{"n":{NUMBER_BASE},"p":{},"t":{TIME_BASE},"pad":"{pad}"}}}}}}"#,
            STREAM_BASE + stream
        );
        let mut frame = Vec::new();
        let text = [head.as_bytes(), middle.as_bytes(), tail.as_bytes()].concat();
        let payload_start = append_masked(&mut frame, TEXT, &text);
        let mark = head.len() + middle.len();
        Self {
            frame,
            payload_start,
            id_at: head.len(),
            number_at: mark + NUMBER_AT,
            time_at: mark + TIME_AT,
        }
    }

    pub(crate) fn append(&mut self, out: &mut Vec<u8>, number: u64, time_ns: u64) {
        self.write_masked(self.id_at, NUMBER_DIGITS, NUMBER_BASE + number);
        self.write_masked(self.number_at, NUMBER_DIGITS, NUMBER_BASE + number);
        self.write_masked(self.time_at, TIME_DIGITS, TIME_BASE + time_ns);
        out.extend_from_slice(&self.frame);
    }

    fn write_masked(&mut self, at: usize, digits: usize, mut value: u64) {
        let start = self.payload_start + at;
        for offset in (0..digits).rev() {
            let digit = b'0' + u8::try_from(value % 10).expect("one digit");
            self.frame[start + offset] = digit ^ MASK[(at + offset) & 3];
            value /= 10;
        }
    }
}

/// What an event of ours says.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) number: u64,
    pub(crate) stream: u64,
    pub(crate) time_ns: u64,
    pub(crate) seq: Option<u64>,
}

/// How the events of one topic begin, and how long their payload is.
#[derive(Debug)]
pub(crate) struct EventShape {
    prefix: Vec<u8>,
    payload_bytes: usize,
    /// Whether anybody wants to know the time of an event.
    timed: bool,
    /// Where the last mark was found. Ids and names have fixed lengths, so it stays there.
    mark_at: usize,
    seq_finder: FinderRev<'static>,
}

impl EventShape {
    pub(crate) fn new(topic: &str, payload_bytes: usize, timed: bool) -> Self {
        let prefix = format!(
            r#"{{"type":"event","topic":{},"message":"#,
            Value::from(topic)
        );
        Self {
            prefix: prefix.into_bytes(),
            payload_bytes: payload_bytes.max(PAYLOAD_BYTES_MIN),
            timed,
            mark_at: 0,
            seq_finder: FinderRev::new(SEQ_KEY),
        }
    }

    /// `None` if this is not an event of this topic with a payload of ours, whole.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<Mark> {
        if !text.starts_with(&self.prefix) {
            return None;
        }
        if !text.get(self.mark_at..)?.starts_with(NUMBER_KEY) {
            self.mark_at = memmem::find(text, NUMBER_KEY)?;
        }
        let (payload, tail) = text
            .get(self.mark_at..)?
            .split_at_checked(self.payload_bytes)?;
        let keys_are_in_place = payload[STREAM_KEY_AT..].starts_with(STREAM_KEY)
            && payload[TIME_KEY_AT..].starts_with(TIME_KEY)
            && payload[PAD_KEY_AT..].starts_with(PAD_KEY)
            && payload.ends_with(PAYLOAD_END);
        if !keys_are_in_place {
            return None;
        }
        Some(Mark {
            number: decimal(&payload[NUMBER_AT..STREAM_KEY_AT])?.checked_sub(NUMBER_BASE)?,
            stream: decimal(&payload[STREAM_AT..TIME_KEY_AT])?.checked_sub(STREAM_BASE)?,
            time_ns: if self.timed {
                decimal(&payload[TIME_AT..PAD_KEY_AT])?.checked_sub(TIME_BASE)?
            } else {
                0
            },
            seq: trailing(tail, SEQ_KEY).or_else(|| self.inner_seq(tail)),
        })
    }

    /// The `seq` of a server that writes more behind it.
    fn inner_seq(&self, tail: &[u8]) -> Option<u64> {
        let start = self.seq_finder.rfind(tail)? + SEQ_KEY.len();
        let digits = tail[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        decimal(&tail[start..start + digits.count()])
    }
}

/// Publish acks are counted, not parsed; this is what tells them.
pub(crate) fn is_ack(text: &[u8]) -> bool {
    text.starts_with(br#"{"type":"ack""#)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

/// The number of the field `key` that ends the object.
fn trailing(text: &[u8], key: &[u8]) -> Option<u64> {
    let inner = text.strip_suffix(b"}")?;
    let start = inner.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    let (head, digits) = inner.split_at(start);
    if digits.is_empty() || !head.ends_with(key) {
        return None;
    }
    decimal(digits)
}

/// Any message that is not an event of ours, understood slowly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Ack { seq: Option<u64> },
    SlowConsumer { dropped: u64 },
    Error(String),
    TopicDeleted,
    ShuttingDown,
    Heartbeat,
    Strange(String),
}

impl Told {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let strange = || Self::Strange(excerpt(text));
        // It unescapes in place, so it gets bytes of its own.
        let mut bytes = text.to_vec();
        let Ok(message) = simd_json::to_borrowed_value(&mut bytes) else {
            return strange();
        };
        let error = message.get("error");
        match message.get_str("type") {
            Some("ack") => Self::Ack {
                seq: message.get_u64("seq"),
            },
            Some("error") if error.get_str("code") == Some("SLOW_CONSUMER") => {
                dropped(&message).map_or_else(strange, |dropped| Self::SlowConsumer { dropped })
            }
            Some("error") => Self::Error(excerpt(text)),
            Some("pong") => Self::Heartbeat,
            Some("info") => match message.get_str("msg") {
                Some("topic_deleted") => Self::TopicDeleted,
                Some("shutting_down") => Self::ShuttingDown,
                _ => Self::Heartbeat,
            },
            _ => strange(),
        }
    }
}

/// The field, or for a server that knows the contract alone, the number in the sentence.
fn dropped(notice: &BorrowedValue<'_>) -> Option<u64> {
    notice.get_u64("dropped").or_else(|| {
        notice
            .get("error")
            .get_str("message")?
            .split(' ')
            .find_map(|word| word.parse().ok())
    })
}

/// Enough of a message to recognise it.
pub(crate) fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{EventShape, Mark, PAYLOAD_BYTES_MIN, PublishTemplate, Told};
    use crate::frame::MASK;

    fn published(bytes: usize, number: u64, time_ns: u64) -> String {
        let mut template = PublishTemplate::new("a \"b\"", 7, 0xbeef, bytes);
        let mut frame = Vec::new();
        template.append(&mut frame, 1, 1);
        frame.clear();
        template.append(&mut frame, number, time_ns);
        let text = frame[template.payload_start..]
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect();
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    fn event_of(publish: &str, tail: &str) -> String {
        let event = publish.replace(r#""publish""#, r#""event""#);
        let body = event.strip_suffix('}').expect("an object");
        format!("{body},\"ts\":\"2025-08-25T10:00:00.000Z\"{tail}}}")
    }

    #[test]
    fn a_publish_is_valid_and_its_event_reads_back() {
        for bytes in [PAYLOAD_BYTES_MIN, 100, 5_000] {
            let publish = published(bytes, 123_456, 987_654_321);
            let json: Value = serde_json::from_str(&publish).expect("valid JSON");
            assert_eq!(json["message"]["payload"].to_string().len(), bytes);
            assert_eq!(json["message"]["id"].as_str().map(str::len), Some(36));
            let mut shape = EventShape::new("a \"b\"", bytes, true);
            for (tail, seq) in [(r#","seq":42"#, Some(42)), ("", None)] {
                let expected = Mark {
                    number: 123_456,
                    stream: 7,
                    time_ns: 987_654_321,
                    seq,
                };
                let event = event_of(&publish, tail);
                assert_eq!(shape.read(event.as_bytes()), Some(expected));
            }
        }
    }

    #[test]
    fn fields_behind_seq_do_not_hide_it() {
        let event = event_of(&published(100, 1, 1), r#","seq":42,"more":7"#);
        let mark = EventShape::new("a \"b\"", 100, true).read(event.as_bytes());
        assert_eq!(mark.and_then(|mark| mark.seq), Some(42));
    }

    #[test]
    fn a_foreign_or_damaged_event_is_not_ours() {
        let event = event_of(&published(100, 1, 1), "");
        assert_eq!(
            EventShape::new("other", 100, true).read(event.as_bytes()),
            None
        );
        let mut shape = EventShape::new("a \"b\"", 100, true);
        let shortened = event.replacen('x', "", 1);
        assert_eq!(shape.read(shortened.as_bytes()), None);
        for cut in 0..event.len() - 40 {
            assert_eq!(shape.read(&event.as_bytes()[..cut]), None);
        }
    }

    #[test]
    fn notices_are_understood_with_and_without_the_field() {
        let with = br#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"Subscriber queue overflow, 37 messages dropped"},"ts":"x","dropped":37}"#;
        let without = br#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"Subscriber queue overflow, 37 messages dropped"}}"#;
        assert_eq!(Told::parse(with), Told::SlowConsumer { dropped: 37 });
        assert_eq!(Told::parse(without), Told::SlowConsumer { dropped: 37 });
    }

    #[test]
    fn an_ack_tells_where_the_topic_is() {
        let ack = br#"{"type":"ack","topic":"a","status":"ok","ts":"x","seq":43,"matched":3}"#;
        assert_eq!(Told::parse(ack), Told::Ack { seq: Some(43) });
    }
}
