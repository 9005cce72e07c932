//! What waits for one connection, in the order in which it happened: live events of every shard,
//! and the replies and replays that stand between.
//!
//! Its core pushes and takes; nobody else sees it. So the order in which the core hears of things
//! is the order on the socket, and an event that falls out is known at once. Events are bounded in
//! number and in bytes, while an entry is a [`Run`] of several: the oldest run is kept outside of
//! the queue, where it can lose its first events one by one.
//!
//! Replies are never dropped; the reader stops reading while too many wait. One that comes while
//! events wait is due when as many events have left as had come before it, whether they were sent
//! or fell out. A replay holds up what came after it until it is through; it is fetched from its
//! shard piece by piece, and only when the socket has room for the next. An answer that several
//! shards make together has its place held until it is made, and all that comes later waits behind:
//! live events then have a bound in bytes alone, since nobody has been slow.
//!
//! Of a topic of which the newest event alone is wanted one waits, in a [`Place`] of its own beside the
//! queue. Its turn stands among the replies.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use ahash::AHashMap;
use crossbeam_queue::ArrayQueue;

mod cursor;
mod newest;

use cursor::Cursor;
use newest::{Ended, Newest, Sealed};
pub use newest::{Place, Replaced};

use super::directory::TopicEntry;
use super::history::Kept;
use super::run::Run;
use crate::protocol::time::Moment;

/// Places in a new queue of runs; doubled when they are taken.
const PLACES_FIRST: usize = 16;

/// Replies are gathered in buffers of about so many bytes, each given back when it is written.
const REPLY_BUFFER_BYTES: usize = 16 * 1024;

/// How much may wait. Events beyond either bound push the oldest out.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Events, at least 1.
    pub events_max: usize,
    /// Bytes of their runs. The newest run always stays.
    pub bytes_max: usize,
}

/// What is next for the socket.
#[derive(Debug)]
pub enum Next {
    /// Nothing that can leave now.
    Nothing,
    /// Complete frames.
    Replies(Vec<u8>),
    /// A piece of a replay.
    Replay(Piece),
    /// The next piece of a replay is to be asked for. What comes after it waits until then.
    Fetch(Fetch),
    /// What waits in a place, by [`Ring::take_newest`].
    Newest(Place),
    /// Live events.
    Events {
        /// The run.
        run: Arc<Run>,
        /// How many of its first events fell out.
        skip: usize,
        /// Events lost since the last one delivered, these included. To be announced first.
        lost: u64,
    },
}

/// Events of the past that leave together.
#[derive(Debug, Default)]
pub struct Piece {
    /// The events, oldest first.
    pub kept: Vec<Kept>,
    /// Sequence number after the last of them.
    pub next: u64,
    /// Events in front of them that the history let go of before they were asked for. To be
    /// announced first.
    pub lost: u64,
    /// How many topics behind the first it has got into. All before the last of them are through.
    pub through: usize,
}

impl Piece {
    /// Bytes of its events.
    pub(crate) fn bytes(&self) -> usize {
        let kept = self.kept.iter();
        kept.map(|kept| kept.run.frames().len().saturating_sub(kept.start))
            .sum()
    }
}

/// Which events of the past a connection is still to get.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Of which topic.
    pub topic: Arc<TopicEntry>,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// What is wanted behind them, of other topics of the same shard.
    pub further: Vec<Fetch>,
}

#[derive(Debug)]
enum Said {
    Replies(Vec<u8>),
    Replay(Box<Cursor>),
    /// The place of an answer that is still being made, and what is known of it, in bytes.
    Held(usize),
    /// The turn of the newest event of a topic.
    Newest(Place),
    /// That event, when none may replace it any more.
    Sealed(Sealed),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ring {
    /// The oldest run, and how many of its events fell out.
    front: Option<(Arc<Run>, usize)>,
    /// The runs behind it. Made when there is a second one: most subscribers never have any.
    runs: Option<Box<ArrayQueue<Arc<Run>>>>,
    /// Made for the first event that may be replaced.
    newest: Option<Box<Newest>>,
    /// Of all events that wait.
    run_bytes: usize,
    /// Replies and replays, each with the number of events that came before it.
    said: VecDeque<(u64, Said)>,
    reply_bytes: usize,
    /// Events that ever came, and that left.
    came: u64,
    left: u64,
    /// Events that fell out since one was taken.
    lost: u64,
    /// Those that came before this many are bounded in bytes alone.
    held: u64,
}

impl Ring {
    /// A ring with `first` in front of all that will come.
    pub fn behind(first: Vec<u8>) -> Self {
        let mut ring = Self::default();
        ring.push_replies(|out| *out = first);
        ring
    }

    /// Adds `run`; the oldest events beyond `limits` fall out. Returns how many did.
    pub fn push(&mut self, run: &Arc<Run>, limits: RingLimits) -> u64 {
        self.came += run.events() as u64;
        self.run_bytes += run.bytes();
        if self.front.is_none() {
            self.front = Some((Arc::clone(run), 0));
            // Most rings are empty, and a run alone is over no bound of bytes.
            if run.events() <= limits.events_max {
                return 0;
            }
        } else {
            self.push_back(run);
        }
        let counts_from = self.left.max(self.held.min(self.came));
        let over = (self.came - counts_from).saturating_sub(limits.events_max as u64);
        if over > 0 || self.run_bytes > limits.bytes_max {
            self.drop_events(over);
            return over + self.drop_oldest(limits.bytes_max);
        }
        0
    }

    fn push_back(&mut self, run: &Arc<Run>) {
        let runs = self
            .runs
            .get_or_insert_with(|| Box::new(ArrayQueue::new(PLACES_FIRST)));
        let Err(run) = runs.push(Arc::clone(run)) else {
            return;
        };
        // The queue is full. It has never more runs than events may wait, so doubling ends there.
        let wider = ArrayQueue::new(runs.capacity() * 2);
        while let Some(run) = runs.pop() {
            drop(wider.force_push(run));
        }
        drop(wider.force_push(run));
        **runs = wider;
    }

    fn drop_events(&mut self, events: u64) {
        let mut rest = events;
        while rest > 0
            && let Some((run, skip)) = &mut self.front
        {
            let held = (run.events() - *skip) as u64;
            if rest >= held {
                rest -= self.drop_front();
            } else {
                run.topic().count_dropped(rest);
                *skip += usize::try_from(rest).unwrap_or_default();
                self.left += rest;
                self.lost += rest;
                rest = 0;
            }
        }
    }

    /// Lets the oldest events fall out, runs and turns, until so many bytes are left or nothing else
    /// waits for its turn. Returns how many events that were.
    fn drop_oldest(&mut self, bytes_max: usize) -> u64 {
        let mut dropped = 0;
        while self.run_bytes > bytes_max {
            let turn = self.turn();
            let is_oldest = |(after, _): &(u64, Said)| *after <= self.left;
            let turn_is_oldest = turn.and_then(|at| self.said.get(at)).is_some_and(is_oldest);
            let gone = if self.has_second() && !turn_is_oldest {
                self.drop_front()
            } else {
                self.drop_turn(turn)
            };
            if gone == 0 {
                break;
            }
            dropped += gone;
        }
        dropped
    }

    /// Adds `run` to a ring in which events may wait that can be replaced: as [`push`](Self::push), which
    /// does not look for those where there is room.
    pub fn push_beside(&mut self, run: &Arc<Run>, limits: RingLimits) -> u64 {
        self.push(run, limits) + self.drop_oldest(limits.bytes_max)
    }

    fn has_second(&self) -> bool {
        self.runs.as_ref().is_some_and(|runs| !runs.is_empty())
    }

    /// Adds the newest event of `run`, which came at `now` in microseconds, in the place of the one that
    /// waits; at most `max_rate` of them are to leave in a second. Beyond `limits` others fall out, or
    /// it does, if all others are held back.
    pub fn push_newest(
        &mut self,
        run: &Arc<Run>,
        max_rate: Option<NonZeroU16>,
        now: u64,
        limits: RingLimits,
    ) -> Replaced {
        let newest = self.newest.get_or_insert_default();
        let put = newest.put(run, max_rate, now);
        let place = Place::of(run.topic());
        self.run_bytes = (self.run_bytes + put.more).saturating_sub(put.less);
        if put.is_due {
            self.said.push_back((self.came, Said::Newest(place)));
        }
        let mut dropped = self.drop_oldest(limits.bytes_max);
        if self.run_bytes > limits.bytes_max && self.events() > 1 {
            // Only what is held back is left; to look for the oldest of that takes longer each time.
            dropped += self.drop_held(|newest| newest.let_go_if_held(place));
        }
        Replaced {
            dropped,
            ..put.replaced
        }
    }

    /// Where the oldest event stands that may be replaced, or could have been.
    fn turn(&self) -> Option<usize> {
        self.newest.as_ref()?;
        let is_turn = |(_, said): &(u64, Said)| matches!(said, Said::Newest(_) | Said::Sealed(_));
        self.said.iter().position(is_turn)
    }

    /// Lets the event whose turn stands there fall out, if others wait beside it. Returns how many events
    /// that were.
    fn drop_turn(&mut self, turn: Option<usize>) -> u64 {
        let turn = turn.filter(|_| self.events() > 1);
        let said = turn.and_then(|at| self.said.remove(at));
        let (event, skipped) = match (said, &mut self.newest) {
            (Some((_, Said::Newest(place))), Some(newest)) => (newest.let_go(place), 0),
            (Some((_, Said::Sealed((event, skipped)))), Some(newest)) => {
                newest.events -= 1;
                // Nobody else will tell of what it stood for.
                (Some(event), skipped)
            }
            _ => return 0,
        };
        self.lost += skipped;
        if let Some(event) = event {
            self.fell_out(&event);
        }
        1
    }

    /// Events that are held back fall out, those that `pick` takes. Returns how many that were.
    fn drop_held<I: IntoIterator<Item = Arc<Run>>>(
        &mut self,
        pick: impl FnOnce(&mut Newest) -> I,
    ) -> u64 {
        let picked = self.newest.as_deref_mut().map(pick);
        let mut dropped = 0;
        for event in picked.into_iter().flatten() {
            self.fell_out(&event);
            dropped += 1;
        }
        dropped
    }

    fn fell_out(&mut self, event: &Run) {
        event.topic().count_dropped(1);
        self.run_bytes = self.run_bytes.saturating_sub(event.bytes());
        self.lost += 1;
    }

    /// Takes what waits in `place`, whose turn has come at `now` in microseconds: the event, and how
    /// many were lost since one was taken.
    pub fn take_newest(&mut self, place: Place, now: u64) -> Option<(Arc<Run>, u64)> {
        let (event, bytes) = self.newest.as_mut()?.take(place, now)?;
        self.run_bytes = self.run_bytes.saturating_sub(bytes);
        Some((event, std::mem::take(&mut self.lost)))
    }

    /// A place may have rested at `now` in microseconds: then what waits in it takes its turn.
    pub fn is_rested(&mut self, place: Place, now: u64) {
        if self
            .newest
            .as_mut()
            .is_some_and(|newest| newest.is_rested(place, now))
        {
            self.said.push_back((self.came, Said::Newest(place)));
        }
    }

    /// No event of `topic` that waits may be replaced any more. What is held back takes its turn.
    pub fn end_newest(&mut self, topic: &TopicEntry) {
        let place = Place::of(topic);
        let ended = self.newest.as_mut().and_then(|newest| newest.end(place));
        self.seal(ended.into_iter().collect());
    }

    /// The same for all topics whose names `is_over` picks.
    pub fn end_newest_of(&mut self, is_over: impl Fn(&str) -> bool) {
        let ended = self.newest.as_mut().map(|newest| newest.end_all(is_over));
        self.seal(ended.unwrap_or_default());
    }

    fn seal(&mut self, ended: Vec<Ended>) {
        let mut due = AHashMap::default();
        for Ended {
            place,
            event,
            untold,
            is_due,
        } in ended
        {
            self.lost += untold;
            let Some((event, bytes)) = event else {
                continue;
            };
            self.run_bytes = (self.run_bytes + event.0.bytes()).saturating_sub(bytes);
            if is_due {
                due.insert(place, event);
            } else {
                self.said.push_back((self.came, Said::Sealed(event)));
            }
        }
        if due.is_empty() {
            return;
        }
        for (_, said) in &mut self.said {
            if let Said::Newest(place) = said
                && let Some(event) = due.remove(place)
            {
                *said = Said::Sealed(event);
            }
        }
    }

    /// Bytes of the places of events that may be replaced.
    pub fn place_bytes(&self) -> usize {
        self.newest.as_ref().map_or(0, |newest| newest.bytes())
    }

    /// Lets the oldest run fall out. Returns how many events that were.
    fn drop_front(&mut self) -> u64 {
        let Some((run, skip)) = self.front.take() else {
            return 0;
        };
        let events = (run.events() - skip) as u64;
        run.topic().count_dropped(events);
        self.run_bytes -= run.bytes();
        self.left += events;
        self.lost += events;
        self.front = self.pop();
        events
    }

    fn pop(&self) -> Option<(Arc<Run>, usize)> {
        Some((self.runs.as_ref()?.pop()?, 0))
    }

    /// Bytes of runs that wait, if any of them can fall out: the newest always stays.
    pub fn lag_bytes(&self) -> usize {
        let has_more = self.has_second() || (self.newest.is_some() && self.events() > 1);
        if has_more { self.run_bytes } else { 0 }
    }

    /// Lets the oldest runs fall out until half of their bytes are left: for when memory is short.
    /// Returns how many events that were.
    pub fn drop_half(&mut self) -> u64 {
        let bytes_max = self.run_bytes / 2;
        let dropped = self.drop_oldest(bytes_max);
        let over = self.run_bytes.saturating_sub(bytes_max);
        if over == 0 || self.events() < 2 {
            return dropped;
        }
        dropped + self.drop_held(|newest| newest.let_go_held(over))
    }

    /// Adds complete frames behind all that waits.
    pub fn push_replies(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let came = self.came;
        match self.said.back_mut() {
            Some((after, Said::Replies(frames)))
                if *after == came && frames.len() < REPLY_BUFFER_BYTES =>
            {
                let before = frames.len();
                append(frames);
                self.reply_bytes += frames.len() - before;
            }
            _ => {
                let mut frames = Vec::new();
                append(&mut frames);
                if !frames.is_empty() {
                    self.reply_bytes += frames.len();
                    self.said.push_back((came, Said::Replies(frames)));
                }
            }
        }
    }

    /// Adds a replay behind all that waits: `piece` first, if it came with it, then `rest`.
    pub fn push_replay(&mut self, piece: Option<Piece>, rest: Fetch) {
        let cursor = Box::new(Cursor::new(piece, rest));
        self.reply_bytes += cursor.bytes();
        self.said.push_back((self.came, Said::Replay(cursor)));
    }

    /// Holds the place behind all that waits for an answer that is still to be made.
    pub fn hold(&mut self) {
        self.held = u64::MAX;
        self.said.push_back((self.came, Said::Held(0)));
    }

    /// So many bytes more are known of the answer for which a place is held.
    pub fn note_held(&mut self, bytes: usize) {
        for (_, said) in &mut self.said {
            if let Said::Held(known) = said {
                *known += bytes;
                self.reply_bytes += bytes;
            }
        }
    }

    /// Puts the answer in the place that was held for it.
    pub fn release(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        self.release_with(append, std::iter::empty());
    }

    /// The same, and the replays that go with the answer behind it.
    pub fn release_with(
        &mut self,
        append: impl FnOnce(&mut Vec<u8>),
        replays: impl Iterator<Item = Fetch>,
    ) {
        self.held = self.came;
        let is_held = |(_, said): &(u64, Said)| matches!(said, Said::Held(_));
        let Some(at) = self.said.iter().position(is_held) else {
            return;
        };
        let Some((after, Said::Held(known))) = self.said.remove(at) else {
            return;
        };
        let mut frames = Vec::new();
        append(&mut frames);
        self.reply_bytes += frames.len();
        self.reply_bytes -= known;
        self.said.insert(at, (after, Said::Replies(frames)));
        for (place, rest) in (at + 1..).zip(replays) {
            let cursor = Box::new(Cursor::new(None, rest));
            self.reply_bytes += cursor.bytes();
            self.said.insert(place, (after, Said::Replay(cursor)));
        }
    }

    /// The piece that was asked for has come.
    pub fn arrived(&mut self, piece: Piece) {
        if let Some((_, Said::Replay(cursor))) = self.said.front_mut() {
            cursor.arrived(piece);
        }
    }

    /// Nothing more is to be sent of replays of topics that `has_ended` picks.
    pub fn end_replays(&mut self, has_ended: impl Fn(&TopicEntry) -> bool) {
        for (_, said) in &mut self.said {
            if let Said::Replay(cursor) = said {
                cursor.end(&has_ended);
            }
        }
    }

    /// Bytes of replies that wait; a replay counts for its places, not for its events.
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// Bytes of runs that wait.
    pub fn run_bytes(&self) -> usize {
        self.run_bytes
    }

    /// Events that wait.
    pub fn events(&self) -> u64 {
        let newest = self.newest.as_ref().map_or(0, |newest| newest.events);
        self.came - self.left + newest
    }

    /// Events that wait because the socket is slow: all but those that a rate holds back.
    pub fn late_events(&self) -> u64 {
        let held = self.newest.as_ref().map_or(0, |newest| newest.held);
        self.events() - held
    }

    /// When the oldest event that waits was read, of those that no rate holds back.
    pub fn oldest(&self) -> Option<Moment> {
        if let Some((run, _)) = &self.front {
            return Some(run.read_at());
        }
        let newest = self.newest.as_ref()?;
        let mut turns = self.said.iter().filter_map(|(_, said)| match said {
            Said::Newest(place) => newest.peek(*place),
            Said::Sealed((event, _)) => Some(event),
            _ => None,
        });
        turns.next().map(|run| run.read_at())
    }

    /// Takes what is next.
    pub fn take(&mut self) -> Next {
        if let Some((after, _)) = self.said.front()
            && *after <= self.left
        {
            return self.take_said();
        }
        let Some((run, skip)) = self.front.take() else {
            return Next::Nothing;
        };
        self.front = self.pop();
        self.left += (run.events() - skip) as u64;
        self.run_bytes -= run.bytes();
        let lost = std::mem::take(&mut self.lost);
        Next::Events { run, skip, lost }
    }

    fn take_said(&mut self) -> Next {
        let next = match self.said.front_mut() {
            None | Some((_, Said::Held(_))) => return Next::Nothing,
            Some((_, Said::Newest(place))) => Next::Newest(*place),
            Some((_, Said::Sealed((event, _)))) => {
                let (run, skip) = (Arc::clone(event), 0);
                if let Some(newest) = &mut self.newest {
                    newest.events -= 1;
                }
                self.run_bytes = self.run_bytes.saturating_sub(run.bytes());
                let lost = std::mem::take(&mut self.lost);
                Next::Events { run, skip, lost }
            }
            Some((_, Said::Replies(frames))) => {
                self.reply_bytes -= frames.len();
                Next::Replies(std::mem::take(frames))
            }
            Some((_, Said::Replay(cursor))) => {
                let before = cursor.bytes();
                let next = match cursor.take() {
                    Some(Ok(piece)) => Next::Replay(piece),
                    Some(Err(wanted)) => Next::Fetch(wanted),
                    None => Next::Nothing,
                };
                let is_through = matches!(next, Next::Replay(_)) && cursor.is_through();
                let after = if is_through { 0 } else { cursor.bytes() };
                self.reply_bytes -= before - after;
                if !is_through {
                    return next;
                }
                next
            }
        };
        self.said.pop_front();
        if self.said.is_empty() {
            // Most connections wait for one ack in their whole life.
            self.said = VecDeque::new();
        }
        next
    }

    /// Whether something can be taken now.
    pub fn is_ready(&self) -> bool {
        match self.said.front() {
            Some((after, said)) if *after <= self.left => match said {
                Said::Replies(_) | Said::Newest(_) | Said::Sealed(_) => true,
                Said::Replay(cursor) => cursor.is_ready(),
                Said::Held(_) => false,
            },
            _ => self.front.is_some(),
        }
    }

    /// Whether nothing waits at all.
    pub fn is_empty(&self) -> bool {
        self.front.is_none() && self.said.is_empty()
    }

    /// Gives up events and replays; replies stay. Returns the events that waited, and those lost
    /// without an announcement.
    pub fn give_up_events(&mut self) -> (u64, u64) {
        let given_up = (self.events(), std::mem::take(&mut self.lost));
        self.newest = None;
        self.front = None;
        self.runs = None;
        self.run_bytes = 0;
        self.left = self.came;
        self.said
            .retain(|(_, said)| matches!(said, Said::Replies(_)));
        let replies = self.said.iter().map(|(_, said)| match said {
            Said::Replies(frames) => frames.len(),
            Said::Replay(_) | Said::Held(_) | Said::Newest(_) | Said::Sealed(_) => 0,
        });
        self.reply_bytes = replies.sum();
        given_up
    }

    /// Gives the memory of an empty queue back, and of places that have rested at `now` in microseconds;
    /// called when the connection has been quiet.
    pub fn shrink(&mut self, now: u64) {
        if self
            .newest
            .as_mut()
            .is_some_and(|newest| newest.shrink(now))
        {
            self.newest = None;
        }
        if self.runs.as_ref().is_some_and(|runs| runs.is_empty()) {
            self.runs = None;
        }
    }
}

#[cfg(test)]
mod tests;
