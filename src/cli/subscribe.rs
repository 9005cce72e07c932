//! `shardcast sub`: prints events for a pipe.
//!
//! Events go to one side, what a person should know to the other. With `--reconnect` a connection that is lost is
//! made again, and each topic goes on behind the last event that was printed; see [`position`](super::position).

use std::io::{self, Write};
use std::time::Duration;

use shardcast_client::link::{LinkReceiver, LinkSender};
use tokio::time::sleep;
use uuid::Uuid;

use crate::config::client::ClientSettings;
use crate::pattern::{Pattern, has_wildcards};

use super::client::connect;
use super::found::{Found, Passed};
use super::message::{Command, ErrorBody, Kind, ServerMessage, Since, Start, Wish};
use super::position::Positions;
use super::{Failure, say};

/// The first pause before another connection, and the longest one.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Of a message that is not understood so much is shown: enough to see whose it is.
const SHOWN_CHARS_MAX: usize = 200;

/// What to subscribe to.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topics: Vec<String>,
    pub(super) last: Option<u64>,
    pub(super) starts: Vec<Start>,
    pub(super) policy: Wish,
    pub(super) reconnect: bool,
    pub(super) verbose: bool,
}

/// Prints each event on a line of `out`, and what a person should know on `notices`, until one of the two sides ends.
pub(super) async fn subscribe(
    settings: &ClientSettings,
    subscription: &Subscription,
    out: &mut dyn Write,
    notices: &mut dyn Write,
) -> Result<(), Failure> {
    let topics = subscription.topics.iter().map(String::as_str);
    let (patterns, names): (Vec<_>, Vec<_>) = topics.partition(|name| has_wildcards(name));
    let patterns = patterns
        .into_iter()
        .map(parse_pattern)
        .collect::<Result<_, _>>()?;
    let mut found = Found::new(patterns, subscription.last);
    let mut starts = subscription.starts.clone();
    // A topic that is named beside a pattern that means it has its start with both.
    starts.retain(|start| {
        let is_named = start
            .topic
            .as_deref()
            .is_none_or(|topic| names.contains(&topic));
        !found.start(start) || is_named
    });
    let positions = Positions::new(names.into_iter(), subscription.last, &starts);
    let mut session = Session {
        found,
        positions: positions.map_err(Failure::Start)?,
        wish: subscription.policy,
        verbose: subscription.verbose,
        is_subscribed: false,
        was_subscribed: false,
        slot: None,
        out,
        notices,
    };
    let mut failures = 0;
    loop {
        let Err(failure) = session.run(settings).await else {
            return Ok(());
        };
        if !subscription.reconnect || !session.is_passing(&failure) {
            return Err(failure);
        }
        failures = if session.is_subscribed {
            0
        } else {
            failures + 1
        };
        // A broker that shut down has said when; else nobody has.
        let slot = session.slot.take();
        let pause = slot.unwrap_or_else(|| retry_pause(failures, Uuid::new_v4().as_u128()));
        let seconds = pause.as_secs_f64();
        let text = format_args!("{failure}; trying again in {seconds:.1} s");
        say(session.notices, &text);
        sleep(pause).await;
    }
}

fn parse_pattern(text: &str) -> Result<Pattern, Failure> {
    Pattern::parse(text).map_err(|error| Failure::Pattern(text.to_owned(), error))
}

/// The pause before the next connection: twice as long each time, and between half and all of that, so that the
/// clients of a broker that was started again do not come all at once.
fn retry_pause(failures: u32, random: u128) -> Duration {
    let whole = RETRY_PAUSE_MIN
        .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
        .min(RETRY_PAUSE_MAX);
    let thousandths = u32::try_from(random % 500).unwrap_or_default() + 500;
    whole.saturating_mul(thousandths) / 1000
}

/// What outlives a connection.
struct Session<'a> {
    positions: Positions,
    found: Found,
    wish: Wish,
    verbose: bool,
    /// On this connection; on an earlier one.
    is_subscribed: bool,
    was_subscribed: bool,
    /// After what time the broker wants to be asked again.
    slot: Option<Duration>,
    out: &'a mut dyn Write,
    /// Nobody may be there to hear them, and that changes nothing.
    notices: &'a mut dyn Write,
}

impl Session<'_> {
    async fn run(&mut self, settings: &ClientSettings) -> Result<(), Failure> {
        self.was_subscribed |= std::mem::take(&mut self.is_subscribed);
        let (sender, receiver) = connect(settings).await?;
        let commands = self.commands();
        // Both go on at once: replayed events may fill the way back before the last topic is asked for.
        tokio::select! {
            ended = self.print_all(receiver) => ended,
            () = ask_for_all(&sender, commands) => Ok(()),
        }
    }

    /// Whether another connection may do better. A broker that was started again has no topics until they are created.
    fn is_passing(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Link(error) => error.is_passing(),
            Failure::Server { code, .. } => match code.as_str() {
                "TOPIC_NOT_FOUND" => self.is_subscribed || self.was_subscribed,
                code => code == "UNAVAILABLE",
            },
            _ => false,
        }
    }

    fn commands(&self) -> Vec<String> {
        let topics = self.positions.topics();
        let topics = topics.map(|(topic, last_n, since)| (topic, last_n, since, None));
        let patterns = self.found.patterns();
        let patterns = patterns.map(|(name, last_n, asked)| (name, last_n, None, Some(asked)));
        let all = (1_u64..).zip(topics.chain(patterns));
        let command = |(n, (topic, last_n, since, positions)): (u64, (&str, _, Option<_>, _))| {
            let request_id = n.to_string();
            let command = Command::Subscribe {
                topic,
                last_n,
                since: since.as_ref(),
                positions,
                wish: self.wish,
                request_id: &request_id,
            };
            command.to_json()
        };
        all.map(command).collect()
    }

    async fn print_all(&mut self, mut receiver: LinkReceiver) -> Result<(), Failure> {
        loop {
            let text = receiver.next().await?;
            let Some(message) = ServerMessage::parse(&text) else {
                let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                say(self.notices, &format_args!("not understood: {shown}"));
                continue;
            };
            match message.kind {
                Kind::Event => self.print_event(&message, &text)?,
                Kind::Ack => self.note_ack(&message),
                Kind::Error | Kind::Info => self.note(message)?,
                Kind::Pong | Kind::Unknown => {}
            }
        }
    }

    /// The event as it came. A line end can only be white space between JSON tokens, of the publisher's making; as a
    /// blank it means the same and leaves one event on one line.
    fn print_event(&mut self, event: &ServerMessage<'_>, text: &str) -> io::Result<()> {
        if let (Some(topic), Some(seq)) = (&event.topic, event.seq) {
            let Passed::New(lost) = self.found.pass(topic, seq) else {
                return Ok(());
            };
            if let Some(lost) = self.positions.pass(topic, seq).or(lost) {
                say(self.notices, &format_args!("'{topic}': {lost} are lost"));
            }
        }
        writeln!(self.out, "{}", text.replace(['\n', '\r'], " "))?;
        self.out.flush()
    }

    fn note_ack(&mut self, ack: &ServerMessage<'_>) {
        self.is_subscribed = true;
        for gap in self.found.note(ack) {
            say(self.notices, &format_args!("{gap}"));
        }
        if self.verbose {
            for (topic, Since { epoch, seq }) in ack.positions.iter().flatten() {
                say(self.notices, &format_args!("'{topic}' is at {epoch}:{seq}"));
            }
        }
        let (Some(topic), Some(epoch), Some(seq)) = (&ack.topic, &ack.epoch, ack.seq) else {
            return;
        };
        if let Some(gap) = self.positions.start(topic, epoch, seq, ack.recovered) {
            say(self.notices, &format_args!("'{topic}' {gap}"));
        }
        if self.verbose {
            say(self.notices, &format_args!("'{topic}' is at {epoch}:{seq}"));
        }
    }

    fn note(&mut self, message: ServerMessage<'_>) -> Result<(), Failure> {
        if message.msg.as_deref() == Some("shutting_down") {
            self.slot = message.retry_after_ms.map(Duration::from_millis);
        }
        match (message.notice(), message.error) {
            (Some(notice), _) => {
                say(self.notices, &format_args!("{notice}"));
            }
            (None, Some(ErrorBody { code, message })) => {
                return Err(Failure::Server { code, message });
            }
            (None, None) => {}
        }
        match (message.msg.as_deref(), &message.topic, &message.epoch) {
            (Some("topic_created"), Some(topic), Some(epoch)) => self.found.begin(topic, epoch),
            (Some("topic_deleted"), Some(topic), _) => {
                self.found.end(topic);
                if self.positions.end(topic) && self.found.is_empty() {
                    return Err(Failure::Deleted);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Asks for each topic and then never ends: from there on it is the other side that has something to say.
async fn ask_for_all(sender: &LinkSender, commands: Vec<String>) {
    for command in commands {
        if sender.send(command).await.is_err() {
            break; // The reader knows why.
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests;
