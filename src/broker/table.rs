//! The topics of one shard: by name, by place, in order of their names, and as the directory that
//! others read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::AHashMap;

use super::directory::{Directory, Published, TopicEntry};
use super::inbox::Inbox;
use super::request::Restored;
use super::topic::Topic;
use crate::budget::{Budget, Kind};
use crate::metrics::ShardCounters;
use crate::protocol::time::Timestamp;

/// What a topic takes beside its name and its history: itself, its entry, its places in the lists.
const TOPIC_BYTES: usize = 816;

/// A topic and the messages that wait to be accepted by it: (batch, item).
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) topic: Topic,
    pub(crate) waiting: Vec<(usize, usize)>,
    /// The last turn in which the topic got messages, and how many.
    pub(crate) turn: u64,
    pub(crate) turn_events: usize,
    /// A message that waits is not to be published twice.
    pub(crate) has_once: bool,
    /// In the list of topics whose subscribers have changed.
    pub(crate) is_changed: bool,
    /// Of all topics of this shard that ever were, which one it is.
    pub(crate) born: u64,
    /// Where the topic stands in the directory.
    listed: usize,
}

/// What one shard shares with everybody who reads.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// Its counters.
    pub counters: Arc<ShardCounters>,
    /// Its topics.
    pub directory: Arc<Published>,
    /// Topics in all shards.
    pub topics_total: Arc<AtomicUsize>,
    /// The budget of the process.
    pub budget: Arc<Budget>,
    /// Where changes go to be settled, if others share the topics: a topic that somebody here needs is
    /// made by asking there.
    pub entrance: Option<Arc<Inbox>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    shard: usize,
    cores: usize,
    shared: Shared,
    names: AHashMap<Arc<str>, usize>,
    /// The same in order, for those who look for all that begin alike.
    ordered: BTreeMap<Arc<str>, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    directory: Directory,
    is_directory_stale: bool,
    epochs: u64,
    /// When the present turn began: topics of it are created then.
    pub(crate) now: Timestamp,
}

impl Table {
    pub(crate) fn new(shard: usize, cores: usize, public: Shared) -> Self {
        Self {
            shard,
            cores,
            shared: public,
            names: AHashMap::new(),
            ordered: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            directory: Directory::default(),
            is_directory_stale: false,
            epochs: 0,
            now: Timestamp::from_unix_ms(0),
        }
    }

    /// The place of the topic with this name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    pub(crate) fn slot(&mut self, place: usize) -> Option<&mut Slot> {
        self.slots.get_mut(place).and_then(Option::as_mut)
    }

    /// The place of the very topic that `entry` describes, not of a later one of its name.
    pub(crate) fn find_entry(&self, entry: &Arc<TopicEntry>) -> Option<usize> {
        self.find(entry.name()).filter(|place| {
            let slot = self.slots.get(*place).and_then(Option::as_ref);
            slot.is_some_and(|slot| Arc::ptr_eq(slot.topic.entry(), entry))
        })
    }

    /// How many topics there ever were: those of later have a larger number.
    pub(crate) fn born(&self) -> u64 {
        self.epochs
    }

    /// Gives `found` the places of topics whose names begin with `prefix` and come behind `after`,
    /// with their names, in their order; `looks_max` of them. Returns the last name that was looked
    /// at, `None` if that was all. Topics may come and go between two calls.
    pub(crate) fn look_through(
        &self,
        prefix: &str,
        after: Option<&str>,
        looks_max: usize,
        mut found: impl FnMut(&str, usize) -> bool,
    ) -> Option<Arc<str>> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let range = self.ordered.range::<str, _>((from, Bound::Unbounded));
        let alike = range.take_while(|(name, _)| name.starts_with(prefix));
        for (looks, (name, place)) in (1..).zip(alike) {
            let goes_on = found(name, *place);
            if !goes_on || looks == looks_max {
                return Some(Arc::clone(name));
            }
        }
        None
    }

    /// Places that were ever used.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    /// Makes a topic, unless `topics_max` are there; its epoch of `birth`, or else of chance. The name
    /// must be checked and free.
    pub(crate) fn create(
        &mut self,
        name: &str,
        history_events_max: usize,
        topics_max: usize,
        birth: Option<u64>,
    ) -> Option<usize> {
        // Relaxed: the count guards nothing but itself.
        let counted =
            self.shared
                .topics_total
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| {
                    (total < topics_max).then_some(total + 1)
                });
        counted.ok()?;
        let chance = || ahash::RandomState::new().hash_one((self.shard, self.epochs + 1));
        let epoch = birth.unwrap_or_else(chance);
        let epoch = format!("{epoch:016x}").into_boxed_str();
        Some(self.put(name, epoch, self.now, history_events_max))
    }

    /// Makes a topic as it was, however many there are. The name must be free.
    pub(crate) fn create_again(&mut self, of: &Restored, history_events_max: usize) -> usize {
        self.shared.topics_total.fetch_add(1, Ordering::Relaxed);
        self.put(&of.name, of.epoch.clone(), of.created, history_events_max)
    }

    fn put(
        &mut self,
        name: &str,
        epoch: Box<str>,
        created: Timestamp,
        history_events_max: usize,
    ) -> usize {
        self.epochs += 1;
        let entry = Arc::new(TopicEntry::new(
            name,
            epoch,
            created,
            self.shard,
            self.cores,
            Arc::clone(&self.shared.counters),
            Arc::clone(&self.shared.budget),
        ));
        self.book(&entry, Budget::book);
        let listed = self.directory.len();
        self.directory.push(Arc::clone(&entry));
        self.is_directory_stale = true;
        let place = self.free.pop().unwrap_or(self.slots.len());
        self.names.insert(Arc::clone(&entry.name), place);
        self.ordered.insert(Arc::clone(&entry.name), place);
        let slot = Some(Slot {
            topic: Topic::new(entry, history_events_max, self.shared.entrance.is_some()),
            waiting: Vec::new(),
            turn: 0,
            turn_events: 0,
            has_once: false,
            is_changed: false,
            born: self.epochs,
            listed,
        });
        match self.slots.get_mut(place) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        place
    }

    /// Takes a topic out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Topic> {
        let place = self.names.remove(name)?;
        self.ordered.remove(name);
        let slot = self.slots.get_mut(place).and_then(Option::take)?;
        self.free.push(place);
        self.shared.topics_total.fetch_sub(1, Ordering::Relaxed);
        if let Some(moved) = self.directory.remove(slot.listed)
            && let Some(moved) = self.find(moved.name()).and_then(|place| self.slot(place))
        {
            moved.listed = slot.listed;
        }
        self.is_directory_stale = true;
        self.book(slot.topic.entry(), Budget::release);
        Some(slot.topic)
    }

    fn book(&self, entry: &TopicEntry, how: impl Fn(&Budget, usize, Kind, usize)) {
        let bytes = TOPIC_BYTES + 3 * entry.name().len();
        how(&self.shared.budget, self.shard, Kind::Topics, bytes);
    }

    /// Publishes the directory, if it has changed.
    pub(crate) fn publish(&mut self) {
        if std::mem::take(&mut self.is_directory_stale) {
            self.shared.directory.store(self.directory.clone());
        }
    }
}
