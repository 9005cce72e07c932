//! (5, 6, 7) One topic: its sequence, its history, its subscribers.
//!
//! `Topic::publish` is the way of a message through the broker: number it, encode it once, keep
//! it, push it on every subscriber's ring. Only the topic's shard calls it.

use std::sync::Arc;

use super::RUN_EVENTS_LIMIT;
use super::history::{History, Kept};
use super::outbox::{ConnectionId, OutboxSender, Pushed};
use super::run::{RUN_BYTES_MAX, Run, Stamp};
use super::subscribers::{Snapshot, Subscribers};
use crate::metrics::{Counter, ShardCounters};
use crate::protocol::frame::{EventTemplate, Timestamp};

/// What one topic has done since it was created.
#[derive(Debug, Default)]
pub struct TopicCounters {
    dropped: Counter,
    shard: Arc<ShardCounters>,
}

impl TopicCounters {
    /// Counts events of this topic that were pushed out of a ring; called by whoever saw them go.
    pub(crate) fn count_dropped(&self, events: u64) {
        self.dropped.add(events);
        self.shard.dropped.add(events);
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.value()
    }
}

/// The answer to one accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Accepted {
    pub(crate) seq: u64,
    /// Rings that the event was offered to.
    pub(crate) matched: u64,
    /// Older events that it pushed out of them.
    pub(crate) dropped: u64,
}

/// A topic's numbers for `/stats`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStats {
    /// Its name.
    pub name: Arc<str>,
    /// Messages accepted.
    pub messages: u64,
    /// Subscribers now.
    pub subscribers: usize,
    /// Events pushed out of full rings.
    pub dropped: u64,
    /// Payload bytes accepted.
    pub bytes_in: u64,
    /// Bytes of event frames offered to subscribers.
    pub bytes_out: u64,
    /// Sequence number of the newest message, 0 if none.
    pub seq: u64,
}

#[derive(Debug)]
pub(crate) struct Topic {
    name: Arc<str>,
    template: EventTemplate,
    epoch: Box<str>,
    seq: u64,
    bytes_in: u64,
    bytes_out: u64,
    history: History,
    subscribers: Subscribers,
    counters: Arc<TopicCounters>,
}

impl Topic {
    pub(crate) fn new(
        name: Arc<str>,
        epoch: Box<str>,
        history_events_max: usize,
        shard: Arc<ShardCounters>,
    ) -> Self {
        Self {
            template: EventTemplate::new(&name),
            name,
            epoch,
            seq: 0,
            bytes_in: 0,
            bytes_out: 0,
            history: History::new(history_events_max),
            subscribers: Subscribers::default(),
            counters: Arc::new(TopicCounters {
                dropped: Counter::default(),
                shard,
            }),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name as a JSON string.
    pub(crate) fn name_json(&self) -> &str {
        self.template.topic_json()
    }

    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Sequence number of the newest message, 0 if none.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Accepts `messages` (id and payload of each) in their order and offers them to every
    /// subscriber. `newest` is the stamp of the shard's newest run, before and after. Calls
    /// `accepted` for each message and `mark` for each subscriber that is to be flushed.
    pub(crate) fn publish<'m>(
        &mut self,
        messages: impl ExactSizeIterator<Item = (&'m str, &'m str)> + Clone,
        ts: Timestamp,
        run_events_max: usize,
        newest: &mut Stamp,
        mut accepted: impl FnMut(Accepted),
        mut mark: impl FnMut(&OutboxSender),
    ) {
        let mut rest = messages;
        while rest.len() > 0 {
            newest.serial += 1;
            let run = self.encode(&mut rest, ts, run_events_max, *newest);
            let run = Arc::new(run);
            self.history.push(Arc::clone(&run));
            self.deliver(&run, &mut accepted, &mut mark);
        }
    }

    /// Takes as many of `messages` as fit into one run, at least one, and encodes them.
    fn encode<'m>(
        &mut self,
        messages: &mut (impl Iterator<Item = (&'m str, &'m str)> + Clone),
        ts: Timestamp,
        run_events_max: usize,
        stamp: Stamp,
    ) -> Run {
        let run_events_max = run_events_max.clamp(1, RUN_EVENTS_LIMIT);
        let mut taken = 0;
        let mut bytes = 0;
        for (id, payload) in messages.clone().take(run_events_max) {
            let seq = self.seq + taken as u64 + 1;
            let frame = self.template.encoded_len(id, payload, seq);
            if taken > 0 && bytes + frame > RUN_BYTES_MAX {
                break;
            }
            bytes += frame;
            taken += 1;
        }
        let mut frames = Vec::with_capacity(bytes);
        let mut ends = [0_u32; RUN_EVENTS_LIMIT];
        let mut payload_bytes = 0;
        for ((id, payload), end) in messages.take(taken).zip(&mut ends) {
            self.seq += 1;
            payload_bytes += payload.len() as u64;
            self.template.encode(&mut frames, id, payload, ts, self.seq);
            *end = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        }
        self.bytes_in += payload_bytes;
        self.counters.shard.bytes_in.add_owned(payload_bytes);
        self.counters.shard.accepted.add_owned(taken as u64);
        let ends = ends.get(..taken).unwrap_or_default();
        let counters = Arc::clone(&self.counters);
        Run::new(frames, ends, counters, stamp)
    }

    /// Pushes `run` on every ring.
    fn deliver(
        &mut self,
        run: &Arc<Run>,
        accepted: &mut impl FnMut(Accepted),
        mark: &mut impl FnMut(&OutboxSender),
    ) {
        let events = run.events();
        let mut matched = 0_u64;
        // How many rings lost exactly so many older events to this run.
        let mut losses = [0_u64; RUN_EVENTS_LIMIT + 1];
        let mut closed: Vec<ConnectionId> = Vec::new();
        for subscriber in self.subscribers.snapshot().iter() {
            match subscriber.push(run) {
                Pushed::Queued {
                    dropped,
                    mark: first,
                } => {
                    matched += 1;
                    if let Some(count) = losses.get_mut(dropped as usize) {
                        *count += 1;
                    }
                    if first {
                        mark(subscriber);
                    }
                }
                Pushed::Closed => closed.push(subscriber.id()),
            }
        }
        for id in closed {
            self.subscribers.remove(id);
        }
        let offered = matched * events as u64;
        let bytes = matched * run.frames().len() as u64;
        self.bytes_out += bytes;
        self.counters.shard.offered.add_owned(offered);
        self.counters.shard.bytes_out.add_owned(bytes);

        // A ring that lost k events lost one to each of the last k events of the run.
        let first_seq = self.seq + 1 - events as u64;
        for index in 0..events {
            let dropped = losses
                .get(events - index..=events)
                .map_or(0, |rings| rings.iter().sum());
            accepted(Accepted {
                seq: first_seq + index as u64,
                matched,
                dropped,
            });
        }
    }

    /// Adds a subscriber; false if it was one already.
    pub(crate) fn subscribe(&mut self, subscriber: OutboxSender) -> bool {
        self.subscribers.insert(subscriber)
    }

    /// Removes a subscriber; false if it was none.
    pub(crate) fn unsubscribe(&mut self, id: ConnectionId) -> bool {
        self.subscribers.remove(id)
    }

    /// The newest `wanted` events that are kept.
    pub(crate) fn newest(&self, wanted: u64) -> Vec<Kept> {
        self.history
            .newest(usize::try_from(wanted).unwrap_or(usize::MAX))
    }

    /// What is kept after sequence number `seq` of `epoch`, and whether nothing is missing.
    /// Everything that is kept, if something is.
    pub(crate) fn since(&self, epoch: &str, seq: u64) -> (Vec<Kept>, bool) {
        let missed = self
            .seq
            .checked_sub(seq)
            .filter(|missed| *epoch == *self.epoch && *missed <= self.history.events() as u64);
        match missed {
            Some(missed) => (self.newest(missed), true),
            None => (self.newest(u64::MAX), false),
        }
    }

    pub(crate) fn stats(&self) -> TopicStats {
        TopicStats {
            name: Arc::clone(&self.name),
            messages: self.seq,
            subscribers: self.subscribers.len(),
            dropped: self.counters.dropped.value(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            seq: self.seq,
        }
    }

    /// Ends the topic and returns who is to be told.
    pub(crate) fn into_subscribers(self) -> Snapshot {
        self.subscribers.into_list()
    }
}
