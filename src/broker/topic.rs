//! (5, 6) One topic: its sequence, its history, its subscribers.
//!
//! `Topic::publish` is the way of a message through the broker: number it, encode it once, keep
//! it, hand it to every core that has subscribers. Only the topic's shard calls it.

use std::sync::Arc;

use super::ConnectionId;
use super::RUN_EVENTS_LIMIT;
use super::directory::{Audience, TopicEntry};
use super::history::History;
use super::ids::KeptIds;
use super::request::{Replay, Restored};
use super::ring::{Fetch, Piece};
use super::run::{RUN_BYTES_MAX, Run};
use super::subscribers::{Change, Reason, Subscribers};
use crate::budget::{Booked, Kind};
use crate::protocol::time::{Moment, Timestamp};

/// The answer to one accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Accepted {
    pub(crate) seq: u64,
    /// Rings that the event was offered to.
    pub(crate) matched: u64,
}

/// A topic as it is at one moment.
#[derive(Debug)]
pub struct Image {
    /// Its name, its epoch, when it was created.
    pub entry: Arc<TopicEntry>,
    /// The number of its newest message.
    pub seq: u64,
    /// The first message that is kept; one more than the newest if none is.
    pub oldest: u64,
    /// The runs that are kept; the first may begin before `oldest`.
    pub runs: Vec<Arc<Run>>,
    /// Ids that count as kept though their messages are not: the first and the last with each.
    pub ids: Vec<(u128, u64, u64)>,
}

#[derive(Debug)]
pub(crate) struct Topic {
    entry: Arc<TopicEntry>,
    seq: u64,
    history: History,
    subscribers: Subscribers,
    /// What is booked for the subscribers.
    booked: Booked,
    /// Made when somebody asks first whether an id is kept.
    ids: Option<Box<KeptIds>>,
    /// Others keep the same topic: which ids count as kept is a matter of numbers, and not of how much
    /// memory there is here.
    is_shared: bool,
}

impl Topic {
    pub(crate) fn new(entry: Arc<TopicEntry>, history_events_max: usize, is_shared: bool) -> Self {
        let budget = Arc::clone(&entry.budget);
        Self {
            booked: Booked::new(budget, entry.shard, Kind::Topics, 0),
            entry,
            seq: 0,
            history: History::new(history_events_max),
            subscribers: Subscribers::default(),
            ids: None,
            is_shared,
        }
    }

    pub(crate) fn entry(&self) -> &Arc<TopicEntry> {
        &self.entry
    }

    /// Sequence number of the newest message, 0 if none.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Accepts `messages` (id and payload of each) in their order. Calls `accepted` for each
    /// message, and `send` for each core that has subscribers. The first was read at `read_at`.
    pub(crate) fn publish<'m>(
        &mut self,
        messages: impl ExactSizeIterator<Item = (&'m str, &'m str)> + Clone,
        ts: Timestamp,
        read_at: Moment,
        run_events_max: usize,
        mut accepted: impl FnMut(Accepted),
        mut send: impl FnMut(usize, Arc<Run>, Arc<Audience>),
    ) {
        let mut rest = messages;
        while rest.len() > 0 {
            let run = Arc::new(self.encode(&mut rest, ts, read_at, run_events_max));
            self.deliver(&run, &mut accepted, &mut send);
            let before = self.history.bytes();
            self.history.push(run);
            self.booked_history(before);
        }
    }

    /// Takes as many of `messages` as fit into one run, at least one, and encodes them.
    fn encode<'m>(
        &mut self,
        messages: &mut (impl Iterator<Item = (&'m str, &'m str)> + Clone),
        ts: Timestamp,
        read_at: Moment,
        run_events_max: usize,
    ) -> Run {
        let template = &self.entry.template;
        let run_events_max = run_events_max.clamp(1, RUN_EVENTS_LIMIT);
        let mut taken = 0;
        let mut bytes = 0;
        for (id, payload) in messages.clone().take(run_events_max) {
            let seq = self.seq + taken as u64 + 1;
            let frame = template.encoded_len(id, payload, seq);
            if taken > 0 && bytes + frame > RUN_BYTES_MAX {
                break;
            }
            bytes += frame;
            taken += 1;
        }
        let first_seq = self.seq + 1;
        let mut frames = Vec::with_capacity(bytes);
        let mut ends = [0_u32; RUN_EVENTS_LIMIT];
        let mut payload_bytes = 0;
        for ((id, payload), end) in messages.take(taken).zip(&mut ends) {
            self.seq += 1;
            let kept_from = self.kept_from(self.seq);
            payload_bytes += payload.len() as u64;
            template.encode(&mut frames, id, payload, ts, self.seq);
            if let Some(ids) = &mut self.ids {
                ids.note(id, self.seq, kept_from);
            }
            *end = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        }
        let (counters, shard) = (&self.entry.counters, &self.entry.shard_counters);
        counters.accepted.set(self.seq);
        counters.bytes_in.add_owned(payload_bytes);
        shard.bytes_in.add_owned(payload_bytes);
        shard.accepted.add_owned(taken as u64);
        let ends = ends.get(..taken).unwrap_or_default();
        Run::new(frames, ends, first_seq, read_at, Arc::clone(&self.entry))
    }

    /// The oldest message that still counts as kept when the one with sequence number `next` comes.
    pub(crate) fn kept_from(&self, next: u64) -> u64 {
        let by_count = next.saturating_sub(self.history.events_max());
        if self.is_shared {
            return by_count;
        }
        by_count.max(self.history.oldest().unwrap_or(next))
    }

    /// The sequence number of the first message with this id that is kept when the one with sequence
    /// number `next` comes.
    pub(crate) fn seq_of(&mut self, id: &str, next: u64) -> Option<u64> {
        if self.ids.is_none() && self.history.oldest().is_none() {
            return None;
        }
        let kept_from = self.kept_from(next);
        self.ids().seq_of(id, kept_from)
    }

    fn ids(&mut self) -> &mut KeptIds {
        let oldest = self.history.oldest().unwrap_or_default();
        self.ids.get_or_insert_with(|| {
            let mut ids = Box::new(KeptIds::new(&self.entry));
            for (seq, frame) in self.history.each() {
                if let Some(id) = self.entry.template.id(frame) {
                    ids.note(id, seq, oldest);
                }
            }
            ids
        })
    }

    /// As it is now. Frames are shared.
    pub(crate) fn image(&self) -> Image {
        let oldest = self.history.oldest().unwrap_or(self.seq + 1);
        let kept_from = self.kept_from(self.seq + 1);
        let ids = self.ids.as_ref().filter(|_| kept_from < oldest);
        let ids = ids.map_or_else(Vec::new, |ids| ids.before(oldest, kept_from));
        Image {
            entry: Arc::clone(&self.entry),
            seq: self.seq,
            oldest,
            runs: self.history.runs(),
            ids,
        }
    }

    /// Makes it as it was. It must be new.
    pub(crate) fn restore(&mut self, of: &Restored, run_events_max: usize) {
        self.seq = of.seq.saturating_sub(of.messages.len() as u64);
        if !of.ids.is_empty() {
            let mut ids = Box::new(KeptIds::new(&self.entry));
            ids.restore(&of.ids);
            self.ids = Some(ids);
        }
        for alike in of.messages.chunk_by(|one, next| one.ts == next.ts) {
            let ts = alike
                .first()
                .map_or_else(|| self.entry.created(), |first| first.ts);
            let messages = alike.iter().map(|of| (&*of.id, &*of.payload));
            let (ignore, nobody) = (|_| {}, |_, _, _| {});
            self.publish(
                messages,
                ts,
                Moment::default(),
                run_events_max,
                ignore,
                nobody,
            );
        }
        self.entry.counters.accepted.set(self.seq);
    }

    /// Hands `run` to every core that has subscribers.
    fn deliver(
        &mut self,
        run: &Arc<Run>,
        accepted: &mut impl FnMut(Accepted),
        send: &mut impl FnMut(usize, Arc<Run>, Arc<Audience>),
    ) {
        let mut matched = 0_u64;
        for (core, to) in self.subscribers.audiences(&self.entry) {
            matched += to.len() as u64;
            send(core, Arc::clone(run), Arc::clone(to));
        }
        if matched > 0 {
            let bytes = matched * run.frames().len() as u64;
            let shard = &self.entry.shard_counters;
            self.entry.counters.bytes_out.add_owned(bytes);
            shard.bytes_out.add_owned(bytes);
            shard.offered.add_owned(matched * run.events() as u64);
        }
        for seq in run.first_seq()..=run.last_seq() {
            accepted(Accepted { seq, matched });
        }
    }

    /// Shows what the history keeps, of which there were `before` bytes.
    fn booked_history(&self, before: usize) {
        let now = self.history.bytes();
        let (topic, shard) = (&self.entry.counters, &self.entry.shard_counters);
        topic.history_bytes.set(now as u64);
        // Wraps to a subtraction where there is less than before.
        shard
            .history_bytes
            .add_owned((now as u64).wrapping_sub(before as u64));
    }

    /// Events that the history keeps.
    pub(crate) fn kept(&self) -> u64 {
        self.history
            .oldest()
            .map_or(0, |oldest| self.seq + 1 - oldest)
    }

    /// Bytes that the history keeps.
    pub(crate) fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    /// Lets go of the oldest run that is kept.
    pub(crate) fn forget_oldest(&mut self) {
        if self.is_shared {
            // The others may not have to forget it: its id goes on counting.
            self.ids();
        }
        let before = self.history.bytes();
        self.history.drop_oldest();
        self.booked_history(before);
    }

    /// Gives a connection a reason to get the topic.
    pub(crate) fn subscribe(&mut self, subscriber: ConnectionId, reason: Reason) -> Change {
        self.subscribers.insert(subscriber, reason)
    }

    /// Takes a reason from a connection.
    pub(crate) fn unsubscribe(&mut self, id: ConnectionId, reason: Reason) -> Change {
        self.subscribers.remove(id, reason)
    }

    /// Whether a pattern of somebody means it.
    pub(crate) fn is_matched(&self) -> bool {
        self.subscribers.are_matched()
    }

    /// Publishes who is subscribed, if that has changed, and books what that takes.
    pub(crate) fn publish_audiences(&mut self) {
        self.subscribers.publish(&self.entry);
        self.booked.set(self.subscribers.bytes());
    }

    /// What is kept of what is wanted, and, where that was asked, whether nothing is missing.
    pub(crate) fn replay(&self, wanted: &Replay) -> (Option<Fetch>, Option<bool>) {
        match wanted {
            Replay::None => (None, None),
            Replay::Last(wanted) => (self.newest(*wanted), None),
            Replay::Since { epoch, seq } => {
                let (events, recovered) = self.since(epoch, *seq);
                (events, Some(recovered))
            }
        }
    }

    /// The newest `wanted` events that are kept.
    pub(crate) fn newest(&self, wanted: u64) -> Option<Fetch> {
        let oldest = self.history.oldest()?;
        let first = (self.seq + 1).saturating_sub(wanted).max(oldest);
        self.fetch_from(first)
    }

    /// What is kept after sequence number `seq` of `epoch`, and whether nothing is missing.
    /// Everything that is kept, if something is.
    pub(crate) fn since(&self, epoch: &str, seq: u64) -> (Option<Fetch>, bool) {
        let oldest = self.history.oldest().unwrap_or(self.seq + 1);
        let is_recovered = *epoch == *self.entry.epoch && seq <= self.seq && seq + 1 >= oldest;
        let first = if is_recovered { seq + 1 } else { oldest };
        (self.fetch_from(first), is_recovered)
    }

    fn fetch_from(&self, first: u64) -> Option<Fetch> {
        (first <= self.seq).then(|| Fetch {
            topic: Arc::clone(&self.entry),
            first,
            last: self.seq,
            further: Vec::new(),
        })
    }

    /// The next piece of a replay. What the history has let go of meanwhile is counted in it.
    pub(crate) fn piece(&self, wanted: &Fetch) -> Piece {
        let kept_from = self.history.oldest().unwrap_or(self.seq + 1);
        let first = wanted.first.max(kept_from).min(wanted.last + 1);
        let (kept, next) = self.history.piece(first, wanted.last);
        Piece {
            kept,
            next,
            lost: first - wanted.first,
            through: 0,
        }
    }

    /// Everyone who is to be told when the topic ends.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = ConnectionId> {
        self.subscribers.iter()
    }
}
