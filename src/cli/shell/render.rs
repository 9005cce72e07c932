//! What the server says, for a person to read.

use std::fmt::Write;

use crate::cli::message::{Kind, ServerMessage};

/// One line for a message; `None` for a heartbeat.
///
/// Nothing is cut. Control characters, which a payload of somebody else may hold, are shown and not obeyed: a terminal
/// takes some of them as commands.
pub(super) fn render(text: &str) -> Option<String> {
    let line = match ServerMessage::parse(text) {
        Some(message) => render_message(&message, text)?,
        None => format!("? {text}"),
    };
    Some(harmless(&line))
}

fn render_message(message: &ServerMessage<'_>, text: &str) -> Option<String> {
    if let Some(notice) = message.notice() {
        return Some(format!("notice: {notice}"));
    }
    match (message.kind, &message.message, &message.error) {
        (Kind::Event, Some(event), _) => {
            let topic = message.topic.as_deref().unwrap_or("?");
            let seq = message
                .seq
                .map(|seq| format!("#{seq} "))
                .unwrap_or_default();
            Some(format!("{topic} {seq}{}", event.payload.get()))
        }
        (Kind::Error, _, Some(error)) => Some(format!("error {}: {}", error.code, error.message)),
        (Kind::Ack, ..) => Some(render_ack(message)),
        (Kind::Pong, ..) => Some("pong".to_owned()),
        (Kind::Info, ..) => None,
        _ => Some(format!("? {text}")),
    }
}

fn render_ack(ack: &ServerMessage<'_>) -> String {
    let Some(topic) = &ack.topic else {
        return format!("ok {}", ack.status.as_deref().unwrap_or_default());
    };
    match (ack.matched, ack.seq) {
        (Some(matched), Some(seq)) => format!(
            "ok {topic} #{seq}, to {matched} subscriber{}",
            if matched == 1 { "" } else { "s" }
        ),
        (Some(1), None) => format!("ok {topic}, 1 topic now"),
        (Some(matched), None) => format!("ok {topic}, {matched} topics now"),
        (None, Some(0)) => format!("ok {topic}, no messages yet"),
        (None, Some(seq)) => format!("ok {topic}, newest is #{seq}"),
        _ => format!("ok {topic}"),
    }
}

/// Line ends between JSON tokens become blanks; any other control character is escaped as JSON would.
fn harmless(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes all that is written");
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        render(text).expect("a line")
    }

    #[test]
    fn events_show_topic_number_and_the_payload_untouched() {
        let event = r#"{"type":"event","topic":"orders","message":{"id":"i","payload":{"any": 1.0}},"ts":"x","seq":42}"#;
        assert_eq!(rendered(event), r#"orders #42 {"any": 1.0}"#);
        let event = "{\"type\":\"event\",\"topic\":\"t\",\"message\":{\"id\":\"i\",\"payload\":[\"\u{9b}2J\",\n1]},\"ts\":\"x\"}";
        assert_eq!(rendered(event), "t [\"\\u009b2J\", 1]");
    }

    #[test]
    fn acks_say_what_is_known() {
        let ack = |more: &str| rendered(&format!(r#"{{"type":"ack","request_id":"1",{more}}}"#));
        assert_eq!(ack(r#""topic":"t","status":"ok","ts":"x""#), "ok t");
        assert_eq!(
            ack(r#""topic":"t","status":"ok","ts":"x","epoch":"9f","seq":0"#),
            "ok t, no messages yet"
        );
        assert_eq!(
            ack(r#""topic":"t","status":"ok","ts":"x","epoch":"9f","seq":42"#),
            "ok t, newest is #42"
        );
        assert_eq!(
            ack(r#""topic":"t","seq":43,"matched":1"#),
            "ok t #43, to 1 subscriber"
        );
        assert_eq!(
            ack(r#""topic":"t","seq":43,"matched":3,"dropped":2"#),
            "ok t #43, to 3 subscribers",
            "older servers say more"
        );
        assert_eq!(
            ack(r#""status":"authenticated","ts":"x""#),
            "ok authenticated"
        );
    }

    #[test]
    fn errors_and_notices_are_in_words_and_heartbeats_are_not_there() {
        let error = r#"{"type":"error","error":{"code":"TOPIC_NOT_FOUND","message":"Topic 'x' does not exist"},"ts":"x"}"#;
        assert_eq!(
            rendered(error),
            "error TOPIC_NOT_FOUND: Topic 'x' does not exist"
        );
        assert_eq!(
            rendered(r#"{"type":"info","msg":"shutting_down"}"#),
            "notice: the server is shutting down"
        );
        assert_eq!(rendered(r#"{"type":"pong","ts":"x"}"#), "pong");
        assert_eq!(render(r#"{"type":"info","msg":"ping","ts":"x"}"#), None);
        assert_eq!(rendered("}"), "? }");
    }
}
