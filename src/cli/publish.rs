//! `shardcast pub`: one message, or each line of a pipe as one.
//!
//! A few messages are on their way at a time, so that a pipe is not paced by round trips, and what was sent is only
//! reported as published when the server has acked all of it.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use shardcast_client::link::{LinkReceiver, LinkSender};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use tokio::time::{sleep, timeout};

use crate::config::client::ClientSettings;

use super::client::{close, connect};
use super::message::{Command, ErrorBody, Kind, Message, ServerMessage};
use super::{Failure, say};

/// Messages that are not acked yet.
const IN_FLIGHT_MAX: u64 = 64;

/// How long a server may owe an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest line or file that is read: no server takes a longer message.
pub(super) const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// What may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON as it stands, anything else as a JSON string.
    JsonOrText,
    /// Nothing but JSON.
    Json,
}

impl Format {
    /// The message that some bytes are, or what is wrong with them.
    fn message(self, bytes: &[u8]) -> Result<Message, String> {
        if bytes.len() as u64 > MESSAGE_BYTES_MAX {
            return Err(format!("longer than {MESSAGE_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        match self {
            Self::JsonOrText => Ok(Message::new(text)),
            Self::Json => Message::json(text).map_err(|error| format!("not JSON: {error}")),
        }
    }
}

/// What the server has acked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Published {
    messages: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
}

/// Publishes one message.
pub(super) async fn publish_one(
    settings: &ClientSettings,
    topic: &str,
    payload: &[u8],
    format: Format,
    notices: &mut dyn Write,
) -> Result<Published, Failure> {
    let message = format.message(payload).map_err(Failure::Payload)?;
    let mut publisher = Publisher::connect(settings, topic).await?;
    publisher.publish(message).await?;
    publisher.finish(notices).await?;
    publisher.leave().await
}

/// Publishes each line until there are no more, or one is refused or is no message; then nothing more is read, and
/// what came before it is published.
pub(super) async fn publish_lines(
    settings: &ClientSettings,
    topic: &str,
    mut lines: impl AsyncBufRead + Unpin,
    format: Format,
    notices: &mut dyn Write,
) -> Result<Published, Failure> {
    let mut publisher = Publisher::connect(settings, topic).await?;
    let mut line = Vec::new();
    let mut wrong = None;
    while publisher.refused.is_none() {
        tokio::select! {
            read = read_line(&mut lines, &mut line), if publisher.in_flight < IN_FLIGHT_MAX => {
                if !read.map_err(Failure::Input)? {
                    break;
                }
                match format.message(&line) {
                    Ok(message) => publisher.publish(message).await?,
                    Err(why) => {
                        wrong = Some(why);
                        break;
                    }
                }
                line.clear();
            },
            answer = publisher.receiver.next() => publisher.note(&answer?, notices)?,
            () = sleep(ANSWER_TIMEOUT), if publisher.in_flight > 0 => break, // The end is where that is reported.
        }
    }
    let finished = publisher.finish(notices).await;
    if let (Ok(()), Some(why)) = (&finished, wrong) {
        let (line, so_far) = (publisher.sent + 1, publisher.published.brief());
        publisher.leave().await?;
        return Err(Failure::Line {
            line,
            why,
            published: so_far,
        });
    }
    if (finished.is_err() || publisher.refused.is_some()) && publisher.published.messages > 0 {
        say(notices, &publisher.published.brief());
    }
    finished?;
    publisher.leave().await
}

/// Reads on to the end of a line, without which it stands in `line`; `false` where there are no more. What was read
/// when this is dropped is kept in `line`.
async fn read_line(
    lines: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    // One byte more than is allowed shows that a line is too long, and none after it is read.
    let room = (MESSAGE_BYTES_MAX + 2).saturating_sub(line.len() as u64);
    let read = lines.take(room).read_until(b'\n', line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|last| *last == b'\r');
        return Ok(true);
    }
    Ok(read > 0 || !line.is_empty())
}

/// A connection, and what is still to be answered on it.
#[derive(Debug)]
struct Publisher<'a> {
    topic: &'a str,
    sender: LinkSender,
    receiver: LinkReceiver,
    sent: u64,
    in_flight: u64,
    published: Published,
    refused: Option<ErrorBody>,
}

impl<'a> Publisher<'a> {
    async fn connect(settings: &ClientSettings, topic: &'a str) -> Result<Self, Failure> {
        let (sender, receiver) = connect(settings).await?;
        let published = Published::default();
        Ok(Self {
            topic,
            sender,
            receiver,
            sent: 0,
            in_flight: 0,
            published,
            refused: None,
        })
    }

    /// Fewer messages are in flight than the connection queues, so this does not wait for the server.
    async fn publish(&mut self, message: Message) -> Result<(), Failure> {
        self.sent += 1;
        self.in_flight += 1;
        let request_id = self.sent.to_string();
        let command = Command::Publish {
            topic: self.topic,
            message,
            request_id: &request_id,
        };
        Ok(self.sender.send(command.to_json()).await?)
    }

    /// Waits for every answer that is still owed.
    async fn finish(&mut self, notices: &mut dyn Write) -> Result<(), Failure> {
        while self.in_flight > 0 {
            let answer = timeout(ANSWER_TIMEOUT, self.receiver.next()).await;
            let answer = answer.map_err(|_| Failure::NoAnswer(ANSWER_TIMEOUT.as_secs()))?;
            self.note(&answer?, notices)?;
        }
        Ok(())
    }

    /// Takes leave of the server. What it has refused is an error.
    async fn leave(self) -> Result<Published, Failure> {
        close(self.sender, self.receiver).await;
        match self.refused {
            None => Ok(self.published),
            Some(ErrorBody { code, message }) => Err(Failure::Server { code, message }),
        }
    }

    fn note(&mut self, answer: &str, notices: &mut dyn Write) -> Result<(), Failure> {
        let Some(answer) = ServerMessage::parse(answer) else {
            return Ok(());
        };
        if let Some(notice) = answer.notice() {
            say(notices, &notice);
            return Ok(());
        }
        match (answer.kind, answer.error) {
            (Kind::Ack, _) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.published.count(answer.seq);
            }
            (Kind::Error, Some(error)) if answer.request_id.is_some() => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.refused.get_or_insert(error);
            }
            // It answers no command, so it is about the connection: nothing that is owed may ever come.
            (Kind::Error, Some(ErrorBody { code, message })) => {
                return Err(Failure::Server { code, message });
            }
            _ => {}
        }
        Ok(())
    }
}

impl Published {
    /// The same in as few words as fit behind an error.
    fn brief(&self) -> String {
        match (self.first_seq, self.last_seq) {
            (Some(first), Some(last)) => {
                format!("published {}, seq {first} to {last}", self.messages)
            }
            _ => format!("published {}", self.messages),
        }
    }

    fn count(&mut self, seq: Option<u64>) {
        self.messages += 1;
        self.first_seq = self.first_seq.or(seq);
        self.last_seq = seq.or(self.last_seq);
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.messages, self.first_seq, self.last_seq) {
            (1, Some(seq), _) => write!(f, "published 1 message, seq {seq}"),
            // Others publish too, so the numbers between are not all of this client.
            (n, Some(first), Some(last)) => {
                write!(f, "published {n} messages, seq from {first} to {last}")
            }
            (n, ..) => write!(f, "published {n} messages"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::test_server::{Answer, TestServer, contract};

    use super::*;

    async fn publish(server: &TestServer, topic: &str, lines: &str) -> Result<String, String> {
        let published = publish_lines(
            &server.settings(),
            topic,
            lines.as_bytes(),
            Format::JsonOrText,
            &mut Vec::new(),
        )
        .await;
        published
            .map(|published| published.to_string())
            .map_err(|failure| failure.to_string())
    }

    #[tokio::test]
    async fn each_line_is_a_message_in_order() {
        let server = TestServer::start(contract()).await;
        let lines = (1..=500).fold(String::new(), |lines, n| {
            lines + &format!("{{\"n\":{n}}}\n")
        });
        assert_eq!(
            publish(&server, "t", &lines).await.as_deref(),
            Ok("published 500 messages, seq from 1 to 500")
        );
        let payloads = server
            .commands()
            .into_iter()
            .map(|command| command["message"]["payload"]["n"].clone());
        assert!(payloads.eq((1..=500).map(serde_json::Value::from)));
    }

    #[tokio::test]
    async fn one_message_is_published_and_acked() {
        let server = TestServer::start(contract()).await;
        let published = publish_one(
            &server.settings(),
            "t",
            b"hello",
            Format::JsonOrText,
            &mut Vec::new(),
        )
        .await
        .expect("acked");
        assert_eq!(published.to_string(), "published 1 message, seq 1");
        assert_eq!(server.commands()[0]["message"]["payload"], "hello");
        assert_eq!(
            publish(&server, "t", "").await.as_deref(),
            Ok("published 0 messages")
        );
    }

    #[tokio::test]
    async fn a_bad_line_ends_it_after_those_before() {
        for (format, bad, why) in [
            (Format::JsonOrText, &b"\xff"[..], "line 3: not UTF-8; "),
            (Format::Json, b"hello", "line 3: not JSON: "),
        ] {
            let server = TestServer::start(contract()).await;
            let lines = [b"1\n{}\r\n", bad, b"\n4\n"].concat();
            let settings = server.settings();
            let error = publish_lines(&settings, "t", &*lines, format, &mut Vec::new())
                .await
                .expect_err("a bad line")
                .to_string();
            assert!(error.starts_with(why), "{error}");
            assert!(error.ends_with("; published 2, seq 1 to 2"), "{error}");
            assert_eq!(server.commands().len(), 2);
        }
    }

    #[tokio::test]
    async fn a_line_that_does_not_end_is_not_read_for_ever() {
        let server = TestServer::start(contract()).await;
        let endless = tokio::io::BufReader::new(tokio::io::repeat(b'x'));
        let settings = server.settings();
        let error = publish_lines(&settings, "t", endless, Format::JsonOrText, &mut Vec::new())
            .await
            .expect_err("too long");
        let text = "line 1: longer than 16777216 bytes; published 0";
        assert_eq!(error.to_string(), text);
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_and_stops_the_reading() {
        let server = TestServer::start(contract()).await;
        let lines = "1\n".repeat(10_000);
        let error = publish(&server, "missing", &lines)
            .await
            .expect_err("refused");
        assert_eq!(error, "TOPIC_NOT_FOUND: about TOPIC_NOT_FOUND");
        assert!(server.commands().len() < 10_000);
    }

    #[tokio::test]
    async fn no_more_than_the_limit_is_in_flight() {
        // Acks come only when the limit is reached: one more in flight, or one less, and the numbers differ.
        let mut waiting = Vec::new();
        let server = TestServer::start(move |command| {
            waiting.push(command["request_id"].clone());
            if waiting.len() < 64 {
                return Vec::new();
            }
            waiting
                .drain(..)
                .map(|id| Answer::Text(format!(r#"{{"type":"ack","request_id":{id}}}"#)))
                .collect()
        })
        .await;
        assert_eq!(
            publish(&server, "t", &"1\n".repeat(640)).await.as_deref(),
            Ok("published 640 messages")
        );
    }

    #[tokio::test]
    async fn a_connection_that_ends_before_the_ack_is_an_error() {
        let server = TestServer::start(|_| vec![Answer::Close(1001, "")]).await;
        let error = publish(&server, "t", "1\n2").await.expect_err("not acked");
        assert_eq!(error, "the server closed the connection (code 1001)");
    }

    #[tokio::test]
    async fn an_error_about_the_connection_ends_it() {
        let unauthorized =
            r#"{"type":"error","error":{"code":"UNAUTHORIZED","message":"no key"},"ts":"x"}"#;
        let server = TestServer::start(|_| vec![Answer::Text(unauthorized.to_owned())]).await;
        assert_eq!(
            publish(&server, "t", "1").await.expect_err("no key"),
            "UNAUTHORIZED: no key"
        );
    }
}
