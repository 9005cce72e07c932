//! Messages that came over HTTP: all of them or none, one behind the other, and not more in one turn
//! than rings can take. While some are left, the shard takes nothing else from its inbox.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::delivery::{Item, Refusal};
use super::super::ids::Ids;
use super::super::request::{Posted, Recalled, Receipt, Receipts, Replay};
use super::super::table::Slot;
use super::{Shard, Told};
use crate::protocol::post::Post;
use crate::protocol::time::{Moment, Timestamp};

/// Messages of which some are still to be accepted.
#[derive(Debug)]
pub(super) struct Posting {
    place: usize,
    messages: Vec<Post>,
    receipts: Vec<Receipt>,
    read_at: Moment,
    /// When all of it happens, if that is settled; otherwise each part when it is accepted.
    ts: Option<Timestamp>,
    /// Those of the array before, where one is not to be published twice.
    earlier: Option<Ids>,
    reply: oneshot::Sender<Result<Receipts, Refusal>>,
}

impl Shard {
    /// Begins to accept messages, or says why not.
    pub(super) fn post(&mut self, posted: Posted, ts: Timestamp) {
        let found = if self.has_no_room() {
            Err(Refusal::NoMemory)
        } else {
            self.find_or_create(&posted.topic)
        };
        match found {
            Ok(place) => {
                let asks = posted.messages.iter().any(|message| message.once);
                let earlier = asks.then(Ids::default);
                self.posting = Some(Posting {
                    place,
                    receipts: Vec::with_capacity(posted.messages.len()),
                    messages: posted.messages,
                    read_at: posted.read_at,
                    ts: self.terms.are_settled().then_some(self.terms.ts),
                    earlier,
                    reply: posted.reply,
                });
                self.go_on_posting(ts);
            }
            Err(refusal) => self.told.push(Told::Posted(posted.reply, Err(refusal))),
        }
    }

    /// Accepts as many as one turn may, and answers behind the last.
    pub(super) fn go_on_posting(&mut self, ts: Timestamp) {
        let Some(mut posting) = self.posting.take() else {
            return;
        };
        let Some(slot) = self.table.slot(posting.place) else {
            return;
        };
        let ts = posting.ts.unwrap_or(ts);
        let done = posting.receipts.len();
        let (mut bytes, mut fresh) = (0, Vec::new());
        // There is room for one at least: a full turn takes no request, and a new one is empty.
        self.load.add(self.turns, slot, 0);
        let load = &mut self.load;
        let taken = if slot.topic.is_matched() {
            slot.turn_events.max(load.matched)
        } else {
            slot.turn_events
        };
        let events_max = self.limits.turn_topic_events_max.saturating_sub(taken);
        let mut next = slot.topic.seq() + 1;
        for message in posting.messages.get(done..).unwrap_or_default() {
            if fresh.len() >= events_max.max(1) || bytes >= self.limits.turn_bytes_max {
                break;
            }
            let known = message.once.then(|| {
                let earlier = posting.earlier.as_ref();
                let earlier = || earlier.and_then(|ids| ids.seq_of(&message.id, 0));
                slot.topic.seq_of(&message.id, next).or_else(earlier)
            });
            let known = known.flatten();
            posting.receipts.push(Receipt {
                id: message.id.clone(),
                seq: known.unwrap_or(next),
                matched: 0,
                is_duplicate: known.is_some(),
            });
            if known.is_none() {
                if let Some(earlier) = &mut posting.earlier {
                    earlier.note(&message.id, next, 0);
                }
                next += 1;
                bytes += message.payload.len();
                fresh.push(message);
            }
        }
        load.events += fresh.len();
        load.bytes += bytes;
        load.add(self.turns, slot, fresh.len());
        let outgoing = &mut self.outgoing;
        let mut accepted = posting
            .receipts
            .iter_mut()
            .skip(done)
            .filter(|receipt| !receipt.is_duplicate);
        slot.topic.publish(
            fresh
                .iter()
                .map(|message| (&*message.id, &*message.payload)),
            ts,
            posting.read_at,
            self.limits.run_events_max,
            |outcome| {
                if let Some(receipt) = accepted.next() {
                    (receipt.seq, receipt.matched) = (outcome.seq, outcome.matched);
                }
            },
            |core, run, to| {
                if let Some(items) = outgoing.get_mut(core) {
                    items.push(Item::Events { run, to });
                }
            },
        );
        self.bound_histories(posting.place);
        if posting.receipts.len() < posting.messages.len() {
            self.posting = Some(posting);
        } else if let Some(Slot { topic, .. }) = self.table.slot(posting.place) {
            let receipts = Receipts {
                topic: Arc::clone(topic.entry()),
                messages: posting.receipts,
            };
            self.told.push(Told::Posted(posting.reply, Ok(receipts)));
        }
    }

    /// What a topic keeps of what is wanted.
    pub(super) fn recall(&mut self, name: &str, wanted: &Replay) -> Option<Recalled> {
        let place = self.table.find(name)?;
        let topic = &self.table.slot(place)?.topic;
        let (events, recovered) = topic.replay(wanted);
        Some(Recalled {
            topic: Arc::clone(topic.entry()),
            seq: topic.seq(),
            recovered,
            events,
        })
    }
}
