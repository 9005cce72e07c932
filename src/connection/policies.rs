//! Of which topics a connection wants the newest event alone, and how often.
//!
//! A topic that is subscribed to by its name has the policy of the last such subscribe. Any other has
//! that of the last pattern that means it. Who wants everything has nothing of this, and pays for it
//! nothing: the one branch in front of its ring is the one that asks whether it takes events at all.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Connection;
use super::local::Local;
use crate::broker::ConnectionId;
use crate::broker::delivery::Said;
use crate::broker::directory::TopicEntry;
use crate::broker::ring::Place;
use crate::broker::run::Run;
use crate::pattern::Pattern;
use crate::protocol::policy::Policy;

/// What a policy takes that was looked up, in bytes.
const KNOWN_BYTES: usize = size_of::<(Place, Policy)>() + 1;

/// One place that rests: until when, whose, and which.
type Rest = Reverse<(u64, ConnectionId, Place)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// Of topics that are subscribed to by name, those that have one.
    named: AHashMap<Arc<str>, Policy>,
    /// Of each topic of which an event came since a subscription has changed.
    known: AHashMap<Place, Policy>,
}

impl Connection {
    /// Whether it takes events, and all of them.
    pub(super) fn note_what_it_takes(&self) {
        let mut patterns = self.patterns.borrow_mut();
        let has_policy = patterns.as_mut().is_some_and(|of| {
            let has_policy = !of.policies.named.is_empty() || of.have_policy();
            if !has_policy {
                of.policies = Policies::default();
            }
            has_policy
        });
        self.takes_all.set(!self.is_over() && !has_policy);
    }

    /// What it wants of `topic`.
    fn policy_of(&self, topic: &TopicEntry) -> Policy {
        let place = Place::of(topic);
        self.with_patterns(|of| {
            let known = of.policies.known.get(&place).copied();
            known.unwrap_or_else(|| {
                let policy = if let Some(policy) = of.policies.named.get(topic.name()) {
                    *policy
                } else if self.topics.borrow().has(topic.name()) {
                    Policy::All
                } else {
                    of.policy_of(topic.name())
                };
                of.policies.known.insert(place, policy);
                policy
            })
        })
    }

    /// What `push` does for who does not take all events.
    #[cold]
    pub(super) fn push_by_policy(
        self: &Rc<Self>,
        local: &Local,
        run: &Arc<Run>,
        ends_slow: bool,
    ) -> bool {
        if self.is_over() {
            return false;
        }
        let Policy::Latest { max_rate } = self.policy_of(run.topic()) else {
            let dropped = self.ring.borrow_mut().push_beside(run, local.ring_limits);
            self.count_dropped(dropped, ends_slow);
            local.make_ready(self);
            return true;
        };
        let (now, limits) = (local.elapsed_us(), local.ring_limits);
        let mut ring = self.ring.borrow_mut();
        let replaced = ring.push_newest(run, max_rate, now, limits);
        let is_ready = ring.is_ready();
        drop(ring);
        local.counters.skipped.add(replaced.skipped);
        if let Some(until) = replaced.rests_until {
            local.rests.add(until, self.id, Place::of(run.topic()));
        }
        self.count_dropped(replaced.dropped, ends_slow);
        if is_ready || replaced.dropped > 0 {
            local.make_ready(self);
        }
        true
    }

    /// A place of its ring has rested.
    pub(crate) fn has_rested(self: &Rc<Self>, local: &Local, place: Place) {
        if !self.is_over() {
            self.ring.borrow_mut().is_rested(place, local.elapsed_us());
            local.make_ready(self);
        }
    }

    /// A shard has said something that may change what it wants of a topic. What waits of it takes its
    /// turn before that is told to the client.
    pub(super) fn note_policy(&self, said: &Said) {
        let (topic, policy) = match said {
            Said::Subscribed { topic, policy, .. } => (topic, *policy),
            Said::Unsubscribed {
                left: Some(topic), ..
            }
            | Said::Left(topic)
            | Said::TopicDeleted(topic) => (topic, Policy::All),
            _ => return,
        };
        if policy == Policy::All && self.takes_all.get() {
            return;
        }
        self.with_patterns(|of| {
            of.policies.known.remove(&Place::of(topic));
            match policy {
                Policy::All => of.policies.named.remove(topic.name()),
                Policy::Latest { .. } => of.policies.named.insert(topic.shared_name(), policy),
            }
        });
        // Also where it wants the same again: what is said of a position must hold behind it.
        self.ring.borrow_mut().end_newest(topic);
        self.note_what_it_takes();
    }

    /// What it wants of the topics that `pattern` means has changed, or is said again.
    pub(super) fn note_policy_of_pattern(&self, pattern: &Pattern) {
        let has_policy = self.with_patterns(|of| {
            // Not emptied: what it takes is to be given back.
            of.policies.known = AHashMap::default();
            of.have_policy()
        });
        if has_policy || !self.takes_all.get() {
            let mut ring = self.ring.borrow_mut();
            ring.end_newest_of(|topic| pattern.matches(topic));
            drop(ring);
            self.note_what_it_takes();
        }
    }

    /// What is kept for this besides events, in bytes.
    pub(super) fn policy_bytes(&self) -> usize {
        if self.takes_all.get() {
            return 0;
        }
        let patterns = self.patterns.borrow();
        let known = patterns
            .as_ref()
            .map_or(0, |of| of.policies.known.capacity());
        known * KNOWN_BYTES + self.ring.borrow().place_bytes()
    }
}

/// Places of rings whose events are held back, by when they are to go. One for each that waits.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    heap: RefCell<BinaryHeap<Rest>>,
    has_earlier: Notify,
}

impl Rests {
    fn add(&self, until: u64, connection: ConnectionId, place: Place) {
        let mut heap = self.heap.borrow_mut();
        let is_first = heap
            .peek()
            .is_none_or(|Reverse((first, ..))| until < *first);
        heap.push(Reverse((until, connection, place)));
        if is_first {
            self.has_earlier.notify_one();
        }
    }

    /// What it takes in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.heap.borrow().capacity() * size_of::<Rest>()
    }

    /// Waits until one has rested, by the clock that began at `started`.
    pub(crate) async fn next(&self, started: std::time::Instant) -> (ConnectionId, Place) {
        loop {
            let first = self.heap.borrow().peek().map(|Reverse((until, ..))| *until);
            let Some(until) = first else {
                self.has_earlier.notified().await;
                continue;
            };
            let until = started + Duration::from_micros(until);
            if std::time::Instant::now() >= until {
                let mut heap = self.heap.borrow_mut();
                let first = heap.pop();
                if heap.is_empty() {
                    *heap = BinaryHeap::new();
                }
                if let Some(Reverse((_, connection, place))) = first {
                    return (connection, place);
                }
            }
            tokio::select! {
                () = sleep_until(Instant::from_std(until)) => {}
                () = self.has_earlier.notified() => {}
            }
        }
    }
}
