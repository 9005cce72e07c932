//! Server-Sent Events, as the HTML standard has them (section 9.2): the JSON of the native dialect in
//! `data:` lines.
//!
//! An event carries its position as `id:`, which a browser sends back as `Last-Event-ID` when it
//! comes again. Notices carry none: they do not move the position.

use super::answer::Answer;
use super::native;
use super::time::Timestamp;

/// Appends `answer`, given at `ts`, named as the contract names it.
pub fn encode(out: &mut Vec<u8>, answer: &Answer<'_>, ts: Timestamp) {
    let name = match answer {
        Answer::Lost { .. } => "slow_consumer",
        Answer::TopicCreated { .. } => "topic_created",
        Answer::TopicDeleted { .. } => "topic_deleted",
        Answer::ShuttingDown { retry_after_ms } => {
            // In one block with what follows: some clients take a lone one for an event.
            put(out, "retry: ");
            put(out, itoa::Buffer::new().format(*retry_after_ms));
            put(out, "\n");
            "shutting_down"
        }
        Answer::Error { .. } | Answer::TooSoon { .. } => "error",
        Answer::Heartbeat => "ping",
        Answer::Pong { .. } => "pong",
        Answer::Published { .. }
        | Answer::Subscribed { .. }
        | Answer::SubscribedToMany { .. }
        | Answer::Unsubscribed { .. }
        | Answer::Authenticated { .. } => "ack",
    };
    put(out, "event: ");
    put(out, name);
    // The JSON that the server makes itself has no line breaks.
    put(out, "\ndata: ");
    native::json(out, answer, ts);
    put(out, "\n\n");
}

/// Appends an event, whose JSON may have line breaks between its tokens, without the empty line that
/// ends it.
pub fn event(out: &mut Vec<u8>, epoch: &str, seq: u64, json: &[u8]) {
    id(out, [(epoch, seq)]);
    data(out, json);
}

/// Appends the line with positions.
pub fn id<'e>(out: &mut Vec<u8>, positions: impl IntoIterator<Item = (&'e str, u64)>) {
    put(out, "id: ");
    for (index, (epoch, seq)) in positions.into_iter().enumerate() {
        if index > 0 {
            put(out, ",");
        }
        put(out, epoch);
        put(out, ":");
        put(out, itoa::Buffer::new().format(seq));
    }
    put(out, "\n");
}

/// Ends an event.
pub fn end(out: &mut Vec<u8>) {
    put(out, "\n");
}

/// Appends a line that clients do not see. No empty line behind it: some clients take that for the
/// end of an event without data.
pub fn comment(out: &mut Vec<u8>) {
    put(out, ":\n");
}

/// Appends one `data:` line for each line of `json`. A line ends with CR, LF, or both.
fn data(out: &mut Vec<u8>, json: &[u8]) {
    let mut rest = json;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
        put(out, "data: ");
        out.extend_from_slice(line);
        put(out, "\n");
        if end.is_none() {
            return;
        }
        rest = behind.strip_prefix(b"\r\n").unwrap_or_else(|| &behind[1..]);
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::codes::ErrorCode;
    use super::*;

    fn made(append: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        append(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn an_event_has_its_position_and_one_data_line_for_each_line() {
        for (json, data) in [
            ("{}", "data: {}\n"),
            ("", "data: \n"),
            ("{\n}", "data: {\ndata: }\n"),
            ("{\r\n\r}\n", "data: {\ndata: \ndata: }\ndata: \n"),
            ("{\"a\":\n\n1}", "data: {\"a\":\ndata: \ndata: 1}\n"),
        ] {
            let event = made(|out| event(out, "9f3c", 42, json.as_bytes()));
            assert_eq!(event, format!("id: 9f3c:42\n{data}"), "{json:?}");
        }
        let positions = [("9f3c", 42), ("77aa", 0)];
        assert_eq!(made(|out| id(out, positions)), "id: 9f3c:42,77aa:0\n");
    }

    #[test]
    fn notices_have_names_and_no_position() {
        let ts = Timestamp::from_unix_ms(0);
        let name = |answer: &Answer<'_>| {
            let text = made(|out| encode(out, answer, ts));
            let mut lines = text.strip_suffix("\n\n").expect("an end").lines();
            let data = lines
                .next_back()
                .and_then(|data| data.strip_prefix("data: "));
            serde_json::from_str::<serde_json::Value>(data.expect("data")).expect("JSON");
            lines.collect::<Vec<_>>().join("|")
        };
        assert_eq!(name(&Answer::Lost { events: 3 }), "event: slow_consumer");
        let deleted = Answer::TopicDeleted { topic: "a\nb" };
        assert_eq!(name(&deleted), "event: topic_deleted");
        let (request_id, code) = (None, ErrorCode::Forbidden);
        let message = "no";
        let error = Answer::Error {
            request_id,
            code,
            message,
        };
        assert_eq!(name(&error), "event: error");
        let retry_after_ms = 1250;
        let down = Answer::ShuttingDown { retry_after_ms };
        assert_eq!(name(&down), "retry: 1250|event: shutting_down");
        let subscribed = Answer::Subscribed {
            request_id,
            topic: "t",
            epoch: "9f3c",
            seq: 1,
            recovered: None,
        };
        assert_eq!(name(&subscribed), "event: ack");
    }
}
