//! The ring of one connection: live events from every shard, drained by the connection's thread.
//!
//! Many [`OutboxSender`]s (one in each subscriber list) push, one [`OutboxReceiver`] takes. A push
//! never waits: what does not fit pushes the oldest out, and each event that falls out is counted
//! once, on the side that saw it fall, and announced before the next event that gets through.
//!
//! The ring is an `ArrayQueue` of [`Run`]s. Its bound is in *events*, so it cannot be the queue's
//! own capacity. `state` holds two numbers: `live`, the events that still count, and `debt`, how
//! many of the oldest events in the queue have been pushed out without having left it yet. The
//! receiver pays the debt as it takes: it skips that many events from the front. So that a ring
//! which nobody takes from does not grow, a sender removes the oldest runs itself for as long as
//! the debt covers the longest run that was ever pushed, and so surely the one in front.
//!
//! # Memory ordering
//!
//! - `state` changes only by compare-exchange (`AcqRel`), so `live` never passes the bound and
//!   no pushed-out event is in two senders' `dropped`.
//! - Eviction: a sender raises `evicting`, takes the oldest run, adds its loss to `evicted`, lowers
//!   `evicting`. The receiver takes a run and then waits for `evicting` to be 0. All four and the
//!   queue's own head are `SeqCst`: if the sender's run left the queue before the receiver's, the
//!   receiver sees `evicting` raised or the loss already in `evicted`. So no gap goes unannounced.
//!   A receiver that passed that wait just before a sender began may pay debt on which the sender
//!   counted, and so may another sender that evicts at the same time: then the sender's run is
//!   lost in full although part of it would have fitted. Such events are counted and announced as
//!   any other loss, but are in no sender's `dropped`.
//! - `marked` is cleared by the receiver *before* it takes and set by a sender *after* it pushed
//!   (both `AcqRel`): a push is taken by this drain or its sender marks for the next.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use super::run::Run;

/// Names a connection for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Where a connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The thread that owns the socket.
    pub home: u32,
    /// The connection's place among those of its thread.
    pub slot: u32,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The run is in the ring.
    Queued {
        /// Older events that it pushed out, and events of its own that found no room.
        dropped: u32,
        /// Nothing was waiting to be flushed: the connection goes on its thread's dirty list.
        mark: bool,
    },
    /// The connection is gone; the subscriber can be forgotten.
    Closed,
}

/// Live events that left the ring, one at least.
#[derive(Debug)]
pub struct Taken {
    /// The run.
    pub run: Arc<Run>,
    /// How many of its first events are not to be delivered: they were pushed out.
    pub skip: usize,
    /// Events lost since the last one delivered, these included. To be announced first.
    pub lost: u64,
}

/// Places in a ring over its bound in events.
const RING_PLACES_SPARE: usize = super::RUN_EVENTS_LIMIT;

#[derive(Debug)]
struct Outbox {
    id: ConnectionId,
    address: Address,
    ring_events_max: u32,
    /// Any overflow is marked, also while the receiver has stopped taking.
    overflow_marks: bool,
    closed: AtomicBool,
    marked: AtomicBool,
    overflowed: AtomicBool,
    /// The longest run ever pushed, in events. Only grows.
    longest: AtomicU32,
    evicting: AtomicU32,
    evicted: AtomicU64,
    /// `live` in the low half, `debt` in the high half.
    state: AtomicU64,
    /// Made at the first event: an idle subscriber has none. Boxed: the queue pads its ends to whole cache lines, 384 bytes that an idle one saves.
    ring: OnceLock<Box<ArrayQueue<Arc<Run>>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    live: u32,
    debt: u32,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low_half(word: u64) -> u32 {
    word as u32
}

impl State {
    fn unpack(word: u64) -> Self {
        Self {
            live: low_half(word),
            debt: low_half(word >> 32),
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.live) | u64::from(self.debt) << 32
    }
}

impl Outbox {
    /// Changes `state` by `change`, which returns the new value and a result.
    fn update<R>(&self, change: impl Fn(State) -> (State, R)) -> R {
        let mut seen = self.state.load(Ordering::Acquire);
        loop {
            let (next, result) = change(State::unpack(seen));
            match self.state.compare_exchange_weak(
                seen,
                next.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return result,
                Err(now) => seen = now,
            }
        }
    }

    /// Books `events` that left the queue: first against the debt, the rest off `live`. Returns
    /// how many of them the debt had already written off.
    fn settle(&self, events: u32) -> u32 {
        self.update(|State { live, debt }| {
            let skip = debt.min(events);
            let next = State {
                live: live.saturating_sub(events - skip),
                debt: debt - skip,
            };
            (next, skip)
        })
    }

    /// Whether `debt` is no less than the run in front, whichever that is.
    fn covers_oldest(&self, debt: u32) -> bool {
        debt >= self.longest.load(Ordering::SeqCst)
    }

    fn ring(&self) -> &ArrayQueue<Arc<Run>> {
        self.ring.get_or_init(|| {
            // A place for each live event, and some for the debt that senders do not evict yet.
            // A run has one event at least, so it takes many senders at once to fill the queue.
            Box::new(ArrayQueue::new(
                self.ring_events_max as usize + RING_PLACES_SPARE,
            ))
        })
    }

    /// Does `evict` as the module's header says.
    fn evicting(&self, evict: impl FnOnce()) {
        self.evicting.fetch_add(1, Ordering::SeqCst);
        evict();
        self.evicting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Books a run that a sender removed from the front: all of it is lost.
    fn write_off(&self, run: &Run) {
        let events = events_of(run);
        self.settle(events);
        self.evicted.fetch_add(u64::from(events), Ordering::SeqCst);
        run.counters().count_dropped(u64::from(events));
    }
}

fn events_of(run: &Run) -> u32 {
    u32::try_from(run.events()).unwrap_or(u32::MAX)
}

/// Makes the outbox of one connection: a sender to be cloned into subscriber lists, and the
/// receiver for the connection's thread. `ring_events_max` is at least 1. With `overflow_marks`
/// the first overflow is marked even while an earlier mark stands.
pub fn outbox(
    id: ConnectionId,
    address: Address,
    ring_events_max: u32,
    overflow_marks: bool,
) -> (OutboxSender, OutboxReceiver) {
    let shared = Arc::new(Outbox {
        id,
        address,
        ring_events_max: ring_events_max.max(1),
        overflow_marks,
        closed: AtomicBool::new(false),
        marked: AtomicBool::new(false),
        overflowed: AtomicBool::new(false),
        longest: AtomicU32::new(1),
        evicting: AtomicU32::new(0),
        evicted: AtomicU64::new(0),
        state: AtomicU64::new(0),
        ring: OnceLock::new(),
    });
    (OutboxSender(Arc::clone(&shared)), OutboxReceiver(shared))
}

/// The right to push, held by shards.
#[derive(Debug, Clone)]
pub struct OutboxSender(Arc<Outbox>);

impl OutboxSender {
    /// The connection behind it.
    pub fn id(&self) -> ConnectionId {
        self.0.id
    }

    /// Where that connection lives.
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Puts `run` on the ring; see the module for what happens when it is full.
    pub fn push(&self, run: &Arc<Run>) -> Pushed {
        let outbox = &*self.0;
        // Relaxed: a push that misses the closing here looks again at its end.
        if outbox.closed.load(Ordering::Relaxed) {
            return Pushed::Closed;
        }
        let events = events_of(run);
        if outbox.longest.load(Ordering::Relaxed) < events {
            outbox.longest.fetch_max(events, Ordering::SeqCst);
        }
        let (dropped, debt) = outbox.update(|State { live, debt }| {
            let wanted = live.saturating_add(events);
            let kept = wanted.min(outbox.ring_events_max);
            let dropped = wanted - kept;
            let debt = debt.saturating_add(dropped);
            (State { live: kept, debt }, (dropped, debt))
        });
        let ring = outbox.ring();
        if let Err(run) = ring.push(Arc::clone(run)) {
            outbox.evicting(|| {
                if let Some(oldest) = ring.force_push(run) {
                    outbox.write_off(&oldest);
                }
            });
        }
        if debt > 0 && outbox.covers_oldest(debt) {
            outbox.evicting(|| {
                // Looked at again: the receiver may have paid the debt in between. All that is
                // covered goes: one run for each push would let long runs take the places of
                // short ones, and keep as many of them.
                while outbox.covers_oldest(State::unpack(outbox.state.load(Ordering::SeqCst)).debt)
                    && let Some(oldest) = ring.pop()
                {
                    outbox.write_off(&oldest);
                }
            });
        }
        // SeqCst: pairs with `close`. Either the receiver's last takes see this push, or this sees
        // the closing and writes off what nobody takes any more.
        if outbox.closed.load(Ordering::SeqCst) {
            outbox.evicting(|| {
                while let Some(run) = ring.pop() {
                    outbox.write_off(&run);
                }
            });
        }
        let overflow =
            dropped > 0 && outbox.overflow_marks && !outbox.overflowed.swap(true, Ordering::AcqRel);
        // AcqRel: pairs with `OutboxReceiver::unmark`.
        let mark = !outbox.marked.swap(true, Ordering::AcqRel) || overflow;
        Pushed::Queued { dropped, mark }
    }
}

/// The right to take, held by the connection's thread.
#[derive(Debug)]
pub struct OutboxReceiver(Arc<Outbox>);

impl OutboxReceiver {
    /// The connection behind it.
    pub fn id(&self) -> ConnectionId {
        self.0.id
    }

    /// Where that connection lives.
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Another right to push, for a request to a shard.
    pub fn sender(&self) -> OutboxSender {
        OutboxSender(Arc::clone(&self.0))
    }

    /// Rights to push that are held somewhere.
    #[cfg(test)]
    pub(crate) fn senders(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Says that a drain begins: pushes from here on mark the connection again.
    pub fn unmark(&self) {
        self.0.marked.swap(false, Ordering::AcqRel);
    }

    /// Takes the oldest run that has an event to deliver.
    pub fn take(&self) -> Option<Taken> {
        let outbox = &*self.0;
        let ring = outbox.ring.get()?;
        loop {
            let run = ring.pop()?;
            // A sender between raising and lowering `evicting` has a few instructions to go, as
            // has a sender inside the queue itself, for which `pop` waits in the same way.
            let mut spins = 0_u32;
            while outbox.evicting.load(Ordering::SeqCst) != 0 {
                spins += 1;
                if spins.is_multiple_of(64) {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
            let events = events_of(&run);
            let skip = outbox.settle(events);
            if skip > 0 {
                run.counters().count_dropped(u64::from(skip));
            }
            if skip == events {
                // Nothing of it is left: it is announced with what comes after it.
                outbox.evicted.fetch_add(u64::from(skip), Ordering::SeqCst);
                continue;
            }
            let evicted = match outbox.evicted.load(Ordering::SeqCst) {
                0 => 0,
                _ => outbox.evicted.swap(0, Ordering::SeqCst),
            };
            return Some(Taken {
                run,
                skip: skip as usize,
                lost: evicted + u64::from(skip),
            });
        }
    }

    /// Events lost and not announced yet, and not in any run that [`Self::take`] will return. For a connection that ends at its first overflow.
    pub fn take_lost(&self) -> u64 {
        self.0.evicted.swap(0, Ordering::SeqCst)
    }

    /// Whether an event was ever pushed out; only known where the outbox was made to mark overflows.
    pub fn overflowed(&self) -> bool {
        self.0.overflowed.load(Ordering::Acquire)
    }

    /// Runs in the ring now.
    pub fn runs(&self) -> usize {
        self.0.ring.get().map_or(0, |ring| ring.len())
    }

    /// Ends the outbox: later pushes find it closed. What is still in the ring is to be taken and
    /// counted by the caller; a push that comes later still counts its own events as dropped.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::Stamp;
    use super::*;

    const STAMP: Stamp = Stamp {
        shard: 0,
        serial: 1,
    };

    fn run_of(name: u8, events: usize) -> Arc<Run> {
        let ends: Vec<u32> = (1..=u32::try_from(events).expect("a small test")).collect();
        Arc::new(Run::new(vec![name; events], &ends, Arc::default(), STAMP))
    }

    fn small(ring_events_max: u32) -> (OutboxSender, OutboxReceiver) {
        outbox(
            ConnectionId(1),
            Address { home: 0, slot: 0 },
            ring_events_max,
            false,
        )
    }

    fn dropped(pushed: Pushed) -> u32 {
        match pushed {
            Pushed::Queued { dropped, .. } => dropped,
            Pushed::Closed => panic!("the outbox is open"),
        }
    }

    /// First byte of the next run, what to skip of it, what was lost before.
    fn take(receiver: &OutboxReceiver) -> (u8, usize, u64) {
        match receiver.take() {
            Some(Taken { run, skip, lost }) => (run.frames()[0], skip, lost),
            None => panic!("a run was expected"),
        }
    }

    fn drain(receiver: &OutboxReceiver, got: &mut u64, lost: &mut u64) {
        while let Some(Taken {
            run,
            skip,
            lost: more,
        }) = receiver.take()
        {
            *got += (run.events() - skip) as u64;
            *lost += more;
        }
    }

    #[test]
    fn an_empty_outbox_has_no_ring() {
        let (_sender, receiver) = small(4);
        assert!(receiver.take().is_none());
        assert!(receiver.0.ring.get().is_none());
    }

    #[test]
    fn the_oldest_falls_out_and_is_announced_with_the_next() {
        let (sender, receiver) = small(2);
        let drops: Vec<_> = (0..5)
            .map(|i| dropped(sender.push(&run_of(i, 1))))
            .collect();
        assert_eq!(drops, [0, 0, 1, 1, 1]);
        let first = take(&receiver);
        assert_eq!(first, (3, 0, 3));
        let second = take(&receiver);
        assert_eq!(second, (4, 0, 0));
        assert!(receiver.take().is_none());
    }

    #[test]
    fn part_of_a_run_falls_out() {
        let (sender, receiver) = small(4);
        sender.push(&run_of(0, 3));
        assert_eq!(dropped(sender.push(&run_of(1, 3))), 2);
        let first = take(&receiver);
        assert_eq!(first, (0, 2, 2));
        let second = take(&receiver);
        assert_eq!(second, (1, 0, 0));
    }

    #[test]
    fn a_run_longer_than_the_ring_keeps_its_newest() {
        let (sender, receiver) = small(4);
        assert_eq!(dropped(sender.push(&run_of(0, 7))), 3);
        let only = take(&receiver);
        assert_eq!(only, (0, 3, 3));
        assert_eq!(dropped(sender.push(&run_of(1, 4))), 0);
    }

    #[test]
    fn a_ring_that_nobody_reads_holds_its_bound_and_one_longest_run() {
        let (sender, receiver) = small(10);
        for i in 0..10_000_usize {
            sender.push(&run_of(0, 1 + i % 7));
            let ring = receiver.0.ring.get().expect("made at the first push");
            assert!(ring.len() <= 10 + 7);
        }
    }

    #[test]
    fn runs_that_fell_out_whole_are_announced_together() {
        let (sender, receiver) = small(2);
        sender.push(&run_of(0, 5));
        for name in 1..6 {
            sender.push(&run_of(name, 1));
        }
        assert_eq!(take(&receiver), (4, 0, 8));
        assert_eq!(take(&receiver), (5, 0, 0));
        assert!(receiver.take().is_none());
    }

    #[test]
    fn long_runs_do_not_take_the_places_of_short_ones() {
        let (sender, receiver) = small(8);
        (0..8).for_each(|_| assert_eq!(dropped(sender.push(&run_of(0, 1))), 0));
        (0..20).for_each(|_| assert_eq!(dropped(sender.push(&run_of(0, 4))), 4));
        assert!(receiver.runs() <= 3, "{} runs", receiver.runs());
    }

    #[test]
    fn one_mark_for_each_drain() {
        let (sender, receiver) = small(4);
        let mark = |pushed| matches!(pushed, Pushed::Queued { mark: true, .. });
        assert!(mark(sender.push(&run_of(0, 1))));
        assert!(!mark(sender.push(&run_of(0, 1))));
        receiver.unmark();
        assert!(mark(sender.push(&run_of(0, 1))));
    }

    #[test]
    fn a_closed_outbox_takes_nothing() {
        let (sender, receiver) = small(4);
        receiver.close();
        assert_eq!(sender.push(&run_of(0, 1)), Pushed::Closed);
    }

    /// Whatever a sender gets in while the receiver closes is taken by the one or written off by
    /// the other.
    #[test]
    fn nothing_is_left_in_a_ring_that_was_closed_during_a_push() {
        for round in 0..2000_usize {
            let (sender, receiver) = small(16);
            let counters: Arc<crate::broker::topic::TopicCounters> = Arc::default();
            let run = Arc::new(Run::new(vec![0], &[1], Arc::clone(&counters), STAMP));
            let start = std::sync::Barrier::new(2);
            let (queued, mut taken, mut lost) = std::thread::scope(|scope| {
                let pushing = scope.spawn(|| {
                    start.wait();
                    (0..1000_u64)
                        .take_while(|_| sender.push(&run) != Pushed::Closed)
                        .count() as u64
                });
                start.wait();
                (0..round).for_each(|_| std::hint::spin_loop());
                receiver.close();
                let (mut taken, mut lost) = (0, 0);
                drain(&receiver, &mut taken, &mut lost);
                (pushing.join().expect("it does not panic"), taken, lost)
            });
            assert!(receiver.take().is_none(), "left behind in round {round}");
            drain(&receiver, &mut taken, &mut lost);
            assert_eq!(queued, taken + counters.dropped());
        }
    }

    /// Four senders and a receiver that stops now and then: every event is taken or announced,
    /// once, and the order of each sender holds.
    #[test]
    fn nothing_is_lost_without_being_counted() {
        const SENDERS: u32 = 4;
        const RUNS: u32 = 20_000;
        let (sender, receiver) = small(16);
        let (pushed, dropped_by_senders) = std::thread::scope(|scope| {
            let pushing: Vec<_> = (0..SENDERS)
                .map(|s| {
                    let sender = sender.clone();
                    scope.spawn(move || {
                        let mut total = (0_u64, 0_u64);
                        for i in 0..RUNS {
                            let events = 1 + (i * 7 + s) as usize % 5;
                            total.0 += events as u64;
                            total.1 += u64::from(dropped(sender.push(&run_of(0, events))));
                        }
                        total
                    })
                })
                .collect();
            let taking = scope.spawn(|| {
                let (mut got, mut lost) = (0_u64, 0_u64);
                let mut turns = 0_u32;
                while !pushing
                    .iter()
                    .all(std::thread::ScopedJoinHandle::is_finished)
                {
                    turns += 1;
                    if turns.is_multiple_of(3) {
                        std::thread::yield_now();
                    }
                    drain(&receiver, &mut got, &mut lost);
                }
                drain(&receiver, &mut got, &mut lost);
                (got, lost + receiver.take_lost(), pushing)
            });
            let (got, lost, pushing) = taking.join().expect("the receiver does not panic");
            let sums = pushing
                .into_iter()
                .map(|p| p.join().expect("no sender panics"))
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            ((sums.0, got, lost), sums.1)
        });
        let (sent, got, lost) = pushed;
        assert_eq!(sent, got + lost);
        assert!(lost >= dropped_by_senders);
        assert_eq!(
            State::unpack(receiver.0.state.load(Ordering::SeqCst)),
            State { live: 0, debt: 0 }
        );
    }
}
