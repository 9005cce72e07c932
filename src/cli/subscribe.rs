//! `shardcast sub`: prints events for a pipe.

use std::io::{self, Write};

use crate::config::client::ClientSettings;

use super::Failure;
use super::client::{ClientReceiver, ClientSender, connect};
use super::message::{Command, ErrorBody, Kind, ServerMessage, Since};

/// What to subscribe to.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topics: Vec<String>,
    pub(super) last: Option<u64>,
    pub(super) since: Option<Since>,
    pub(super) verbose: bool,
}

/// Prints each event on a line of `out`, and what a person should know on `notices`, until one of the two sides ends.
pub(super) async fn subscribe(
    settings: &ClientSettings,
    subscription: &Subscription,
    out: &mut dyn Write,
    notices: &mut dyn Write,
) -> Result<(), Failure> {
    let (sender, receiver) = connect(settings).await?;
    // Both go on at once: replayed events may fill the way back before the last topic is asked for.
    tokio::select! {
        ended = print_all(receiver, subscription.verbose, out, notices) => ended,
        () = ask_for_all(&sender, subscription) => Ok(()),
    }
}

/// Asks for each topic and then never ends: from there on it is the other side that has something to say.
async fn ask_for_all(sender: &ClientSender, subscription: &Subscription) {
    for (n, topic) in (1_u64..).zip(&subscription.topics) {
        let request_id = n.to_string();
        let command = Command::Subscribe {
            topic,
            last_n: subscription.last,
            since: subscription.since.as_ref(),
            request_id: &request_id,
        };
        if sender.send(command.to_json()).await.is_err() {
            break; // The reader knows why.
        }
    }
    std::future::pending::<()>().await;
}

async fn print_all(
    mut receiver: ClientReceiver,
    verbose: bool,
    out: &mut dyn Write,
    notices: &mut dyn Write,
) -> Result<(), Failure> {
    loop {
        let text = receiver.next().await?;
        let Some(message) = ServerMessage::parse(&text) else {
            writeln!(notices, "shardcast: not understood: {text}")?;
            continue;
        };
        match message.kind {
            Kind::Event => print_event(&text, out)?,
            Kind::Ack => print_position(&message, verbose, notices)?,
            Kind::Error | Kind::Info => match (message.notice(), message.error) {
                (Some(notice), _) => writeln!(notices, "shardcast: {notice}")?,
                (None, Some(ErrorBody { code, message })) => {
                    return Err(Failure::Server { code, message });
                }
                (None, None) => {}
            },
            Kind::Pong | Kind::Unknown => {}
        }
    }
}

/// The event as it came. A line end can only be white space between JSON tokens, of the publisher's making; as a blank
/// it means the same and leaves one event on one line.
fn print_event(text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", text.replace(['\n', '\r'], " "))?;
    out.flush()
}

fn print_position(
    ack: &ServerMessage<'_>,
    verbose: bool,
    notices: &mut dyn Write,
) -> io::Result<()> {
    let topic = ack.topic.as_deref().unwrap_or("?");
    if ack.recovered == Some(false) {
        writeln!(
            notices,
            "shardcast: '{topic}' does not reach back that far: what it kept follows"
        )?;
    }
    match (&ack.epoch, ack.seq) {
        (Some(epoch), Some(seq)) if verbose => {
            writeln!(notices, "shardcast: '{topic}' is at {epoch}:{seq}")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::test_server::{Answer, TestServer};

    use super::*;

    /// Subscribes until the server ends it; what was printed, and how it ended.
    async fn subscribe_to(
        server: &TestServer,
        subscription: Subscription,
    ) -> (String, String, String) {
        let (mut out, mut notices) = (Vec::new(), Vec::new());
        let ended = subscribe(&server.settings(), &subscription, &mut out, &mut notices).await;
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            text(out),
            text(notices),
            ended.expect_err("it ends with the connection").to_string(),
        )
    }

    fn topics(topics: &[&str]) -> Subscription {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Subscription {
            topics,
            last: None,
            since: None,
            verbose: false,
        }
    }

    fn event(topic: &str, seq: u64, payload: &str) -> Answer {
        Answer::Text(format!(
            r#"{{"type":"event","topic":"{topic}","message":{{"id":"i","payload":{payload}}},"ts":"x","seq":{seq}}}"#
        ))
    }

    fn text(text: &str) -> Answer {
        Answer::Text(text.to_owned())
    }

    #[tokio::test]
    async fn events_are_printed_as_they_came_and_the_rest_is_not() {
        let server = TestServer::start(|_| {
            vec![
                text(
                    r#"{"type":"ack","request_id":"1","topic":"a","status":"ok","ts":"x","epoch":"9f","seq":7}"#,
                ),
                event("a", 8, "{\"b\":  1.0}"),
                text(r#"{"type":"info","msg":"ping","ts":"x"}"#),
                text(
                    r#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"3 dropped"},"ts":"x","dropped":3}"#,
                ),
                event("a", 12, "[\n1,\r\n2]"),
                text(r#"{"type":"info","topic":"a","msg":"topic_deleted","ts":"x"}"#),
                Answer::Close(1001, "bye"),
            ]
        });
        let (out, notices, ended) = subscribe_to(&server.await, topics(&["a"])).await;
        assert_eq!(
            out,
            "{\"type\":\"event\",\"topic\":\"a\",\"message\":{\"id\":\"i\",\"payload\":{\"b\":  1.0}},\"ts\":\"x\",\"seq\":8}\n\
             {\"type\":\"event\",\"topic\":\"a\",\"message\":{\"id\":\"i\",\"payload\":[ 1,  2]},\"ts\":\"x\",\"seq\":12}\n"
        );
        assert_eq!(
            notices,
            "shardcast: 3 dropped\nshardcast: topic 'a' was deleted\n"
        );
        assert_eq!(ended, "the server closed the connection (code 1001: bye)");
    }

    #[tokio::test]
    async fn every_topic_is_asked_for_with_the_position() {
        let server = TestServer::start(|command| match command["topic"].as_str() {
            Some("b") => vec![Answer::Close(1000, "")],
            _ => vec![text(
                r#"{"type":"ack","topic":"a","status":"ok","ts":"x","epoch":"9f","seq":7,"recovered":false}"#,
            )],
        })
        .await;
        let since = Some(Since::parse("9f:5").expect("a position"));
        let (_, notices, _) = subscribe_to(
            &server,
            Subscription {
                since,
                verbose: true,
                ..topics(&["a", "b"])
            },
        )
        .await;
        assert_eq!(
            notices,
            "shardcast: 'a' does not reach back that far: what it kept follows\nshardcast: 'a' is at 9f:7\n"
        );
        let commands = server.commands();
        assert_eq!(commands[0]["since"]["seq"], 5);
        assert_eq!(
            (&commands[1]["topic"], &commands[1]["request_id"]),
            (&"b".into(), &"2".into())
        );
    }

    #[tokio::test]
    async fn an_error_of_the_server_ends_it() {
        let server = TestServer::start(|_| {
            vec![text(
                r#"{"type":"error","request_id":"1","error":{"code":"TOPIC_NOT_FOUND","message":"no 'a'"},"ts":"x"}"#,
            )]
        });
        let (_, _, ended) = subscribe_to(&server.await, topics(&["a"])).await;
        assert_eq!(ended, "TOPIC_NOT_FOUND: no 'a'");
    }

    #[tokio::test]
    async fn many_topics_with_history_do_not_block_each_other() {
        let server = TestServer::start(|command| {
            let last = command["topic"] == "t999";
            let close = last.then_some(Answer::Close(1000, ""));
            (1..=20)
                .map(|seq| event("t", seq, "1"))
                .chain(close)
                .collect()
        });
        let names: Vec<_> = (0..1000).map(|n| format!("t{n}")).collect();
        let subscription = Subscription {
            topics: names,
            ..topics(&[])
        };
        let (out, _, _) = subscribe_to(&server.await, subscription).await;
        assert_eq!(out.lines().count(), 20_000);
    }

    /// A pipe whose reader has gone.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_closed_pipe_ends_it() {
        let server = TestServer::start(|_| vec![event("a", 1, "1")]).await;
        let ended = subscribe(
            &server.settings(),
            &topics(&["a"]),
            &mut Closed,
            &mut Vec::new(),
        )
        .await;
        assert!(
            matches!(ended, Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }
}
