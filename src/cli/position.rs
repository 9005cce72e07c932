//! Where each topic of a subscription is, so that another connection can go on there.
//!
//! A position is behind the last event that was printed, or where the ack says that live events begin. Where a
//! replay was asked for, it is only known with the first event: until then the replay is asked for again.

use std::fmt;

use ahash::AHashMap;

use super::message::{Since, Start};

/// What is said of a topic that was asked for more than it kept.
pub(super) const TOO_FAR_BACK: &str = "does not reach back that far: what it kept follows";

/// And of one that has begun again since it was last seen.
pub(super) const ANOTHER_ONE: &str = "is another one than it was: what this one kept follows";

/// The topics of a subscription that are still there, in their order.
#[derive(Debug)]
pub(super) struct Positions {
    names: Vec<String>,
    topics: AHashMap<String, Position>,
}

#[derive(Debug)]
struct Position {
    /// Replay that is asked for while there is no `since`.
    last: Option<u64>,
    since: Option<Since>,
    /// The epoch of the last ack.
    epoch: String,
    /// Events after this one were not all kept; the next event shows which.
    lost_after: Option<u64>,
}

/// The first and the last of some events that are lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost(u64, u64);

impl Lost {
    /// Those behind `before` and in front of `after`.
    pub(super) fn between(before: u64, after: u64) -> Self {
        Self(before + 1, after - 1)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.0, self.1)
    }
}

impl Positions {
    /// Fails where a start is of a topic that is not among them.
    pub(super) fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        last: Option<u64>,
        starts: &[Start],
    ) -> Result<Self, String> {
        let names: Vec<_> = names.map(str::to_owned).collect();
        let of_all = starts.iter().rfind(|start| start.topic.is_none());
        let position = || Position {
            last,
            since: of_all.map(|start| start.since.clone()),
            epoch: String::new(),
            lost_after: None,
        };
        let pairs = names.iter().map(|name| (name.clone(), position()));
        let mut topics: AHashMap<_, _> = pairs.collect();
        for Start { topic, since } in starts {
            let Some(topic) = topic else { continue };
            let position = topics.get_mut(topic).ok_or_else(|| topic.clone())?;
            position.since = Some(since.clone());
        }
        Ok(Self { names, topics })
    }

    /// Each topic with the replay to ask for.
    pub(super) fn topics(&self) -> impl Iterator<Item = (&str, Option<u64>, Option<Since>)> {
        self.names.iter().filter_map(|name| {
            let position = self.topics.get(name)?;
            let last = position.last.filter(|_| position.since.is_none());
            Some((name.as_str(), last, position.since.clone()))
        })
    }

    /// An ack: `seq` is the newest. Says what is missing, if something is.
    pub(super) fn start(
        &mut self,
        topic: &str,
        epoch: &str,
        seq: u64,
        recovered: Option<bool>,
    ) -> Option<&'static str> {
        let position = self.topics.get_mut(topic)?;
        epoch.clone_into(&mut position.epoch);
        let since = |seq| Since {
            epoch: epoch.to_owned(),
            seq,
        };
        if recovered == Some(false) {
            let asked = position.since.replace(since(0));
            let is_same = asked.as_ref().is_some_and(|asked| asked.epoch == epoch);
            position.lost_after = asked.filter(|_| is_same).map(|asked| asked.seq);
            return Some(if is_same { TOO_FAR_BACK } else { ANOTHER_ONE });
        }
        if position.since.is_none() && (position.last.is_none() || seq == 0) {
            position.since = Some(since(seq));
        }
        None
    }

    /// An event has been printed. Says which before it are lost, if that was in question.
    pub(super) fn pass(&mut self, topic: &str, seq: u64) -> Option<Lost> {
        let position = self.topics.get_mut(topic)?;
        let here = || Since {
            epoch: position.epoch.clone(),
            seq,
        };
        position.since.get_or_insert_with(here).seq = seq;
        let last_seen = position.lost_after.take()?;
        (last_seen + 1 < seq).then(|| Lost(last_seen + 1, seq - 1))
    }

    /// A topic has been deleted. Says whether none is left.
    pub(super) fn end(&mut self, topic: &str) -> bool {
        self.topics.remove(topic);
        self.topics.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(topics: &[&str], last: Option<u64>, starts: &[&str]) -> Result<Positions, String> {
        let starts: Vec<_> = starts
            .iter()
            .map(|start| Start::parse(start).expect("a start"))
            .collect();
        Positions::new(topics.iter().copied(), last, &starts)
    }

    fn asked(positions: &Positions) -> Vec<String> {
        let topics = positions.topics();
        topics
            .map(|(name, last, since)| {
                let since = since.map(|since| format!("{}:{}", since.epoch, since.seq));
                format!("{name} {last:?} {}", since.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn each_topic_has_its_own_start() {
        let topics = positions(&["b", "a", "c"], None, &["a=9f:1", "8e:2", "c=7d:3"]);
        assert_eq!(
            asked(&topics.expect("known topics")),
            ["b None 8e:2", "a None 9f:1", "c None 7d:3"]
        );
        assert_eq!(positions(&["a"], None, &["x=9f:1"]).expect_err("x"), "x");
    }

    #[test]
    fn a_position_follows_what_is_printed() {
        let mut topics = positions(&["a"], None, &[]).expect("known topics");
        assert_eq!(topics.start("a", "9f", 7, None), None);
        assert_eq!(asked(&topics), ["a None 9f:7"]);
        assert_eq!(topics.pass("a", 8), None);
        assert_eq!(topics.start("a", "9f", 12, Some(true)), None);
        assert_eq!(
            asked(&topics),
            ["a None 9f:8"],
            "nothing of the replay has come yet"
        );
        assert_eq!(topics.pass("a", 9), None);
        assert_eq!(asked(&topics), ["a None 9f:9"]);
    }

    #[test]
    fn a_replay_that_did_not_begin_is_asked_for_again() {
        let mut topics = positions(&["a"], Some(3), &[]).expect("known topics");
        topics.start("a", "9f", 7, None);
        assert_eq!(asked(&topics), ["a Some(3) "]);
        topics.pass("a", 5);
        assert_eq!(asked(&topics), ["a None 9f:5"]);
        let mut empty = positions(&["a"], Some(3), &[]).expect("known topics");
        empty.start("a", "9f", 0, None);
        assert_eq!(asked(&empty), ["a None 9f:0"]);
    }

    #[test]
    fn what_is_lost_is_said_with_the_next_event() {
        let mut topics = positions(&["a"], None, &["9f:10"]).expect("known topics");
        let gap = topics.start("a", "9f", 30, Some(false));
        assert!(gap.is_some_and(|gap| gap.contains("that far")));
        assert_eq!(topics.pass("a", 21), Some(Lost(11, 20)));
        assert_eq!(topics.pass("a", 22), None);
        let gap = topics.start("a", "8e", 2, Some(false));
        assert!(gap.is_some_and(|gap| gap.contains("another one")));
        assert_eq!(
            (asked(&topics), topics.pass("a", 1)),
            (vec!["a None 8e:0".to_owned()], None)
        );
    }

    #[test]
    fn topics_end_one_by_one() {
        let mut topics = positions(&["a", "b"], None, &[]).expect("known topics");
        assert!(!topics.end("a"));
        assert_eq!(asked(&topics), ["b None "]);
        assert!(topics.end("b"));
    }
}
