//! Who receives a topic: the shard's own list, and the snapshot of it that fan-out walks.
//!
//! The list is made of pages, shared with the last snapshot until they change. One subscribe
//! copies one page and the list of pages, so a storm of n subscribes costs n, not n². The snapshot
//! is published once for all changes of a turn, just before it is needed.

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::{ArcSwap, Guard};

use super::outbox::{ConnectionId, OutboxSender};

/// Subscribers in one page: what one change copies at most.
const PAGE: usize = 64;

/// A dense, immutable list of subscribers.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    #[expect(
        clippy::rc_buffer,
        reason = "a page that no snapshot shares grows in place"
    )]
    pages: Vec<Arc<Vec<OutboxSender>>>,
}

impl Snapshot {
    /// Each subscriber once, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &OutboxSender> {
        self.pages.iter().flat_map(|page| page.iter())
    }

    fn push(&mut self, subscriber: OutboxSender) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => Arc::make_mut(page).push(subscriber),
            _ => self.pages.push(Arc::new(vec![subscriber])),
        }
    }

    fn pop(&mut self) -> Option<OutboxSender> {
        let page = Arc::make_mut(self.pages.last_mut()?);
        let last = page.pop();
        if page.is_empty() {
            self.pages.pop();
        }
        last
    }

    fn replace(&mut self, place: usize, subscriber: OutboxSender) {
        if let Some(slot) = self
            .pages
            .get_mut(place / PAGE)
            .and_then(|page| Arc::make_mut(page).get_mut(place % PAGE))
        {
            *slot = subscriber;
        }
    }
}

/// The subscribers of one topic, changed by its shard alone.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    list: Snapshot,
    /// Where in `list` each connection stands.
    places: AHashMap<ConnectionId, usize>,
    published: ArcSwap<Snapshot>,
    /// `list` has changed since it was published.
    stale: bool,
}

impl Subscribers {
    /// Adds a connection; false if it was there already.
    pub(crate) fn insert(&mut self, subscriber: OutboxSender) -> bool {
        let place = self.places.len();
        match self.places.entry(subscriber.id()) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(place);
                self.list.push(subscriber);
                self.stale = true;
                true
            }
        }
    }

    /// Removes a connection; false if it was not there.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> bool {
        let Some(place) = self.places.remove(&id) else {
            return false;
        };
        self.stale = true;
        // The last one takes the free place.
        if let Some(last) = self.list.pop()
            && last.id() != id
        {
            self.places.insert(last.id(), place);
            self.list.replace(place, last);
        }
        // A topic that nobody listens to any more may stay quiet, and the last snapshot would keep
        // the rings of all who were there.
        if self.places.is_empty() {
            self.places = AHashMap::new();
            self.publish();
        }
        true
    }

    fn publish(&mut self) {
        self.published.store(Arc::new(self.list.clone()));
        self.stale = false;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The snapshot with every change so far in it.
    pub(crate) fn snapshot(&mut self) -> Guard<Arc<Snapshot>> {
        if self.stale {
            self.publish();
        }
        self.published.load()
    }

    /// Gives up the list, for a topic that ends.
    pub(crate) fn into_list(self) -> Snapshot {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::{Address, outbox};
    use super::*;

    fn subscriber(id: u64) -> OutboxSender {
        outbox(ConnectionId(id), Address { home: 0, slot: 0 }, 1, false).0
    }

    fn ids(subscribers: &mut Subscribers) -> Vec<u64> {
        let mut ids: Vec<_> = subscribers.snapshot().iter().map(|s| s.id().0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_snapshot_has_each_subscriber_once_after_any_changes() {
        let mut subscribers = Subscribers::default();
        let mut expected = std::collections::BTreeSet::new();
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let id = (seed >> 33) % 300;
            if seed >> 63 == 0 {
                assert_eq!(subscribers.insert(subscriber(id)), expected.insert(id));
            } else {
                assert_eq!(subscribers.remove(ConnectionId(id)), expected.remove(&id));
            }
            if seed.is_multiple_of(97) {
                assert_eq!(
                    ids(&mut subscribers),
                    expected.iter().copied().collect::<Vec<_>>()
                );
            }
        }
        assert_eq!(subscribers.len(), expected.len());
    }

    #[test]
    fn nobody_is_kept_by_a_topic_that_all_have_left() {
        let mut subscribers = Subscribers::default();
        let (sender, receiver) = outbox(ConnectionId(1), Address { home: 0, slot: 0 }, 1, false);
        assert!(subscribers.insert(sender));
        drop(subscribers.snapshot());
        assert!(subscribers.remove(receiver.id()));
        assert_eq!(receiver.senders(), 0);
    }

    #[test]
    fn a_snapshot_does_not_change_under_its_reader() {
        let mut subscribers = Subscribers::default();
        (0..100).for_each(|id| assert!(subscribers.insert(subscriber(id))));
        let before = Arc::clone(&subscribers.snapshot());
        (0..100).for_each(|id| assert!(subscribers.remove(ConnectionId(id))));
        assert_eq!(before.iter().count(), 100);
        assert_eq!(subscribers.snapshot().iter().count(), 0);
    }
}
