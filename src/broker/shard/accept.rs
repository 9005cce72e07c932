//! Publishes: gathered by topic while a turn takes them out of the inbox, then accepted together, so
//! that consecutive messages of a topic become one run.

use super::super::delivery::{Item, Outcome, Refusal, Said};
use super::super::ids::Ids;
use super::super::request::Publishes;
use super::super::table::Slot;
use super::super::topic::Accepted;
use super::{Load, Shard};
use crate::protocol::time::{Moment, Timestamp};

/// A batch whose messages are being accepted.
#[derive(Debug)]
pub(super) struct Batch {
    publishes: Publishes,
    outcomes: Vec<Outcome>,
}

impl Load {
    /// The topic of `slot` has got so many messages more in `turn`.
    pub(super) fn add(&mut self, turn: u64, slot: &mut Slot, messages: usize) {
        if slot.turn != turn {
            (slot.turn, slot.turn_events) = (turn, 0);
        }
        slot.turn_events += messages;
        self.fullest = self.fullest.max(slot.turn_events);
        if slot.topic.is_matched() {
            self.matched += messages;
        }
    }
}

impl Shard {
    /// Sorts a batch's messages to their topics.
    pub(super) fn gather(&mut self, publishes: Publishes) {
        let batch = self.batches.len();
        self.load.events += publishes.items.len();
        self.load.bytes += publishes.text.len();
        let mut outcomes = Vec::with_capacity(publishes.items.len());
        for (index, item) in publishes.items.iter().enumerate() {
            let outcome = match self.find_or_create(publishes.topic(item)) {
                _ if self.has_no_room() => Outcome::Refused(Refusal::NoMemory),
                Err(refusal) => Outcome::Refused(refusal),
                Ok(place) => {
                    if let Some(slot) = self.table.slot(place) {
                        if slot.waiting.is_empty() {
                            self.touched.push(place);
                        }
                        slot.waiting.push((batch, index));
                        slot.has_once |= item.once;
                        self.load.add(self.turns, slot, 1);
                    }
                    Outcome::Waiting
                }
            };
            outcomes.push(outcome);
        }
        self.batches.push(Batch {
            publishes,
            outcomes,
        });
    }

    /// Accepts all gathered messages, topic by topic, then answers them, batch by batch: events
    /// come before the acks of those who sent them.
    pub(super) fn accept_waiting(&mut self) {
        if self.batches.is_empty() {
            return;
        }
        let ts = self.terms.ts;
        let mut touched = std::mem::take(&mut self.touched);
        for place in touched.drain(..) {
            self.accept_topic(place, ts);
            self.bound_histories(place);
        }
        self.touched = touched;
        let mut batches = std::mem::take(&mut self.batches);
        for batch in batches.drain(..) {
            let Batch {
                publishes,
                outcomes,
            } = batch;
            let to = publishes.publisher;
            let said = Said::Published {
                publishes,
                outcomes,
            };
            self.reply(to, ts, said);
        }
        self.batches = batches;
    }

    fn accept_topic(&mut self, place: usize, ts: Timestamp) {
        let Self {
            table,
            batches,
            outgoing,
            limits,
            accepted,
            ..
        } = self;
        let Some(slot) = table.slot(place) else {
            return;
        };
        if std::mem::take(&mut slot.has_once) {
            leave_out_duplicates(slot, batches);
        }
        let Slot { topic, waiting, .. } = slot;
        let message = |&(batch, index): &(usize, usize)| {
            let found = batches.get(batch).and_then(|batch: &Batch| {
                let item = batch.publishes.items.get(index)?;
                Some((batch.publishes.id(item), batch.publishes.payload(item)))
            });
            found.unwrap_or_default()
        };
        let first = waiting.first().and_then(|&(batch, _)| batches.get(batch));
        let read_at = first.map_or_else(Moment::default, |batch| batch.publishes.read_at);
        accepted.clear();
        topic.publish(
            waiting.iter().map(message),
            ts,
            read_at,
            limits.run_events_max,
            |outcome| accepted.push(outcome),
            |core, run, to| {
                if let Some(items) = outgoing.get_mut(core) {
                    items.push(Item::Events { run, to });
                }
            },
        );
        for (&(batch, index), &Accepted { seq, matched }) in waiting.iter().zip(&*accepted) {
            if let Some(outcome) = batches
                .get_mut(batch)
                .and_then(|batch| batch.outcomes.get_mut(index))
            {
                *outcome = Outcome::Accepted { seq, matched };
            }
        }
        waiting.clear();
        if waiting.capacity() > limits.turn_topic_events_max.saturating_mul(2) {
            waiting.shrink_to(limits.turn_topic_events_max);
        }
    }
}

/// Takes out of what waits for a topic what is not to be published because its id is kept, or waits
/// in front of it.
fn leave_out_duplicates(slot: &mut Slot, batches: &mut [Batch]) {
    let Slot { topic, waiting, .. } = slot;
    let (mut next, mut earlier) = (topic.seq() + 1, Ids::default());
    waiting.retain(|&(batch, index)| {
        let Some(batch) = batches.get_mut(batch) else {
            return true;
        };
        let publishes = &batch.publishes;
        let (Some(item), Some(outcome)) =
            (publishes.items.get(index), batch.outcomes.get_mut(index))
        else {
            return true;
        };
        let id = publishes.id(item);
        let known = item.once.then(|| {
            let kept_from = topic.kept_from(next);
            let waits = || earlier.seq_of(id, kept_from);
            topic.seq_of(id, next).or_else(waits)
        });
        if let Some(seq) = known.flatten() {
            *outcome = Outcome::Duplicate { seq };
            return false;
        }
        earlier.note(id, next, 0);
        next += 1;
        true
    });
}
