//! The wire contract as one who speaks it by hand writes and reads it: the shell.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

/// What a client sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Command<'a> {
    Subscribe {
        topic: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_n: Option<u64>,
        request_id: &'a str,
    },
    Unsubscribe {
        topic: &'a str,
        request_id: &'a str,
    },
    Publish {
        topic: &'a str,
        message: Message,
        request_id: &'a str,
    },
    Ping {
        request_id: &'a str,
    },
}

impl Command<'_> {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and checked JSON always serialize")
    }
}

/// A message to publish, under an id of its own.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    id: String,
    payload: Box<RawValue>,
}

impl Message {
    pub(super) fn new(payload: Box<RawValue>) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            payload,
        }
    }
}

/// The payload that a text is: as it stands where that is JSON, and otherwise a JSON string of it.
pub(super) fn payload(text: &str) -> Box<RawValue> {
    json(text).unwrap_or_else(|_| to_raw_value(text).expect("a string always serializes"))
}

/// The payload that a text is as it stands, which must be JSON.
pub(super) fn json(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(text.to_owned())
}

/// What a server sends; which fields there are depends on the kind.
#[derive(Debug, Deserialize)]
pub(super) struct ServerMessage<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    pub(super) request_id: Option<String>,
    pub(super) topic: Option<String>,
    #[serde(borrow)]
    pub(super) message: Option<EventMessage<'a>>,
    pub(super) error: Option<ErrorBody>,
    pub(super) msg: Option<String>,
    pub(super) status: Option<String>,
    pub(super) seq: Option<u64>,
    pub(super) matched: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Ack,
    Event,
    Error,
    Pong,
    Info,
    /// A newer server may say more; a client passes over it.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
pub(super) struct EventMessage<'a> {
    #[serde(borrow)]
    pub(super) payload: &'a RawValue,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) code: String,
    pub(super) message: String,
}

impl<'a> ServerMessage<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What a person should hear of, though it answers no command.
    pub(super) fn notice(&self) -> Option<String> {
        let topic = self.topic.as_deref().unwrap_or("?");
        match (self.kind, self.msg.as_deref(), &self.error) {
            (Kind::Info, Some("ping"), _) => None,
            (Kind::Info, Some("topic_created"), _) => Some(format!("topic '{topic}' was created")),
            (Kind::Info, Some("topic_deleted"), _) => Some(format!("topic '{topic}' was deleted")),
            (Kind::Info, Some("shutting_down"), _) => {
                Some("the server is shutting down".to_owned())
            }
            (Kind::Info, msg, _) => msg.map(str::to_owned),
            (Kind::Error, _, Some(error)) if error.code == "SLOW_CONSUMER" => {
                Some(error.message.clone())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(text: &str) -> String {
        let command = Command::Publish {
            topic: "t",
            message: Message::new(payload(text)),
            request_id: "1",
        };
        let json = command.to_json();
        let from = json.find("\"payload\":").expect("a payload") + "\"payload\":".len();
        let to = json.find("},\"request_id\":\"1\"}").expect("the end");
        json[from..to].to_owned()
    }

    #[test]
    fn json_is_sent_as_it_stands_and_text_as_a_string() {
        assert_eq!(
            publish(r#"{"b": 1.0, "a":[1e2]}"#),
            r#"{"b": 1.0, "a":[1e2]}"#
        );
        assert_eq!(publish(" 12 "), "12");
        assert_eq!(publish("hello"), r#""hello""#);
        assert_eq!(publish("{\"half\""), r#""{\"half\"""#);
        assert_eq!(publish(""), r#""""#);
    }

    #[test]
    fn commands_look_as_in_the_contract() {
        let command = Command::Subscribe {
            topic: "a\"b",
            last_n: Some(2),
            request_id: "7",
        };
        assert_eq!(
            command.to_json(),
            r#"{"type":"subscribe","topic":"a\"b","last_n":2,"request_id":"7"}"#
        );
        assert_eq!(
            Command::Ping { request_id: "8" }.to_json(),
            r#"{"type":"ping","request_id":"8"}"#
        );
    }

    #[test]
    fn every_message_has_an_id_of_its_own() {
        let (first, second) = (Message::new(payload("1")).id, Message::new(payload("1")).id);
        assert_ne!(first, second);
        assert_eq!(
            Uuid::parse_str(&first).map(|id| id.get_version_num()),
            Ok(4)
        );
    }

    #[test]
    fn notices_are_told_from_errors_and_heartbeats() {
        let notice = |text: &str| ServerMessage::parse(text).expect("a message").notice();
        assert_eq!(notice(r#"{"type":"info","msg":"ping","ts":"x"}"#), None);
        assert_eq!(
            notice(r#"{"type":"info","topic":"t","msg":"topic_deleted","ts":"x"}"#).as_deref(),
            Some("topic 't' was deleted")
        );
        let slow = r#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"37 dropped"},"ts":"x","dropped":37}"#;
        assert_eq!(notice(slow).as_deref(), Some("37 dropped"));
        assert_eq!(
            notice(r#"{"type":"error","error":{"code":"BAD_REQUEST","message":"no"}}"#),
            None
        );
        assert_eq!(notice(r#"{"type":"novelty"}"#), None);
    }
}
