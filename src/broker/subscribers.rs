//! Who receives a topic: for each core the shard's own list, and the snapshot of it that the core
//! fans out over.
//!
//! A snapshot is published once for all changes of a turn, at its end or just before an event is
//! handed over, and always in the turn of the change: nobody who has left is kept by a quiet topic.
//!
//! A connection stands in the list once, for as long as it has a reason: the topic's name, or a
//! pattern that means it. Reasons are kept beside the list, where fan-out does not come by.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use ahash::AHashMap;

use super::ConnectionId;
use super::directory::{Audience, TopicEntry};

/// What the first subscriber on a core takes, and each: lists, a map of places, the snapshot.
const CORE_BYTES: usize = 320;
const SUBSCRIBER_BYTES: usize = 56;

/// Why a connection gets a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has asked for the topic by its name. It can have this reason once.
    Name,
    /// A pattern of the connection means the topic. It has this reason once for each pattern.
    Pattern,
}

/// What has come of giving or taking a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Whether there was something to give or to take.
    pub(crate) is_made: bool,
    /// Whether the connection got or lost the topic by it.
    pub(crate) is_felt: bool,
}

impl Change {
    const NONE: Self = Self {
        is_made: false,
        is_felt: false,
    };
}

/// Where a connection stands in the list, and why.
#[derive(Debug)]
struct Standing {
    place: u32,
    /// Twice the number of patterns, and one for the name.
    reasons: u32,
}

impl Standing {
    fn give(&mut self, reason: Reason) -> bool {
        match reason {
            Reason::Pattern => self.reasons += 2,
            Reason::Name if self.reasons & 1 == 1 => return false,
            Reason::Name => self.reasons += 1,
        }
        true
    }

    fn take(&mut self, reason: Reason) -> bool {
        let left = match reason {
            Reason::Pattern => self.reasons.checked_sub(2),
            Reason::Name => (self.reasons & 1 == 1).then_some(self.reasons & !1),
        };
        left.inspect(|left| self.reasons = *left).is_some()
    }
}

/// The subscribers of one topic, by core; changed by its shard alone.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    /// Cores that have any.
    cores: Vec<(usize, OnCore)>,
    /// Reasons that are patterns.
    patterns: usize,
}

#[derive(Debug, Default)]
struct OnCore {
    list: Audience,
    /// Where in `list` each connection stands.
    places: AHashMap<ConnectionId, Standing>,
    published: Arc<Audience>,
    /// `list` has changed since it was published.
    is_stale: bool,
}

impl Subscribers {
    /// Gives a connection a reason to be here.
    pub(crate) fn insert(&mut self, subscriber: ConnectionId, reason: Reason) -> Change {
        let core = subscriber.core();
        let index = self.cores.iter().position(|(of, _)| *of == core);
        let index = index.unwrap_or_else(|| {
            self.cores.reserve_exact(1);
            self.cores.push((core, OnCore::default()));
            self.cores.len() - 1
        });
        let of = self.cores.get_mut(index);
        let change = of.map_or(Change::NONE, |(_, of)| of.insert(subscriber, reason));
        self.patterns += usize::from(change.is_made && reason == Reason::Pattern);
        change
    }

    /// Takes a reason from a connection; with the last one it goes.
    pub(crate) fn remove(&mut self, id: ConnectionId, reason: Reason) -> Change {
        let mut cores = self.cores.iter_mut();
        let of = cores.find(|(of, _)| *of == id.core());
        let change = of.map_or(Change::NONE, |(_, of)| of.remove(id, reason));
        self.patterns -= usize::from(change.is_made && reason == Reason::Pattern);
        change
    }

    /// Whether somebody is here on account of a pattern, and so gets other topics too.
    pub(crate) fn are_matched(&self) -> bool {
        self.patterns > 0
    }

    /// What they take in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let cores = self.cores.iter();
        cores
            .map(|(_, of)| CORE_BYTES + of.places.len() * SUBSCRIBER_BYTES)
            .sum()
    }

    /// Publishes what has changed to `entry`.
    pub(crate) fn publish(&mut self, entry: &TopicEntry) {
        self.cores.retain_mut(|(core, of)| {
            if of.is_stale {
                of.is_stale = false;
                let is_empty = of.list.is_empty();
                of.published = Arc::new(of.list.clone());
                entry.set_audience(*core, (!is_empty).then(|| Arc::clone(&of.published)));
            }
            !of.list.is_empty()
        });
    }

    /// The snapshot for each core that has any, with every change so far in it.
    pub(crate) fn audiences(
        &mut self,
        entry: &TopicEntry,
    ) -> impl Iterator<Item = (usize, &Arc<Audience>)> {
        if self.cores.iter().any(|(_, of)| of.is_stale) {
            self.publish(entry);
        }
        self.cores.iter().map(|(core, of)| (*core, &of.published))
    }

    /// Each of them once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ConnectionId> {
        self.cores
            .iter()
            .flat_map(|(_, of)| of.list.iter().copied())
    }
}

impl OnCore {
    fn insert(&mut self, subscriber: ConnectionId, reason: Reason) -> Change {
        let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        match self.places.entry(subscriber) {
            Entry::Occupied(mut standing) => Change {
                is_made: standing.get_mut().give(reason),
                is_felt: false,
            },
            Entry::Vacant(vacant) => {
                let reasons = 0;
                vacant.insert(Standing { place, reasons }).give(reason);
                self.list.push(subscriber);
                self.is_stale = true;
                Change {
                    is_made: true,
                    is_felt: true,
                }
            }
        }
    }

    fn remove(&mut self, id: ConnectionId, reason: Reason) -> Change {
        let Entry::Occupied(mut standing) = self.places.entry(id) else {
            return Change::NONE;
        };
        if !standing.get_mut().take(reason) {
            return Change::NONE;
        }
        let is_felt = standing.get().reasons == 0;
        if is_felt {
            let place = standing.remove().place;
            self.is_stale = true;
            if let Some(moved) = self.list.remove(place as usize)
                && let Some(moved) = self.places.get_mut(&moved)
            {
                moved.place = place;
            }
            if self.places.is_empty() {
                self.places = AHashMap::new();
            }
        }
        Change {
            is_made: true,
            is_felt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::entry;
    use super::*;

    fn subscriber(number: u64) -> ConnectionId {
        ConnectionId::new(0, u32::try_from(number).expect("small"), 1)
    }

    fn add(subscribers: &mut Subscribers, id: ConnectionId) -> bool {
        subscribers.insert(id, Reason::Name).is_felt
    }

    #[test]
    fn a_connection_goes_with_its_last_reason() {
        let (mut subscribers, entry) = (Subscribers::default(), entry("t"));
        let id = subscriber(1);
        let change = |is_made, is_felt| Change { is_made, is_felt };
        for (reason, is_felt) in [
            (Reason::Pattern, true),
            (Reason::Name, false),
            (Reason::Pattern, false),
        ] {
            assert_eq!(subscribers.insert(id, reason), change(true, is_felt));
        }
        assert_eq!(subscribers.insert(id, Reason::Name), Change::NONE);
        assert_eq!(ids(&mut subscribers, &entry), [1]);
        for (reason, is_made, is_felt) in [
            (Reason::Name, true, false),
            (Reason::Name, false, false),
            (Reason::Pattern, true, false),
            (Reason::Pattern, true, true),
            (Reason::Pattern, false, false),
        ] {
            assert_eq!(subscribers.remove(id, reason), change(is_made, is_felt));
        }
        assert_eq!(ids(&mut subscribers, &entry), [0_usize; 0]);
        assert_eq!(subscribers.bytes(), 0);
    }

    fn ids(subscribers: &mut Subscribers, entry: &TopicEntry) -> Vec<usize> {
        let mut ids: Vec<_> = subscribers
            .audiences(entry)
            .flat_map(|(_, to)| to.iter().map(|id| id.slot()).collect::<Vec<_>>())
            .collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_snapshot_has_each_subscriber_once_after_any_changes() {
        let (mut subscribers, entry) = (Subscribers::default(), entry("t"));
        let mut expected = std::collections::BTreeSet::new();
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let number = (seed >> 33) % 300;
            let (id, place) = (subscriber(number), subscriber(number).slot());
            if seed >> 63 == 0 {
                assert_eq!(add(&mut subscribers, id), expected.insert(place));
            } else {
                let removed = subscribers.remove(id, Reason::Name);
                assert_eq!(removed.is_felt, expected.remove(&place));
            }
            if seed.is_multiple_of(97) {
                let wanted: Vec<_> = expected.iter().copied().collect();
                assert_eq!(ids(&mut subscribers, &entry), wanted);
                assert_eq!(entry.subscribers(), wanted.len());
            }
        }
        assert_eq!(subscribers.iter().count(), expected.len());
    }

    #[test]
    fn a_snapshot_does_not_change_under_its_reader() {
        let (mut subscribers, entry) = (Subscribers::default(), entry("t"));
        (0..100).for_each(|id| assert!(add(&mut subscribers, subscriber(id))));
        let before: Vec<_> = subscribers
            .audiences(&entry)
            .map(|(_, to)| Arc::clone(to))
            .collect();
        (0..100).for_each(|id| {
            assert!(subscribers.remove(subscriber(id), Reason::Name).is_felt);
        });
        subscribers.publish(&entry);
        assert_eq!(before.iter().map(|to| to.len()).sum::<usize>(), 100);
        assert_eq!((entry.subscribers(), subscribers.iter().count()), (0, 0));
    }
}
