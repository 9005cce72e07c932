//! Which events are new, which are repeats, and exactly which are missing.
//!
//! No clock, no socket. Each subscription has a tracker of its own, because two that share a connection see
//! each other's replays. A topic is followed by one mark: everything up to its `seq` has been handed on or told
//! as a gap.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::event::{Gap, Position, Reason};

#[derive(Debug)]
struct Mark {
    topic: Arc<str>,
    epoch: Arc<str>,
    seq: u64,
    /// Of the last ack: a replay up to here may be under way.
    newest: u64,
    /// A replay by count begins wherever the history does; what is before its first event is not lost.
    joined_at: Option<u64>,
    /// An ack has said that something is missing; the next event of the topic says how much.
    is_incomplete: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    since: BTreeMap<Arc<str>, Position>,
    last: u64,
    marks: BTreeMap<Arc<str>, Mark>,
}

/// An event that is new.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) topic: Arc<str>,
    pub(crate) epoch: Arc<str>,
    /// What is missing in front of it.
    pub(crate) gap: Option<Gap>,
}

/// What an ack says of one topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack<'a> {
    pub(crate) topic: &'a str,
    pub(crate) epoch: &'a str,
    /// Number of the newest event.
    pub(crate) newest: u64,
    /// Everything behind the position that was asked for will come.
    pub(crate) is_recovered: bool,
    /// The command said where to go on, so a topic without a position is a new one.
    pub(crate) is_resumed: bool,
}

impl Tracker {
    pub(crate) fn new(since: BTreeMap<Arc<str>, Position>, last: u64) -> Self {
        Self {
            since,
            last,
            marks: BTreeMap::new(),
        }
    }

    /// What to send as `since`.
    pub(crate) fn position(&self, topic: &str) -> Option<Position> {
        match self.marks.get(topic) {
            Some(mark) => Some(mark.position()),
            None => self.since.get(topic).cloned(),
        }
    }

    /// The same for each topic of a pattern.
    pub(crate) fn positions(&self) -> BTreeMap<Arc<str>, Position> {
        let marks = self.marks.iter();
        let marks = marks.map(|(topic, mark)| (Arc::clone(topic), mark.position()));
        let mut positions = self.since.clone();
        positions.extend(marks);
        positions
    }

    /// An ack has come.
    pub(crate) fn subscribed(&mut self, ack: Ack<'_>) -> Option<Gap> {
        let before = self.position(ack.topic);
        self.since.remove(ack.topic);
        let Some(before) = before else {
            let start = if ack.is_resumed {
                0
            } else {
                ack.newest.saturating_sub(self.last)
            };
            let has_more = start < ack.newest;
            let mark = Mark {
                newest: ack.newest,
                joined_at: (has_more && !ack.is_resumed).then_some(ack.newest),
                is_incomplete: ack.is_resumed && has_more,
                ..Mark::new(ack.topic, ack.epoch.into(), start)
            };
            self.marks.insert(Arc::clone(&mark.topic), mark);
            return None;
        };
        if *before.epoch != *ack.epoch {
            return Some(self.moved(ack.topic, &before, ack.epoch, ack.newest));
        }
        let mark = self.mark_at(ack.topic, &before, ack.newest);
        mark.newest = mark.newest.max(ack.newest);
        mark.is_incomplete = !ack.is_recovered && mark.seq < ack.newest;
        None
    }

    /// The ack of a pattern names what is missing, not where each topic is: topics behind none of `told`.
    pub(crate) fn resumed_without_positions(&mut self, told: &HashSet<&str>, lost: &HashSet<&str>) {
        for (topic, before) in self.positions() {
            if !told.contains(&*topic) {
                let is_lost = lost.contains(&*topic);
                self.mark_at(&topic, &before, before.seq).is_incomplete = is_lost;
            }
        }
    }

    fn mark_at(&mut self, topic: &str, before: &Position, newest: u64) -> &mut Mark {
        let name: Arc<str> = topic.into();
        self.marks.entry(name).or_insert_with(|| Mark {
            newest,
            ..Mark::new(topic, Arc::clone(&before.epoch), before.seq)
        })
    }

    /// A pattern has come to match a topic; its first event is number 1.
    pub(crate) fn created(&mut self, topic: &str, epoch: &str) -> Option<Gap> {
        match self.position(topic) {
            None => {
                self.begin(topic, epoch, 0);
                None
            }
            Some(before) if *before.epoch != *epoch => Some(self.moved(topic, &before, epoch, 0)),
            Some(_) => None,
        }
    }

    /// A topic of a pattern is deleted, and every event of it has come.
    pub(crate) fn forget(&mut self, topic: &str) {
        self.marks.remove(topic);
        self.since.remove(topic);
    }

    /// Its topic and epoch if an event is new, and what is missing in front of it.
    pub(crate) fn event(&mut self, topic: &str, seq: u64, skipped: u64) -> Option<New> {
        let Some(mark) = self.marks.get_mut(topic) else {
            // An event in front of the ack that says where the topic is: then it is the first.
            let mark = Mark::new(topic, "".into(), seq);
            let (topic, epoch) = (Arc::clone(&mark.topic), Arc::clone(&mark.epoch));
            self.marks.insert(Arc::clone(&topic), mark);
            return Some(New {
                topic,
                epoch,
                gap: None,
            });
        };
        if seq <= mark.seq {
            return None;
        }
        if let Some(joined_at) = mark.joined_at.take() {
            mark.seq = mark.seq.max(joined_at.min(seq - 1));
        }
        let gap = mark.missing(seq - 1, skipped);
        mark.seq = seq;
        Some(New {
            topic: Arc::clone(&mark.topic),
            epoch: Arc::clone(&mark.epoch),
            gap,
        })
    }

    /// No replay has come for what an ack said was missing: then nothing of it is kept.
    pub(crate) fn settle(&mut self) -> Vec<Gap> {
        let marks = self.marks.iter_mut();
        let missing = marks.filter(|(_, mark)| mark.is_incomplete);
        missing
            .filter_map(|(_, mark)| mark.missing(mark.newest, 0))
            .collect()
    }

    /// Whether an ack has said that something is missing, and nothing has shown yet how much.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.marks.values().any(|mark| mark.is_incomplete)
    }

    fn begin(&mut self, topic: &str, epoch: &str, newest: u64) {
        let mark = Mark {
            newest,
            is_incomplete: newest > 0,
            ..Mark::new(topic, epoch.into(), 0)
        };
        self.marks.insert(Arc::clone(&mark.topic), mark);
    }

    fn moved(&mut self, topic: &str, before: &Position, epoch: &str, newest: u64) -> Gap {
        self.begin(topic, epoch, newest);
        Gap {
            topic: topic.into(),
            epoch: Arc::clone(&before.epoch),
            first: before.seq + 1,
            last: None,
            count: None,
            reason: Reason::Epoch,
        }
    }
}

impl Mark {
    fn new(topic: &str, epoch: Arc<str>, seq: u64) -> Self {
        Self {
            topic: topic.into(),
            epoch,
            seq,
            newest: seq,
            joined_at: None,
            is_incomplete: false,
        }
    }

    fn position(&self) -> Position {
        Position {
            epoch: Arc::clone(&self.epoch),
            seq: self.seq,
        }
    }

    /// What is missing up to `last`, told once.
    fn missing(&mut self, last: u64, skipped: u64) -> Option<Gap> {
        let first = self.seq + 1;
        let count = (last + 1).saturating_sub(first).saturating_sub(skipped);
        let is_incomplete = std::mem::take(&mut self.is_incomplete);
        self.seq = self.seq.max(last);
        (count > 0).then(|| Gap {
            topic: Arc::clone(&self.topic),
            epoch: Arc::clone(&self.epoch),
            first,
            last: Some(last),
            count: Some(count),
            reason: if is_incomplete {
                Reason::History
            } else {
                Reason::Slow
            },
        })
    }
}
