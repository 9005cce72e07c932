//! `shardcast pub`: one message, or each line of a pipe as one.
//!
//! A few messages are on their way at a time, so that a pipe is not paced by round trips, and what was sent is only
//! reported as published when the server has acked all of it.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use shardcast_client::{Client, Error, Limits, Options, Publish, Receipt};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use tokio::time::{sleep, timeout};

use crate::config::client::ClientSettings;

use super::client::{FRAME_BYTES_MAX, options};
use super::message::{json, payload};
use super::{Failure, say};

/// Messages that are not acked yet, and their bytes: with that many nothing more is read.
const IN_FLIGHT_MAX: usize = 64;
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;

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
    /// The payload that some bytes are, or what is wrong with them.
    fn payload(self, bytes: &[u8]) -> Result<Box<RawValue>, String> {
        if bytes.len() as u64 > MESSAGE_BYTES_MAX {
            return Err(format!("longer than {MESSAGE_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        match self {
            Self::JsonOrText => Ok(payload(text)),
            Self::Json => json(text).map_err(|error| format!("not JSON: {error}")),
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
    bytes: &[u8],
    format: Format,
) -> Result<Published, Failure> {
    let payload = format.payload(bytes).map_err(Failure::Payload)?;
    let mut publisher = Publisher::connect(settings, topic).await?;
    publisher.publish(payload);
    publisher.finish().await?;
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
            read = read_line(&mut lines, &mut line), if publisher.has_room() => {
                if !read.map_err(Failure::Input)? {
                    break;
                }
                match format.payload(&line) {
                    Ok(payload) => publisher.publish(payload),
                    Err(why) => {
                        wrong = Some(why);
                        break;
                    }
                }
                line.clear();
            },
            Some(answered) = publisher.in_flight.next() => publisher.note(answered),
            // The end is where that is reported.
            () = sleep(ANSWER_TIMEOUT), if !publisher.in_flight.is_empty() => break,
        }
    }
    let finished = publisher.finish().await;
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

/// How long a message was, and what became of it.
type Answered = (usize, Result<Receipt, Error>);

/// A connection, and what is still to be answered on it.
struct Publisher {
    client: Client,
    topic: Arc<str>,
    sent: u64,
    in_flight: FuturesUnordered<BoxFuture<'static, Answered>>,
    in_flight_bytes: usize,
    published: Published,
    refused: Option<Error>,
}

impl Publisher {
    async fn connect(settings: &ClientSettings, topic: &str) -> Result<Self, Failure> {
        let options = options(settings, false);
        let client = Client::connect(Options {
            limits: Limits {
                in_flight_max: IN_FLIGHT_MAX,
                // All that is in flight, and one more of the longest: what is published never waits for room.
                publish_queue_bytes_max: IN_FLIGHT_BYTES_MAX + FRAME_BYTES_MAX,
                // What the broker takes is for it to say.
                message_bytes_max: FRAME_BYTES_MAX,
                ..options.limits
            },
            ..options
        });
        Ok(Self {
            client: client.await?,
            topic: topic.into(),
            sent: 0,
            in_flight: FuturesUnordered::new(),
            in_flight_bytes: 0,
            published: Published::default(),
            refused: None,
        })
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Those that wait are begun in the order in which they come here.
    fn publish(&mut self, payload: Box<RawValue>) {
        let bytes = payload.get().len();
        let (client, topic) = (self.client.clone(), Arc::clone(&self.topic));
        self.sent += 1;
        self.in_flight_bytes += bytes;
        self.in_flight.push(Box::pin(async move {
            let how = Publish {
                id: None,
                once: false,
            };
            (bytes, client.publish(&topic, &payload, how).await)
        }));
    }

    /// Waits for every answer that is still owed.
    async fn finish(&mut self) -> Result<(), Failure> {
        while !self.in_flight.is_empty() {
            let answered = timeout(ANSWER_TIMEOUT, self.in_flight.next()).await;
            let answered = answered.map_err(|_| Failure::NoAnswer(ANSWER_TIMEOUT.as_secs()))?;
            if let Some(answered) = answered {
                self.note(answered);
            }
        }
        Ok(())
    }

    /// Takes leave of the server. What it has refused is an error.
    async fn leave(self) -> Result<Published, Failure> {
        self.client.close().await;
        self.refused
            .map_or(Ok(self.published), |error| Err(error.into()))
    }

    fn note(&mut self, (bytes, answer): Answered) {
        self.in_flight_bytes -= bytes;
        match answer {
            Ok(receipt) => self.published.count(receipt.seq),
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
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

    fn count(&mut self, seq: u64) {
        self.messages += 1;
        self.first_seq = Some(self.first_seq.map_or(seq, |first| first.min(seq)));
        self.last_seq = self.last_seq.max(Some(seq));
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
        let published = publish_one(&server.settings(), "t", b"hello", Format::JsonOrText)
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
        let (mut waiting, mut seq) = (Vec::new(), 0);
        let server = TestServer::start(move |command| {
            waiting.push(command["request_id"].clone());
            if waiting.len() < 64 {
                return Vec::new();
            }
            waiting
                .drain(..)
                .map(|id| {
                    seq += 1;
                    Answer::Text(format!(r#"{{"type":"ack","request_id":{id},"seq":{seq}}}"#))
                })
                .collect()
        })
        .await;
        assert_eq!(
            publish(&server, "t", &"1\n".repeat(640)).await.as_deref(),
            Ok("published 640 messages, seq from 1 to 640")
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
        let server = TestServer::start(|_| {
            vec![
                Answer::Text(unauthorized.to_owned()),
                Answer::Close(1008, ""),
            ]
        })
        .await;
        assert_eq!(
            publish(&server, "t", "1").await.expect_err("no key"),
            "UNAUTHORIZED: no key"
        );
    }
}
