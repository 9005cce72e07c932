//! The thread that connections live on: their table, their mail, their time.
//!
//! Everything here belongs to one thread. Other threads reach it through its [`Mailbox`] alone.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_queue::SegQueue;
use tokio::sync::oneshot;

use super::Connection;
use super::deadlines::{Deadlines, TICK, Tick, ticks};
use super::outgoing::Spare;
use crate::broker::Broker;
use crate::broker::inbox::Bell;
use crate::broker::outbox::{Address, ConnectionId, Taken, outbox};
use crate::broker::request::Delivery;
use crate::config::Config;
use crate::config::values::SlowConsumerPolicy;
use crate::metrics::{HomeCounters, Metrics};
use crate::protocol::frame::Timestamp;
use crate::seats::Seats;

/// Bytes read from one socket in one call.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// An unfinished frame up to this size is copied in front of the next read. A larger one gets a
/// buffer of its own, so that a slow sender of large frames does not make the thread copy.
pub(crate) const CARRY_BYTES_SMALL: usize = 4 * 1024;

/// What other threads send to a thread.
#[derive(Debug)]
pub enum Letter {
    /// What a shard has for the connections of this thread.
    Delivery(Delivery),
    /// A new socket.
    Socket(std::net::TcpStream),
    /// Tell every connection that the server is shutting down, and take no new commands.
    Drain(oneshot::Sender<()>),
    /// Close every connection once its ring is flushed; answer when none is left.
    Finish(oneshot::Sender<()>),
}

/// The way to one thread. Bounded by its senders: a shard has one unflushed turn under way, and
/// sockets are bounded by the limit on connections.
#[derive(Debug, Default)]
pub struct Mailbox {
    letters: SegQueue<Letter>,
    bell: Arc<Bell>,
    /// Deliveries of each shard that are not flushed yet, by the shard's index.
    unflushed: Box<[AtomicUsize]>,
    /// The shard of this thread waits for another thread to flush.
    is_shard_blocked: AtomicBool,
}

impl Mailbox {
    /// A mailbox of a thread among `threads` that rings `bell`.
    pub fn new(threads: usize, bell: Arc<Bell>) -> Self {
        Self {
            bell,
            unflushed: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
            ..Self::default()
        }
    }

    /// Leaves a letter and wakes the thread.
    pub fn send(&self, letter: Letter) {
        if let Letter::Delivery(delivery) = &letter
            && let Some(unflushed) = self.unflushed.get(delivery.shard)
        {
            unflushed.fetch_add(1, Ordering::SeqCst);
        }
        self.letters.push(letter);
        self.bell.ring();
    }

    /// Whether the thread has still to flush something of `shard`.
    fn owes(&self, shard: usize) -> bool {
        self.unflushed
            .get(shard)
            .is_some_and(|unflushed| unflushed.load(Ordering::SeqCst) > 0)
    }
}

/// What all threads share.
#[derive(Debug)]
pub struct Process {
    /// The settings.
    pub config: Config,
    /// The way to the shards.
    pub broker: Broker,
    /// All counters.
    pub metrics: Metrics,
    /// One mailbox for each thread.
    pub mailboxes: Box<[Mailbox]>,
    /// The server has begun to shut down.
    pub draining: AtomicBool,
    /// When the server started.
    pub started: Instant,
    /// The room for WebSocket connections.
    pub seats: Seats,
    /// Messages of one connection that are handed to a shard together, at most.
    pub batch_messages_max: usize,
    /// Topics in all shards.
    pub topics_total: Arc<AtomicUsize>,
}

/// One thread's connections. See the module.
#[derive(Debug)]
pub struct Home {
    pub(crate) index: usize,
    pub(crate) process: Arc<Process>,
    pub(crate) counters: Arc<HomeCounters>,
    connections: RefCell<Vec<Option<Rc<Connection>>>>,
    free: RefCell<Vec<u32>>,
    /// Connections to be flushed.
    ready: RefCell<Vec<Rc<Connection>>>,
    /// Shards whose deliveries wait for that flush.
    owed: RefCell<Vec<usize>>,
    deadlines: RefCell<Deadlines>,
    pub(crate) read_buffer: RefCell<Vec<u8>>,
    pub(crate) popped: RefCell<Vec<Taken>>,
    pub(crate) spare: RefCell<Spare>,
    stamp: Cell<(u64, Timestamp)>,
    started: Instant,
    connections_made: Cell<u64>,
    pub(crate) draining: Cell<bool>,
    pub(crate) finishing: RefCell<Option<oneshot::Sender<()>>>,
}

impl Home {
    /// Thread `index` of `process`.
    pub fn new(index: usize, process: Arc<Process>) -> Rc<Self> {
        let counters = process
            .metrics
            .homes
            .get(index)
            .map(Arc::clone)
            .unwrap_or_default();
        Rc::new(Self {
            index,
            process,
            counters,
            connections: RefCell::default(),
            free: RefCell::default(),
            ready: RefCell::default(),
            owed: RefCell::default(),
            deadlines: RefCell::new(Deadlines::new()),
            read_buffer: RefCell::new(vec![0; READ_BYTES + CARRY_BYTES_SMALL]),
            popped: RefCell::default(),
            spare: RefCell::default(),
            stamp: Cell::new((0, Timestamp::from_unix_ms(0))),
            started: Instant::now(),
            connections_made: Cell::new(0),
            draining: Cell::new(false),
            finishing: RefCell::new(None),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.process.config
    }

    /// This thread's mailbox.
    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.process.mailboxes[self.index]
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

    /// The time of all deadlines: the last tick.
    pub(crate) fn tick(&self) -> Tick {
        self.deadlines.borrow().now()
    }

    /// Turns the wheel to the present and gives each connection that is due to `handle`.
    pub(crate) fn turn_deadlines(&self, handle: impl Fn(&Rc<Connection>)) {
        let elapsed = self.started.elapsed().as_millis() / TICK.as_millis();
        let mut due = Vec::new();
        self.deadlines
            .borrow_mut()
            .turn(Tick::try_from(elapsed).unwrap_or(Tick::MAX), &mut due);
        for (at, slot) in due {
            if let Some(connection) = self.connection(slot)
                && connection.due.get() == at
            {
                handle(&connection);
            }
        }
    }

    /// Looks at `connection` at tick `at`, unless it is looked at before.
    pub(crate) fn wake_at(&self, connection: &Connection, at: Tick) {
        let mut deadlines = self.deadlines.borrow_mut();
        let at = at.max(deadlines.now().saturating_add(1));
        let due = connection.due.get();
        if due <= deadlines.now() || at < due {
            connection.due.set(at);
            deadlines.insert(at, connection.outbox.address().slot);
        }
    }

    /// Adds a connection to the table, around a socket that has been upgraded.
    pub(crate) fn adopt(&self, make: impl FnOnce(super::Birth) -> Connection) -> Rc<Connection> {
        let mut connections = self.connections.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            connections.push(None);
            u32::try_from(connections.len() - 1).expect("fewer connections than file descriptors")
        });
        let serial = self.connections_made.get() + 1;
        self.connections_made.set(serial);
        // The thread in the high bits: no two threads make the same id.
        let id = ConnectionId((self.index as u64) << 48 | serial);
        let address = Address {
            home: u32::try_from(self.index).unwrap_or(u32::MAX),
            slot,
        };
        let config = self.config();
        let marks = config.slow_consumer_policy == SlowConsumerPolicy::Disconnect;
        let ring_events_max = u32::try_from(config.ring_messages_max).unwrap_or(u32::MAX);
        let (_, outbox) = outbox(id, address, ring_events_max, marks);
        let connection = Rc::new(make(super::Birth {
            outbox,
            tick: self.deadlines.borrow().now(),
        }));
        connections[slot as usize] = Some(Rc::clone(&connection));
        self.counters.connections.add(1);
        connection
    }

    /// Takes a connection out of the table.
    pub(crate) fn release(&self, connection: &Connection) {
        let slot = connection.outbox.address().slot;
        if let Some(place) = self.connections.borrow_mut().get_mut(slot as usize)
            && place.take().is_some()
        {
            self.free.borrow_mut().push(slot);
            self.counters.connections.sub(1);
        }
        self.finish_if_empty();
    }

    pub(crate) fn connection(&self, slot: u32) -> Option<Rc<Connection>> {
        self.connections
            .borrow()
            .get(slot as usize)
            .cloned()
            .flatten()
    }

    /// The connection behind an address, if it still is the one with `id`.
    pub(crate) fn find(&self, id: ConnectionId, address: Address) -> Option<Rc<Connection>> {
        self.connection(address.slot)
            .filter(|connection| connection.outbox.id() == id)
    }

    /// Every connection.
    pub(crate) fn all(&self) -> Vec<Rc<Connection>> {
        self.connections
            .borrow()
            .iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Remembers to flush `connection`.
    pub(crate) fn make_ready(&self, connection: &Rc<Connection>) {
        if !connection.ready.replace(true) {
            self.ready.borrow_mut().push(Rc::clone(connection));
        }
    }

    pub(crate) fn take_ready(&self) -> Vec<Rc<Connection>> {
        std::mem::take(&mut self.ready.borrow_mut())
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    /// Notes that a delivery of `shard` has come in and its connections are ready.
    pub(crate) fn owe(&self, shard: usize) {
        self.owed.borrow_mut().push(shard);
    }

    /// Deliveries that came in and are not settled.
    pub(crate) fn owed(&self) -> usize {
        self.owed.borrow().len()
    }

    /// All that the first `count` deliveries made ready has been flushed: their shards may go on.
    pub(crate) fn settle(&self, count: usize) {
        for shard in self.owed.borrow_mut().drain(..count) {
            if let Some(unflushed) = self.mailbox().unflushed.get(shard) {
                unflushed.fetch_sub(1, Ordering::SeqCst);
            }
            // SeqCst: pairs with `may_shard_turn`. Either that sees the count lowered above, or
            // this sees that it is blocked.
            if let Some(mailbox) = self.process.mailboxes.get(shard)
                && mailbox.is_shard_blocked.swap(false, Ordering::SeqCst)
            {
                mailbox.bell.ring();
            }
        }
    }

    /// Whether every thread has flushed what this thread's shard has sent it. A shard that runs
    /// ahead of the flushing would fill the rings of subscribers who take all they are given.
    pub(crate) fn may_shard_turn(&self) -> bool {
        let flushed = || {
            !self
                .process
                .mailboxes
                .iter()
                .any(|mailbox| mailbox.owes(self.index))
        };
        if flushed() {
            return true;
        }
        self.mailbox()
            .is_shard_blocked
            .store(true, Ordering::SeqCst);
        flushed()
    }

    pub(crate) fn next_letter(&self) -> Option<Letter> {
        self.mailbox().letters.pop()
    }

    /// Rings this thread's own bell: there is something to flush.
    pub(crate) fn ring(&self) {
        self.mailbox().bell.ring();
    }

    /// Answers [`Letter::Finish`] when the last connection has gone.
    pub(crate) fn finish_if_empty(&self) {
        let empty = self.connections.borrow().len() == self.free.borrow().len();
        if empty && let Some(finished) = self.finishing.borrow_mut().take() {
            finished.send(()).ok();
        }
    }

    /// The tick `duration` from now.
    pub(crate) fn after(&self, duration: std::time::Duration) -> Tick {
        self.tick().saturating_add(ticks(duration))
    }
}
