//! `shardcast sub`: prints events for a pipe.
//!
//! Events go to one side, what a person should know to the other. Order, losses and, with `--reconnect`, going on
//! behind the last event are the client's: see [`shardcast_client`].

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU16;
use std::sync::Arc;

use futures_util::stream::SelectAll;
use futures_util::{FutureExt, StreamExt};
use shardcast_client::{
    Client, Gap, Item, Notice, OnNotice, Options, Position, Reason, Since, Subscribe, is_pattern,
    matches,
};
use tokio::sync::mpsc;

use crate::config::client::ClientSettings;

use super::client::options;
use super::{Failure, say};

/// Notices that wait while an event is printed; more are not told.
const NOTICES_MAX: usize = 1024;

/// Where a topic, or each of them, starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    topic: Option<String>,
    at: Position,
}

impl Start {
    /// `TOPIC=EPOCH:SEQ`, or `EPOCH:SEQ` for every topic. An epoch has no equals sign, a topic may.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (topic, at) = match text.rsplit_once('=') {
            Some((topic, at)) => (Some(topic.to_owned()), at),
            None => (None, text),
        };
        let at = at.parse::<Position>();
        let at = at.map_err(|error| format!("{}; or TOPIC=EPOCH:SEQ", error.message))?;
        Ok(Self { topic, at })
    }
}

/// What to subscribe to.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) topics: Vec<String>,
    pub(super) last: Option<u64>,
    pub(super) starts: Vec<Start>,
    pub(super) latest: bool,
    pub(super) max_rate: Option<NonZeroU16>,
    pub(super) reconnect: bool,
    pub(super) verbose: bool,
}

impl Subscription {
    /// Each topic once, and then each pattern: what is named has its own place beside a pattern that means it too.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for of_patterns in [false, true] {
            for name in &self.topics {
                if is_pattern(name) == of_patterns && !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// What is asked for under a name.
    fn wish(&self, name: &str) -> Subscribe {
        let starts = self.starts.iter();
        let since = if is_pattern(name) {
            let starts = starts.filter_map(|start| Some((start.topic.as_deref()?, &start.at)));
            let starts = starts.filter(|(topic, _)| matches(name, topic));
            let all: BTreeMap<Arc<str>, _> = starts
                .map(|(topic, at)| (topic.into(), at.clone()))
                .collect();
            (!all.is_empty()).then_some(Since::Topics(all))
        } else {
            let is_own = |start: &&Start| start.topic.as_deref() == Some(name);
            let own = starts.clone().rfind(is_own);
            let start = own.or_else(|| starts.clone().rfind(|start| start.topic.is_none()));
            start.map(|start| Since::Topic(start.at.clone()))
        };
        Subscribe {
            last: self.last.unwrap_or_default(),
            since,
            latest: self.latest,
            max_rate: self.max_rate,
            until_deleted: true,
            keep_text: true,
        }
    }

    /// Fails where a start is of a topic that is not among them.
    fn check(&self) -> Result<(), Failure> {
        let mut named = self.starts.iter().filter_map(|start| start.topic.as_ref());
        let is_meant = |topic: &&String| self.topics.iter().any(|name| matches(name, topic));
        match named.find(|topic| !is_meant(topic)) {
            None => Ok(()),
            Some(topic) => Err(Failure::Start(topic.clone())),
        }
    }
}

/// Prints each event on a line of `out`, and what a person should know on `notices`, until one of the two sides ends.
pub(super) async fn subscribe(
    settings: &ClientSettings,
    subscription: &Subscription,
    out: &mut dyn Write,
    notices: &mut dyn Write,
) -> Result<(), Failure> {
    subscription.check()?;
    let (told, mut news) = mpsc::channel(NOTICES_MAX);
    let on_notice = OnNotice::from(move |notice| drop(told.try_send(notice)));
    let client = Client::connect(Options {
        on_notice: Some(on_notice),
        ..options(settings, subscription.reconnect)
    });
    let client = client.await?;
    let names = subscription.names();
    let mut items = SelectAll::new();
    for (index, name) in names.iter().enumerate() {
        let subscribed = client.subscribe(name, subscription.wish(name))?;
        items.push(subscribed.map(move |item| (index, item)));
    }
    let mut printer = Printer {
        names,
        epochs: BTreeMap::new(),
        verbose: subscription.verbose,
        out,
        notices,
    };
    loop {
        tokio::select! {
            biased;
            Some(notice) = news.recv() => printer.note(notice),
            next = items.next() => match next {
                Some((index, Ok(item))) => printer.print(index, item)?,
                Some((_, Err(error))) => {
                    // What has come under other names is printed all the same.
                    while let Some(Some((index, item))) = items.next().now_or_never() {
                        item.map_or(Ok(()), |item| printer.print(index, item))?;
                    }
                    return Err(error.into());
                }
                None => return Err(Failure::Deleted),
            },
        }
    }
}

/// The two sides that are printed to.
struct Printer<'a> {
    names: Vec<&'a str>,
    /// Of each topic that is named: the life of it that comes under its name, and the one before that.
    epochs: BTreeMap<String, [Arc<str>; 2]>,
    verbose: bool,
    out: &'a mut dyn Write,
    /// Nobody may be there to hear them, and that changes nothing.
    notices: &'a mut dyn Write,
}

impl Printer<'_> {
    /// What has come under one of the names.
    fn print(&mut self, index: usize, item: Item) -> Result<(), Failure> {
        let (topic, epoch) = match &item {
            Item::Event(event) => (&event.topic, &event.epoch),
            Item::Gap(gap) => (&gap.topic, &gap.epoch),
        };
        if self.has_come(index, topic, epoch) {
            return Ok(());
        }
        match item {
            Item::Event(event) => self.print_event(&event.text.unwrap_or_default()),
            Item::Gap(gap) => {
                say(self.notices, &Missing(gap));
                Ok(())
            }
        }
    }

    /// Whether it comes under an earlier name too. A topic that is named ends there with its life; another one of that name
    /// comes under the patterns alone.
    fn has_come(&self, index: usize, topic: &str, epoch: &Arc<str>) -> bool {
        let (earlier, rest) = self.names.split_at(index);
        let has_come = |name: &&str| {
            if is_pattern(name) {
                return matches(name, topic);
            }
            let epochs = self.epochs.get(*name).filter(|_| *name == topic);
            epochs.is_some_and(|epochs| epochs.contains(epoch))
        };
        // Each name is there once, so that only patterns mean what others mean.
        rest.first().is_some_and(|name| is_pattern(name)) && earlier.iter().any(has_come)
    }

    /// The event as it came. A line end can only be white space between JSON tokens, of the publisher's making; as a
    /// blank it means the same and leaves one event on one line.
    fn print_event(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.replace(['\n', '\r'], " "))?;
        Ok(self.out.flush()?)
    }

    fn note(&mut self, notice: Notice) {
        let text = match notice {
            Notice::Disconnected { reason, retry_in } => {
                format!("{reason}; trying again in {:.1} s", retry_in.as_secs_f64())
            }
            Notice::Subscribed { name, positions } => {
                if let Some(at) = positions.get(&*name) {
                    let [now, before] = self.epochs.entry(name).or_default();
                    if *now != at.epoch {
                        *before = std::mem::replace(now, Arc::clone(&at.epoch));
                    }
                }
                for (topic, at) in positions.iter().filter(|_| self.verbose) {
                    say(self.notices, &format_args!("'{topic}' is at {at}"));
                }
                return;
            }
            Notice::TopicCreated(topic) => format!("topic '{topic}' was created"),
            Notice::TopicDeleted(topic) => format!("topic '{topic}' was deleted"),
            Notice::SlowConsumer(text) => text,
            Notice::ShuttingDown => "the server is shutting down".to_owned(),
            _ => return,
        };
        say(self.notices, &text);
    }
}

/// A gap, for a person.
struct Missing(Gap);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Gap {
            topic,
            first,
            last,
            count,
            reason,
            ..
        } = &self.0;
        let Some(last) = last else {
            return write!(
                f,
                "'{topic}' is another one than it was: what this one kept follows"
            );
        };
        if *reason == Reason::History {
            write!(f, "'{topic}' does not reach back that far: ")?;
        } else {
            write!(f, "'{topic}': ")?;
        }
        match count {
            // A policy had the others replaced on purpose.
            Some(count) if *count <= last - first => {
                write!(f, "{count} of {first} to {last} are lost")
            }
            _ if first == last => write!(f, "{first} is lost"),
            _ => write!(f, "{first} to {last} are lost"),
        }
    }
}

#[cfg(test)]
mod tests;
