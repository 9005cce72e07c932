//! The wire contract as a client writes and reads it.

use std::collections::BTreeMap;

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
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<&'a Since>,
        #[serde(skip_serializing_if = "Option::is_none")]
        positions: Option<Asked>,
        #[serde(flatten)]
        wish: Wish,
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

/// Which events of a topic are wanted; all, where it says nothing.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Wish {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_rate: Option<u16>,
}

/// What is asked about the positions of a pattern's topics.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Asked {
    /// To be told them.
    Told(bool),
    /// To go on behind these.
    After(BTreeMap<String, Since>),
}

/// A message to publish, under an id of its own.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    id: String,
    payload: Box<RawValue>,
}

impl Message {
    /// The payload is `text` as it stands where that is JSON, and otherwise a JSON string of it.
    pub(super) fn new(text: &str) -> Self {
        Self::json(text).unwrap_or_else(|_| {
            let payload = to_raw_value(text).expect("a string always serializes");
            Self::with(payload)
        })
    }

    /// The payload is `text` as it stands, which must be JSON.
    pub(super) fn json(text: &str) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.to_owned()).map(Self::with)
    }

    fn with(payload: Box<RawValue>) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            payload,
        }
    }
}

/// The event after which a subscription starts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Since {
    pub(super) epoch: String,
    pub(super) seq: u64,
}

/// Where a topic, or each of them, starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) topic: Option<String>,
    pub(super) since: Since,
}

impl Start {
    /// `TOPIC=EPOCH:SEQ`, or `EPOCH:SEQ` for every topic. An epoch has no equals sign, a topic may.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (topic, since) = match text.rsplit_once('=') {
            Some((topic, since)) => (Some(topic.to_owned()), since),
            None => (None, text),
        };
        let since = Since::parse(since)?;
        Ok(Self { topic, since })
    }
}

impl Since {
    /// `EPOCH:SEQ`.
    fn parse(text: &str) -> Result<Self, String> {
        let (epoch, seq) = text
            .rsplit_once(':')
            .ok_or("expected EPOCH:SEQ or TOPIC=EPOCH:SEQ")?;
        let seq = seq.parse().map_err(|_| "SEQ must be a whole number")?;
        Ok(Self {
            epoch: epoch.to_owned(),
            seq,
        })
    }
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
    pub(super) epoch: Option<String>,
    pub(super) seq: Option<u64>,
    pub(super) recovered: Option<bool>,
    pub(super) matched: Option<u64>,
    pub(super) positions: Option<BTreeMap<String, Since>>,
    pub(super) lost: Option<Vec<String>>,
    pub(super) retry_after_ms: Option<u64>,
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
            message: Message::new(text),
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
        let since = Since::parse("9f:3c:41").expect("a position");
        let command = Command::Subscribe {
            topic: "a\"b",
            last_n: None,
            since: Some(&since),
            positions: None,
            wish: Wish::default(),
            request_id: "7",
        };
        assert_eq!(
            command.to_json(),
            r#"{"type":"subscribe","topic":"a\"b","since":{"epoch":"9f:3c","seq":41},"request_id":"7"}"#
        );
        let command = Command::Subscribe {
            topic: "a",
            last_n: Some(2),
            since: None,
            positions: Some(Asked::Told(true)),
            wish: Wish {
                policy: Some("latest"),
                max_rate: Some(5),
            },
            request_id: "7",
        };
        assert_eq!(
            command.to_json(),
            r#"{"type":"subscribe","topic":"a","last_n":2,"positions":true,"policy":"latest","max_rate":5,"request_id":"7"}"#
        );
        assert_eq!(
            Command::Ping { request_id: "8" }.to_json(),
            r#"{"type":"ping","request_id":"8"}"#
        );
        assert!(Since::parse("41").is_err() && Since::parse("e:x").is_err());
    }

    #[test]
    fn a_start_is_of_one_topic_or_of_all() {
        let start = |text: &str| Start::parse(text).expect("a start");
        assert_eq!(start("9f:41").topic, None);
        assert_eq!(start("a=b=9f:41").topic.as_deref(), Some("a=b"));
        assert_eq!(start("a=9f:41").since, start("9f:41").since);
        assert!(Start::parse("a=41").is_err() && Start::parse("a=9f:x").is_err());
    }

    #[test]
    fn every_message_has_an_id_of_its_own() {
        let (first, second) = (Message::new("1").id, Message::new("1").id);
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
