//! The shell without a person: lines are executed in order, each answered before the next.

use std::io::Write;
use std::time::Duration;

use shardcast_client::link::{LinkReceiver, LinkSender};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, timeout_at};

use crate::cli::Failure;
use crate::cli::client::close;
use crate::cli::message::{Kind, ServerMessage};
use crate::config::client::ClientSettings;

use super::line::{HELP, Line};
use super::render::render;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long events are still printed after the last line: those that its commands caused are on their way.
const LINGER: Duration = Duration::from_millis(300);

/// Executes every line. It is a failure if one of them was, though the others are executed all the same.
pub(super) async fn run(
    settings: &ClientSettings,
    sender: LinkSender,
    receiver: LinkReceiver,
    input: impl AsyncBufRead + Unpin,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut script = Script {
        settings,
        sender,
        receiver,
        out,
        sent: 0,
        failed: 0,
    };
    script.run(input).await?;
    close(script.sender, script.receiver).await;
    match script.failed {
        0 => Ok(()),
        failed => Err(Failure::Commands(failed)),
    }
}

struct Script<'a> {
    settings: &'a ClientSettings,
    sender: LinkSender,
    receiver: LinkReceiver,
    out: &'a mut dyn Write,
    sent: u64,
    failed: u64,
}

impl Script<'_> {
    async fn run(&mut self, input: impl AsyncBufRead + Unpin) -> Result<(), Failure> {
        let mut lines = input.lines();
        loop {
            tokio::select! {
                line = lines.next_line() => match line.map_err(Failure::Input)? {
                    None => break,
                    Some(line) if !self.execute(&line).await? => return Ok(()),
                    Some(_) => {}
                },
                text = self.receiver.next() => self.print(&text?)?,
            }
        }
        let deadline = Instant::now() + LINGER;
        while let Ok(text) = timeout_at(deadline, self.receiver.next()).await {
            self.print(&text?)?;
        }
        Ok(())
    }

    /// Whether to go on.
    async fn execute(&mut self, line: &str) -> Result<bool, Failure> {
        let request_id = (self.sent + 1).to_string();
        match Line::parse(line, &request_id) {
            Ok(Line::Quit) => return Ok(false),
            Ok(Line::Nothing) => {}
            Ok(Line::Help) => self.say(HELP)?,
            Ok(Line::Send(command)) => {
                self.sent += 1;
                self.sender.send(command).await?;
                self.await_answer(&request_id).await?;
            }
            Ok(Line::Call(call)) => match call.answer(self.settings).await {
                Ok(lines) => lines.iter().try_for_each(|line| self.say(line))?,
                Err(failure) => {
                    self.failed += 1;
                    self.say(&format!("error: {failure}"))?;
                }
            },
            Err(error) => {
                self.failed += 1;
                self.say(&format!("error: {error}"))?;
            }
        }
        Ok(true)
    }

    /// Prints what comes, up to the answer to this request.
    async fn await_answer(&mut self, request_id: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let Ok(text) = timeout_at(deadline, self.receiver.next()).await else {
                self.failed += 1;
                self.say(&format!(
                    "error: no answer within {} s",
                    ANSWER_TIMEOUT.as_secs()
                ))?;
                return Ok(());
            };
            let text = text?;
            self.print(&text)?;
            let message = ServerMessage::parse(&text);
            if let Some(answer) =
                message.filter(|message| message.request_id.as_deref() == Some(request_id))
            {
                self.failed += u64::from(answer.kind == Kind::Error);
                return Ok(());
            }
        }
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        render(text).map_or(Ok(()), |line| self.say(&line))
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::client::connect;
    use crate::cli::test_server::{Answer, TestServer, contract};

    use super::*;

    async fn run_script(server: &TestServer, script: &str) -> (String, Result<(), String>) {
        let (sender, receiver) = connect(&server.settings()).await.expect("a server");
        let mut out = Vec::new();
        let settings = server.settings();
        let result = run(&settings, sender, receiver, script.as_bytes(), &mut out).await;
        (
            String::from_utf8(out).expect("text"),
            result.map_err(|failure| failure.to_string()),
        )
    }

    #[tokio::test]
    async fn lines_are_executed_in_order_and_late_events_are_printed() {
        let server = TestServer::start(contract()).await;
        let script = "# demo\nsub orders 5\npub orders {\"any\":1}\nping\nunsub orders\nsub orders\npub orders hi there\n";
        let (out, result) = run_script(&server, script).await;
        assert_eq!(result, Ok(()));
        assert_eq!(
            out,
            "ok orders, no messages yet\n\
             ok orders #1, to 1 subscriber\n\
             orders #1 {\"any\":1}\n\
             pong\n\
             ok orders\n\
             ok orders, newest is #1\n\
             ok orders #2, to 1 subscriber\n\
             orders #2 \"hi there\"\n"
        );
    }

    #[tokio::test]
    async fn a_failed_line_fails_the_script_but_does_not_stop_it() {
        let server = TestServer::start(contract()).await;
        let (out, result) = run_script(&server, "sub missing\nfly\nping").await;
        assert_eq!(
            out,
            "error TOPIC_NOT_FOUND: about TOPIC_NOT_FOUND\n\
             error: unknown command 'fly'; help lists those there are\n\
             pong\n"
        );
        assert_eq!(result.expect_err("two failed"), "2 of the commands failed");
    }

    #[tokio::test]
    async fn quit_leaves_before_the_end() {
        let server = TestServer::start(contract()).await;
        let (out, result) = run_script(&server, "help\nquit\nping").await;
        assert_eq!((out, result), (format!("{HELP}\n"), Ok(())));
        assert!(server.commands().is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_given_up() {
        let server = TestServer::start(|_| Vec::new()).await;
        let (sender, receiver) = connect(&server.settings()).await.expect("a server");
        tokio::time::pause();
        let mut out = Vec::new();
        let settings = server.settings();
        let result = run(&settings, sender, receiver, "ping".as_bytes(), &mut out).await;
        assert_eq!(out, b"error: no answer within 5 s\n");
        assert_eq!(
            result.expect_err("it failed").to_string(),
            "1 of the commands failed"
        );
    }

    #[tokio::test]
    async fn a_connection_that_ends_ends_the_script() {
        let server = TestServer::start(|_| vec![Answer::Close(1013, "too slow")]).await;
        let (_, result) = run_script(&server, "ping\nping").await;
        assert_eq!(
            result.expect_err("closed"),
            "the server closed the connection (code 1013: too slow)"
        );
    }
}
