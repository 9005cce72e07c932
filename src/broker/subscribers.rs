//! Who receives a topic: for each core the shard's own list, and the snapshot of it that the core
//! fans out over.
//!
//! A snapshot is published once for all changes of a turn, at its end or just before an event is
//! handed over, and always in the turn of the change: nobody who has left is kept by a quiet topic.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use ahash::AHashMap;

use super::ConnectionId;
use super::directory::{Audience, TopicEntry};

/// The subscribers of one topic, by core; changed by its shard alone.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    /// Cores that have any.
    cores: Vec<(usize, OnCore)>,
}

#[derive(Debug, Default)]
struct OnCore {
    list: Audience,
    /// Where in `list` each connection stands.
    places: AHashMap<ConnectionId, usize>,
    published: Arc<Audience>,
    /// `list` has changed since it was published.
    is_stale: bool,
}

impl Subscribers {
    /// Adds a connection; false if it was there already.
    pub(crate) fn insert(&mut self, subscriber: ConnectionId) -> bool {
        let core = subscriber.core();
        let index = self.cores.iter().position(|(of, _)| *of == core);
        let index = index.unwrap_or_else(|| {
            self.cores.reserve_exact(1);
            self.cores.push((core, OnCore::default()));
            self.cores.len() - 1
        });
        self.cores
            .get_mut(index)
            .is_some_and(|(_, of)| of.insert(subscriber))
    }

    /// Removes a connection; false if it was not there.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> bool {
        let mut cores = self.cores.iter_mut();
        cores
            .find(|(of, _)| *of == id.core())
            .is_some_and(|(_, of)| of.remove(id))
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
    fn insert(&mut self, subscriber: ConnectionId) -> bool {
        let place = self.places.len();
        match self.places.entry(subscriber) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(place);
                self.list.push(subscriber);
                self.is_stale = true;
                true
            }
        }
    }

    fn remove(&mut self, id: ConnectionId) -> bool {
        let Some(place) = self.places.remove(&id) else {
            return false;
        };
        self.is_stale = true;
        if let Some(moved) = self.list.remove(place) {
            self.places.insert(moved, place);
        }
        if self.places.is_empty() {
            self.places = AHashMap::new();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::entry;
    use super::*;

    fn subscriber(number: u64) -> ConnectionId {
        ConnectionId::new(0, u32::try_from(number).expect("small"), 1)
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
                assert_eq!(subscribers.insert(id), expected.insert(place));
            } else {
                assert_eq!(subscribers.remove(id), expected.remove(&place));
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
        (0..100).for_each(|id| assert!(subscribers.insert(subscriber(id))));
        let before: Vec<_> = subscribers
            .audiences(&entry)
            .map(|(_, to)| Arc::clone(to))
            .collect();
        (0..100).for_each(|id| assert!(subscribers.remove(subscriber(id))));
        subscribers.publish(&entry);
        assert_eq!(before.iter().map(|to| to.len()).sum::<usize>(), 100);
        assert_eq!((entry.subscribers(), subscribers.iter().count()), (0, 0));
    }
}
