//! What anybody may know of a topic without asking its shard, and the list of all topics.
//!
//! A shard writes, any thread reads: lists and counts over REST never wait for a shard, and hold it
//! up for nothing. Names and epochs never change; counters are stored by one thread each; lists are
//! snapshots, published at the end of each turn that changed them.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::ConnectionId;
use super::pages::Pages;
use crate::budget::Budget;
use crate::metrics::{ShardCounters, TopicCounters};
use crate::protocol::answer::Position;
use crate::protocol::time::Timestamp;
use crate::protocol::websocket::frame::EventTemplate;

/// The connections of one core that get a topic's events.
pub type Audience = Pages<ConnectionId>;

/// The topics of one shard.
pub type Directory = Pages<Arc<TopicEntry>>;

/// One topic as others see it, from its creation to its deletion and, for who still holds frames
/// of it, beyond. Two topics of one name that follow each other have two entries.
#[derive(Debug)]
pub struct TopicEntry {
    pub(crate) name: Arc<str>,
    pub(crate) template: EventTemplate,
    pub(crate) epoch: Box<str>,
    /// The index of its shard.
    pub(crate) shard: usize,
    created: Timestamp,
    pub(crate) counters: TopicCounters,
    pub(crate) shard_counters: Arc<ShardCounters>,
    pub(crate) budget: Arc<Budget>,
    /// By core.
    audiences: Box<[ArcSwapOption<Audience>]>,
}

impl TopicEntry {
    pub(crate) fn new(
        name: &str,
        epoch: Box<str>,
        created: Timestamp,
        shard: usize,
        cores: usize,
        shard_counters: Arc<ShardCounters>,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            name: name.into(),
            template: EventTemplate::new(name),
            epoch,
            shard,
            created,
            counters: TopicCounters::default(),
            shard_counters,
            budget,
            audiences: (0..cores).map(|_| ArcSwapOption::empty()).collect(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name as a JSON string.
    pub fn name_json(&self) -> &str {
        self.template.topic_json()
    }

    /// Its name, to be kept.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The index of the shard that owns it.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Its epoch.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Where its event `seq` is, as clients are told.
    pub(crate) fn position(&self, seq: u64) -> Position<'_> {
        Position {
            topic: &self.name,
            epoch: &self.epoch,
            seq,
        }
    }

    /// What it has done since it was created.
    pub fn counters(&self) -> &TopicCounters {
        &self.counters
    }

    /// Subscribers at the end of the last turn that changed them.
    pub fn subscribers(&self) -> usize {
        let audiences = self.audiences.iter();
        audiences
            .map(|of| of.load().as_ref().map_or(0, |audience| audience.len()))
            .sum()
    }

    /// Who of `core` gets its events.
    pub(crate) fn audience(&self, core: usize) -> Option<Arc<Audience>> {
        self.audiences.get(core)?.load_full()
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Publishes the audience on `core`. Only its shard calls it.
    pub(crate) fn set_audience(&self, core: usize, audience: Option<Arc<Audience>>) {
        if let Some(of) = self.audiences.get(core) {
            of.store(audience);
        }
    }

    /// Counts events of this topic that fell out of a ring; called by whoever saw them go.
    pub(crate) fn count_dropped(&self, events: u64) {
        self.counters.dropped.add(events);
        self.shard_counters.dropped.add(events);
    }
}

/// The published directory of one shard.
#[derive(Debug, Default)]
pub struct Published(ArcSwap<Directory>);

impl Published {
    /// The topics at the end of the last turn that changed them.
    pub fn snapshot(&self) -> Arc<Directory> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, directory: Directory) {
        self.0.store(Arc::new(directory));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A topic of shard 0 on one core.
    pub(crate) fn entry(name: &str) -> Arc<TopicEntry> {
        let entry = TopicEntry::new(
            name,
            "e".into(),
            Timestamp::from_unix_ms(0),
            0,
            1,
            Arc::default(),
            Arc::default(),
        );
        Arc::new(entry)
    }
}
