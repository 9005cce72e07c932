//! One line of the shell, understood.

use crate::cli::message::{Command, Message, payload};
use crate::cli::{Failure, topics};
use crate::config::client::ClientSettings;

/// The answer to `help`.
pub(super) const HELP: &str = "\
sub TOPIC [N]      subscribe, after the newest N events of the history
unsub TOPIC        no more events of this topic
pub TOPIC PAYLOAD  publish; a PAYLOAD that is not JSON is sent as a string
topics             list the topics
create NAME        create a topic
delete NAME        delete a topic
ping               is anybody there?
quit               leave; so does Ctrl-D";

/// What a line asks for.
#[derive(Debug)]
pub(super) enum Line {
    /// Blank, or a comment of a script.
    Nothing,
    Help,
    Quit,
    /// A command for the server, as it is sent.
    Send(String),
    /// What goes over REST.
    Call(Call),
}

/// What is asked of the broker beside the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Topics,
    Create(String),
    Delete(String),
}

impl Call {
    /// The lines to print.
    pub(super) async fn answer(&self, settings: &ClientSettings) -> Result<Vec<String>, Failure> {
        match self {
            Self::Topics => topics::list(settings).await,
            Self::Create(name) => {
                topics::create(settings, name).await?;
                Ok(vec![format!("ok {name} created")])
            }
            Self::Delete(name) => {
                topics::delete(settings, name).await?;
                Ok(vec![format!("ok {name} deleted")])
            }
        }
    }
}

impl Line {
    /// Understands a line; `request_id` is for the command that comes of it. The error is for the one who typed.
    pub(super) fn parse(line: &str, request_id: &str) -> Result<Self, String> {
        let (name, rest) = split_word(line);
        match name {
            "" => Ok(Self::Nothing),
            comment if comment.starts_with('#') => Ok(Self::Nothing),
            "help" | "?" => Ok(Self::Help),
            "quit" | "exit" => Ok(Self::Quit),
            "ping" => send(&Command::Ping { request_id }),
            "topics" if rest.is_empty() => Ok(Self::Call(Call::Topics)),
            "topics" => Err("usage: topics".to_owned()),
            "create" | "delete" => match split_word(rest) {
                (topic, "") if !topic.is_empty() => Ok(Self::Call(match name {
                    "create" => Call::Create(topic.to_owned()),
                    _ => Call::Delete(topic.to_owned()),
                })),
                _ => Err(format!("usage: {name} NAME")),
            },
            "sub" => parse_sub(rest, request_id),
            "unsub" => match split_word(rest) {
                (topic, "") if !topic.is_empty() => {
                    send(&Command::Unsubscribe { topic, request_id })
                }
                _ => Err("usage: unsub TOPIC".to_owned()),
            },
            "pub" => match split_word(rest) {
                (_, "") => Err("usage: pub TOPIC PAYLOAD".to_owned()),
                (topic, text) => {
                    let message = Message::new(payload(text));
                    send(&Command::Publish {
                        topic,
                        message,
                        request_id,
                    })
                }
            },
            name => Err(format!(
                "unknown command '{name}'; help lists those there are"
            )),
        }
    }
}

fn parse_sub(rest: &str, request_id: &str) -> Result<Line, String> {
    let (topic, last) = split_word(rest);
    let last_n = (!last.is_empty()).then(|| last.parse()).transpose();
    match last_n {
        Ok(last_n) if !topic.is_empty() => send(&Command::Subscribe {
            topic,
            last_n,
            request_id,
        }),
        _ => Err("usage: sub TOPIC [N]".to_owned()),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the last word of every arm that can also fail"
)]
fn send(command: &Command<'_>) -> Result<Line, String> {
    Ok(Line::Send(command.to_json()))
}

/// The first word, and the rest without the blanks around it.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sent(line: &str) -> Value {
        match Line::parse(line, "7") {
            Ok(Line::Send(json)) => serde_json::from_str(&json).expect("JSON"),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_become_messages() {
        assert_eq!(sent("ping")["request_id"], "7");
        assert_eq!(sent(" sub  orders ")["last_n"], Value::Null);
        assert_eq!(sent("sub orders 5")["last_n"], 5);
        assert_eq!(sent("unsub orders")["topic"], "orders");
        assert_eq!(
            sent("pub orders  hello  you")["message"]["payload"],
            "hello  you"
        );
        assert_eq!(sent("pub orders {\"a\": 1}")["message"]["payload"]["a"], 1);
    }

    #[test]
    fn a_line_that_is_not_understood_says_how_it_goes() {
        for line in [
            "sub",
            "sub orders five",
            "sub orders -1",
            "unsub",
            "unsub a b",
            "topics a",
            "create",
            "delete a b",
            "pub",
            "pub orders",
        ] {
            let error = Line::parse(line, "7").expect_err(line);
            assert!(error.starts_with("usage: "), "{error}");
        }
        assert!(
            Line::parse("publish a b", "7")
                .expect_err("unknown")
                .contains("'publish'")
        );
    }

    #[test]
    fn topics_are_managed_beside_the_connection() {
        let call = |line: &str| match Line::parse(line, "7") {
            Ok(Line::Call(call)) => call,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(call("topics"), Call::Topics);
        assert_eq!(call(" create a "), Call::Create("a".to_owned()));
        assert_eq!(call("delete a"), Call::Delete("a".to_owned()));
    }

    #[test]
    fn some_lines_are_for_the_shell_itself() {
        assert!(matches!(Line::parse("  ", "7"), Ok(Line::Nothing)));
        assert!(matches!(Line::parse("# set up", "7"), Ok(Line::Nothing)));
        assert!(matches!(Line::parse("help", "7"), Ok(Line::Help)));
        assert!(matches!(Line::parse("exit", "7"), Ok(Line::Quit)));
        assert!(HELP.lines().all(|line| line.len() <= 80));
    }
}
