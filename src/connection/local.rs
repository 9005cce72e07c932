//! What a connection sees of the core that it lives on: the time, the settings, the shared read
//! buffer, and the lists on which it asks to be flushed, looked at or forgotten.
//!
//! Belongs to one thread. The core owns it, and works off the lists.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Connection;
use super::policies::Rests;
use super::timers::{Tick, Timers, ticks};
use crate::broker::inbox::Bell;
use crate::broker::ring::RingLimits;
use crate::budget::Kind;
use crate::config::Config;
use crate::metrics::CoreCounters;
use crate::process::Process;
use crate::protocol::time::{Moment, Timestamp};
use crate::protocol::websocket::deflate::{Deflater, Inflater};

/// Bytes read from one socket in one call. More for one read means fewer and larger sends: 32
/// messages of 4 KiB fit.
pub(crate) const READ_BYTES: usize = 192 * 1024;

/// An unfinished frame up to this size is copied in front of the next read. A larger one gets a
/// buffer of its own, so that a slow sender of large frames does not make the core copy.
pub(crate) const CARRY_BYTES_SMALL: usize = 4 * 1024;

/// Bytes that all connections together read before the core flushes, turns its shard and polls the
/// sockets again. At some nanoseconds a byte to parse, about a millisecond.
const ROUND_BYTES_MAX: usize = 256 * 1024;

/// What a connection takes beside its buffers: itself, its task, its places in lists.
const CONNECTION_BYTES: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Local {
    pub(crate) index: usize,
    pub(crate) process: Arc<Process>,
    pub(crate) counters: Arc<CoreCounters>,
    pub(crate) ring_limits: RingLimits,
    pub(crate) read_buffer: RefCell<Vec<u8>>,
    /// Made when a connection first needs them.
    pub(crate) deflater: RefCell<Option<Box<Deflater>>>,
    pub(crate) inflater: RefCell<Option<Box<Inflater>>>,
    bell: Arc<Bell>,
    /// Connections to be flushed.
    ready: RefCell<Vec<Rc<Connection>>>,
    /// Places in the core's table of connections that have ended.
    ended: RefCell<Vec<u32>>,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) rests: Rests,
    /// Bytes that may still be read in this round.
    round_bytes: Cell<usize>,
    /// Bytes of replies and of input that connections keep.
    replies: Cell<usize>,
    input: Cell<usize>,
    /// What of it is booked on the budget.
    booked: Cell<[usize; 3]>,
    stamp: Cell<(u64, Timestamp)>,
    /// When time was last looked at by the timers.
    pub(crate) looked: Cell<Instant>,
    pub(crate) is_draining: Cell<bool>,
    pub(crate) is_finishing: Cell<bool>,
}

impl Local {
    /// Core `index` of `process`, woken by `bell`.
    pub(crate) fn new(index: usize, process: Arc<Process>, bell: Arc<Bell>) -> Rc<Self> {
        let counters = process.metrics.core(index);
        let config = &process.config;
        let ring_limits = RingLimits {
            events_max: config.ring_messages_max,
            bytes_max: config.ring_bytes_max,
        };
        Rc::new(Self {
            index,
            process,
            counters,
            ring_limits,
            read_buffer: RefCell::new(vec![0; READ_BYTES + CARRY_BYTES_SMALL]),
            deflater: RefCell::default(),
            inflater: RefCell::default(),
            bell,
            ready: RefCell::default(),
            ended: RefCell::default(),
            timers: RefCell::new(Timers::new()),
            rests: Rests::default(),
            round_bytes: Cell::new(ROUND_BYTES_MAX),
            replies: Cell::new(0),
            input: Cell::new(0),
            booked: Cell::new([0; 3]),
            stamp: Cell::new((0, Timestamp::from_unix_ms(0))),
            looked: Cell::new(Instant::now()),
            is_draining: Cell::new(false),
            is_finishing: Cell::new(false),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.process.config
    }

    /// The time, to the millisecond, as clients see it.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let (at, stamp) = self.stamp.get();
        if at == ms {
            return stamp;
        }
        let stamp = Timestamp::from_unix_ms(ms);
        self.stamp.set((ms, stamp));
        stamp
    }

    /// The time by which latency is measured.
    pub(crate) fn moment(&self) -> Moment {
        Moment::at(self.elapsed())
    }

    /// Since the start of the process.
    pub(crate) fn elapsed(&self) -> Duration {
        self.process.started.elapsed()
    }

    /// Microseconds since the start of the process.
    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the start of the process.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The time of all deadlines: ticks in which the core was alive and looking.
    pub(crate) fn tick(&self) -> Tick {
        self.timers.borrow().now()
    }

    /// The tick by which `duration` from now has surely passed.
    pub(crate) fn after(&self, duration: Duration) -> Tick {
        // The present tick has begun already.
        self.tick()
            .saturating_add(ticks(duration))
            .saturating_add(1)
    }

    /// Looks at `connection` at tick `at`, unless it is looked at before.
    pub(crate) fn wake_at(&self, connection: &Connection, at: Tick) {
        let mut timers = self.timers.borrow_mut();
        let at = at.max(timers.now().saturating_add(1));
        let due = connection.due.get();
        if due <= timers.now() || at < due {
            connection.due.set(at);
            timers.insert(at, connection.slot());
        }
    }

    /// Remembers to flush `connection`.
    pub(crate) fn make_ready(&self, connection: &Rc<Connection>) {
        if !connection.is_ready.replace(true) {
            self.ready.borrow_mut().push(Rc::clone(connection));
        }
    }

    /// Moves the connections to be flushed into `into`, which is empty.
    pub(crate) fn take_ready(&self, into: &mut Vec<Rc<Connection>>) {
        std::mem::swap(&mut *self.ready.borrow_mut(), into);
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    /// Wakes this core's own loop: there is something to do.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// Notes that the connection at `slot` has ended.
    pub(crate) fn forget(&self, slot: u32) {
        self.ended.borrow_mut().push(slot);
        self.counters.connections.sub(1);
        self.ring();
    }

    pub(crate) fn take_ended(&self) -> Vec<u32> {
        std::mem::take(&mut self.ended.borrow_mut())
    }

    /// A round begins: every connection may read again.
    pub(crate) fn begin_round(&self) {
        self.round_bytes.set(ROUND_BYTES_MAX);
    }

    /// Whether a connection may read in this round.
    pub(crate) fn may_read(&self) -> bool {
        self.round_bytes.get() > 0
    }

    /// Counts what was read.
    pub(crate) fn has_read(&self, bytes: usize) {
        let left = self.round_bytes.get();
        self.round_bytes.set(left.saturating_sub(bytes));
    }

    /// Replaces what a connection has counted as kept for it.
    pub(crate) fn keep(&self, before: [usize; 2], now: [usize; 2]) {
        let change = |cell: &Cell<usize>, before: usize, now: usize| {
            cell.set((cell.get() + now).saturating_sub(before));
        };
        change(&self.replies, before[0], now[0]);
        change(&self.input, before[1], now[1]);
    }

    /// Books on the budget what connections keep, once for all that has changed.
    pub(crate) fn book(&self) {
        let connections = usize::try_from(self.counters.connections.value()).unwrap_or(0);
        let kept = [
            self.replies.get(),
            self.input.get(),
            connections * CONNECTION_BYTES + self.rests.bytes(),
        ];
        let booked = self.booked.replace(kept);
        if kept == booked {
            return;
        }
        let kinds = [Kind::Replies, Kind::Input, Kind::Connections];
        for ((kind, now), before) in kinds.into_iter().zip(kept).zip(booked) {
            let budget = &self.process.budget;
            if now > before {
                budget.book(self.index, kind, now - before);
            } else {
                budget.release(self.index, kind, before - now);
            }
        }
    }
}
