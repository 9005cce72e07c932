//! Topics that patterns have brought, and how far each is printed.
//!
//! A pattern is asked for with the positions of all its topics once they are known, so that each goes on behind the
//! last event that was printed. What is replayed although it was printed is not printed again.

use std::collections::BTreeMap;

use crate::pattern::Pattern;

use super::message::{Asked, ServerMessage, Since, Start};
use super::position::{ANOTHER_ONE, Lost, TOO_FAR_BACK};

/// Positions beyond so many bytes do not go into one message of `MAX_MESSAGE_SIZE`, whose default this stays below.
const POSITIONS_BYTES_MAX: usize = 56 * 1024;

/// What one position takes in a message beside the name and the epoch.
const POSITION_BYTES: usize = 48;

/// See the module.
#[derive(Debug)]
pub(super) struct Found {
    patterns: Vec<Wanted>,
    last: Option<u64>,
    topics: BTreeMap<String, At>,
}

#[derive(Debug)]
struct Wanted {
    pattern: Pattern,
    /// Its topics were told once, or by the caller.
    is_known: bool,
}

#[derive(Debug)]
struct At {
    epoch: String,
    /// The last event that was printed, or that is not to be. None while a replay is still to begin.
    seq: Option<u64>,
    /// Not all events behind it were kept; the next one shows which.
    is_lost: bool,
}

/// What is to become of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It was printed before.
    Again,
    /// It is new; those in front of it may be lost.
    New(Option<Lost>),
}

impl Found {
    pub(super) fn new(patterns: Vec<Pattern>, last: Option<u64>) -> Self {
        let wanted = |pattern| Wanted {
            pattern,
            is_known: false,
        };
        Self {
            patterns: patterns.into_iter().map(wanted).collect(),
            last,
            topics: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Starts a topic behind an event; false if no pattern means it.
    pub(super) fn start(&mut self, start: &Start) -> bool {
        let Some(topic) = &start.topic else {
            return false;
        };
        let mut is_meant = false;
        for of in self
            .patterns
            .iter_mut()
            .filter(|of| of.pattern.matches(topic))
        {
            is_meant = true;
            of.is_known = true;
        }
        if is_meant {
            let Since { epoch, seq } = start.since.clone();
            let seq = Some(seq);
            let is_lost = false;
            let at = At {
                epoch,
                seq,
                is_lost,
            };
            self.topics.insert(topic.clone(), at);
        }
        is_meant
    }

    /// Each pattern with what to ask for.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&str, Option<u64>, Asked)> {
        self.patterns.iter().map(|of| {
            if !of.is_known {
                return (of.pattern.as_str(), self.last, Asked::Told(true));
            }
            let mut bytes = 0;
            let topics = self.topics.iter();
            let topics = topics.filter(|(topic, _)| of.pattern.matches(topic));
            let positions = topics.filter_map(|(topic, at)| {
                let (epoch, seq) = (at.epoch.clone(), at.seq?);
                bytes += POSITION_BYTES + 2 * topic.len() + epoch.len();
                Some((topic.clone(), Since { epoch, seq })).filter(|_| bytes <= POSITIONS_BYTES_MAX)
            });
            let asked = Asked::After(positions.collect());
            (of.pattern.as_str(), None, asked)
        })
    }

    /// The ack of a pattern. Says what is missing, topic by topic.
    pub(super) fn note(&mut self, ack: &ServerMessage<'_>) -> Vec<String> {
        let (Some(name), Some(positions)) = (&ack.topic, &ack.positions) else {
            return Vec::new();
        };
        let Some(of) = self
            .patterns
            .iter_mut()
            .find(|of| of.pattern.as_str() == name)
        else {
            return Vec::new();
        };
        let is_resumed = std::mem::replace(&mut of.is_known, true);
        let pattern = &of.pattern;
        self.topics
            .retain(|topic, _| !pattern.matches(topic) || positions.contains_key(topic));
        let mut gaps = Vec::new();
        for (topic, Since { epoch, seq }) in positions {
            let at = self.topics.entry(topic.clone()).or_insert_with(|| At {
                epoch: epoch.clone(),
                seq: match (is_resumed, self.last) {
                    (true, _) => Some(0),
                    (false, Some(1..)) if *seq > 0 => None,
                    _ => Some(*seq),
                },
                is_lost: false,
            });
            if at.epoch != *epoch {
                epoch.clone_into(&mut at.epoch);
                at.seq = Some(0);
                gaps.push(format!("'{topic}' {ANOTHER_ONE}"));
            } else if ack.lost.iter().flatten().any(|lost| lost == topic) {
                at.is_lost = true;
                gaps.push(format!("'{topic}' {TOO_FAR_BACK}"));
            }
        }
        gaps
    }

    /// A topic has come to be.
    pub(super) fn begin(&mut self, topic: &str, epoch: &str) {
        let at = At {
            epoch: epoch.to_owned(),
            seq: Some(0),
            is_lost: false,
        };
        self.topics.insert(topic.to_owned(), at);
    }

    /// A topic has gone.
    pub(super) fn end(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// An event has come.
    pub(super) fn pass(&mut self, topic: &str, seq: u64) -> Passed {
        let Some(at) = self.topics.get_mut(topic) else {
            return Passed::New(None);
        };
        let before = at.seq.unwrap_or_else(|| seq.saturating_sub(1));
        if seq <= before {
            return Passed::Again;
        }
        at.seq = Some(seq);
        let is_lost = std::mem::take(&mut at.is_lost);
        Passed::New((is_lost && before + 1 < seq).then(|| Lost::between(before, seq)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(patterns: &[&str], last: Option<u64>) -> Found {
        let pattern = |text: &&str| Pattern::parse(text).expect("a pattern");
        Found::new(patterns.iter().map(pattern).collect(), last)
    }

    fn note(found: &mut Found, fields: &str) -> Vec<String> {
        let ack = format!(r#"{{"type":"ack","topic":"a.*","status":"ok","ts":"x",{fields}}}"#);
        found.note(&ServerMessage::parse(&ack).expect("an ack"))
    }

    fn asked(found: &Found) -> Vec<String> {
        let patterns = found.patterns();
        patterns
            .map(|(name, last, asked)| {
                let asked = serde_json::to_string(&asked).expect("JSON");
                format!("{name} {last:?} {asked}")
            })
            .collect()
    }

    #[test]
    fn each_topic_goes_on_where_it_was() {
        let mut found = found(&["a.*", "b.>"], None);
        assert_eq!(asked(&found), ["a.* None true", "b.> None true"]);
        let ack = r#""matched":2,"positions":{"a.1":{"epoch":"9f","seq":7},"a.2":{"epoch":"8e","seq":0}}"#;
        assert!(note(&mut found, ack).is_empty());
        assert_eq!(found.pass("a.1", 7), Passed::Again);
        assert_eq!(found.pass("a.1", 8), Passed::New(None));
        found.begin("a.3", "7d");
        assert_eq!(found.pass("a.3", 1), Passed::New(None));
        found.end("a.2");
        assert_eq!(
            asked(&found),
            [
                r#"a.* None {"a.1":{"epoch":"9f","seq":8},"a.3":{"epoch":"7d","seq":1}}"#,
                "b.> None true"
            ]
        );
        let gaps = note(
            &mut found,
            r#""matched":2,"recovered":false,"lost":["a.1","a.3"],"positions":{"a.1":{"epoch":"9f","seq":20},"a.3":{"epoch":"6c","seq":5},"a.4":{"epoch":"5b","seq":2}}"#,
        );
        assert!(
            gaps[0].contains("'a.1' does not reach back") && gaps[1].contains("'a.3' is another")
        );
        assert_eq!(
            found.pass("a.1", 15),
            Passed::New(Some(Lost::between(8, 15)))
        );
        assert_eq!(found.pass("a.3", 1), Passed::New(None));
        assert_eq!(found.pass("a.4", 1), Passed::New(None));
    }

    #[test]
    fn a_replay_that_did_not_begin_is_asked_for_again() {
        let mut found = found(&["a.*"], Some(3));
        assert_eq!(asked(&found), ["a.* Some(3) true"]);
        note(
            &mut found,
            r#""positions":{"a.1":{"epoch":"9f","seq":7},"a.2":{"epoch":"8e","seq":5}}"#,
        );
        assert_eq!(found.pass("a.1", 5), Passed::New(None));
        assert_eq!(
            asked(&found),
            [r#"a.* None {"a.1":{"epoch":"9f","seq":5}}"#]
        );
    }

    #[test]
    fn a_start_is_for_a_topic_that_a_pattern_means() {
        let mut found = found(&["a.*"], None);
        let start = |text: &str| Start::parse(text).expect("a start");
        assert!(!found.start(&start("b=9f:1")) && !found.start(&start("9f:1")));
        assert!(found.start(&start("a.1=9f:4")));
        assert_eq!(
            asked(&found),
            [r#"a.* None {"a.1":{"epoch":"9f","seq":4}}"#]
        );
    }

    #[test]
    fn positions_that_do_not_fit_are_left_out_and_their_events_not_printed_twice() {
        let mut found = found(&["a.*"], None);
        note(&mut found, r#""positions":{}"#);
        for number in 0..5000 {
            found.begin(&format!("a.{number}"), "9f9f9f9f9f9f9f9f");
            found.pass(&format!("a.{number}"), 3);
        }
        assert!(asked(&found)[0].len() < 64 * 1024);
        assert_eq!(found.pass("a.4999", 3), Passed::Again);
    }
}
