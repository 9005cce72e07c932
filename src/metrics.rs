//! Counters, written by the core that owns them and read by anyone.
//!
//! Everything is relaxed: a reader sees each counter at some recent moment, not all at the same
//! one. At rest `offered = delivered + skipped + dropped + discarded + queued` holds exactly.

use std::sync::atomic::{AtomicU64, Ordering};

mod histogram;

pub use histogram::{Histogram, Tally};

/// Bounds of [`CoreCounters::latency`], in microseconds: from what one turn takes to what
/// `WRITE_WAIT_SEC` lets a socket wait.
const LATENCY_BOUNDS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Bounds of [`CoreCounters::flush_sends`] and [`CoreCounters::lag`]: the powers of two.
const COUNT_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

/// A number that only grows, or a gauge that its owner moves both ways.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Log lines that could not be written, or did not fit. Of the process, as the log is.
pub static LOG_LINES_DROPPED: Counter = Counter(AtomicU64::new(0));

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a figure that no other core writes.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Adds `n` to a counter that no other core writes: a plain load and store, no locked one.
    pub fn add_owned(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Takes `n` away; for gauges.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard has done since the start, deleted topics included.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Messages accepted: sequenced, kept and offered.
    pub accepted: Counter,
    /// Payload bytes of those messages.
    pub bytes_in: Counter,
    /// Events offered to rings: for each message the subscribers at that moment.
    pub offered: Counter,
    /// Bytes of frames of those events.
    pub bytes_out: Counter,
    /// Events pushed out of a full ring.
    pub dropped: Counter,
    /// Bytes that histories keep.
    pub history_bytes: Counter,
    /// Times that a history came to keep less than it may: for want of memory, or because it was restored so.
    pub cut: Counter,
    /// 1 while the budget is used up and nothing can give way.
    pub refusing: Counter,
}

/// What one topic has done since it was created. Written by its shard, but for `dropped`.
#[derive(Debug, Default)]
pub struct TopicCounters {
    /// Messages accepted: the sequence number of the newest.
    pub accepted: Counter,
    /// Payload bytes of those messages.
    pub bytes_in: Counter,
    /// Bytes of event frames offered to subscribers.
    pub bytes_out: Counter,
    /// Bytes that its history keeps.
    pub history_bytes: Counter,
    /// Events pushed out of a full ring; counted by the core that saw them go.
    pub dropped: Counter,
}

/// What one core's connections have done since the start.
#[derive(Debug)]
pub struct CoreCounters {
    /// WebSocket connections open now.
    pub connections: Counter,
    /// Of those, the ones with a subscription.
    pub subscribers: Counter,
    /// Sockets that speak HTTP now, those that wait to be picked up included.
    pub requesting: Counter,
    /// Live events handed to the kernel in full.
    pub delivered: Counter,
    /// Live events that were queued for a connection when it ended.
    pub discarded: Counter,
    /// Live events that were not sent because a newer one of the topic was wanted in their place.
    pub skipped: Counter,
    /// Sends to a socket: what one flush has for one connection.
    pub sends: Counter,
    /// System calls that carried them; one for many with `io_uring`.
    pub flush_calls: Counter,
    /// 1 where one system call carries all sends of a flush.
    pub io_uring: Counter,
    /// Connections ended because their socket took nothing for `WRITE_WAIT_SEC`, or because of
    /// `SLOW_CONSUMER_POLICY=disconnect`.
    pub slow_disconnects: Counter,
    /// Microseconds from when a message was read to when the kernel took the event, of each live
    /// event delivered.
    pub latency: Histogram,
    /// Sends of each batch that went to the kernel together.
    pub flush_sends: Histogram,
    /// Events that a connection's flush left waiting, of each that left any.
    pub lag: Histogram,
}

impl Default for CoreCounters {
    fn default() -> Self {
        Self {
            connections: Counter::default(),
            subscribers: Counter::default(),
            requesting: Counter::default(),
            delivered: Counter::default(),
            discarded: Counter::default(),
            skipped: Counter::default(),
            sends: Counter::default(),
            flush_calls: Counter::default(),
            io_uring: Counter::default(),
            slow_disconnects: Counter::default(),
            latency: Histogram::new(LATENCY_BOUNDS),
            flush_sends: Histogram::new(COUNT_BOUNDS),
            lag: Histogram::new(COUNT_BOUNDS),
        }
    }
}

impl CoreCounters {
    /// Sockets open now.
    pub fn sockets(&self) -> u64 {
        self.requesting.value() + self.connections.value()
    }
}

/// What the handshakes of TLS came to.
#[derive(Debug, Default)]
pub struct TlsCounters {
    /// Under way.
    pub shaking: Counter,
    /// Done.
    pub handshakes: Counter,
    /// Given up: no TLS, no certificate that is taken, too slow, gone.
    pub failures: Counter,
}

/// All counters of a process.
#[derive(Debug)]
pub struct Metrics {
    /// Of handshakes, which have threads of their own.
    pub tls: TlsCounters,
    /// One for each shard.
    pub shards: Box<[std::sync::Arc<ShardCounters>]>,
    /// One for each core.
    pub cores: Box<[std::sync::Arc<CoreCounters>]>,
}

impl Metrics {
    /// Counters for `cores` cores, all zero.
    pub fn new(cores: usize) -> Self {
        Self {
            tls: TlsCounters::default(),
            shards: (0..cores).map(|_| std::sync::Arc::default()).collect(),
            cores: (0..cores).map(|_| std::sync::Arc::default()).collect(),
        }
    }

    /// The counters of one shard.
    pub fn shard(&self, index: usize) -> std::sync::Arc<ShardCounters> {
        self.shards
            .get(index)
            .map(std::sync::Arc::clone)
            .unwrap_or_default()
    }

    /// The counters of one core.
    pub fn core(&self, index: usize) -> std::sync::Arc<CoreCounters> {
        self.cores
            .get(index)
            .map(std::sync::Arc::clone)
            .unwrap_or_default()
    }

    /// The sum of one counter over all shards.
    pub fn shard_sum(&self, counter: impl Fn(&ShardCounters) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(shard).value()).sum()
    }

    /// One histogram of all cores together.
    pub fn core_tally(&self, histogram: impl Fn(&CoreCounters) -> &Histogram) -> Tally {
        let mut tallies = self.cores.iter().map(|core| histogram(core).tally());
        let first = tallies.next();
        let first = first.unwrap_or_else(|| histogram(&CoreCounters::default()).tally());
        tallies.fold(first, |sum, tally| sum.plus(&tally))
    }

    /// The sum of one counter over all cores.
    pub fn core_sum(&self, counter: impl Fn(&CoreCounters) -> &Counter) -> u64 {
        self.cores.iter().map(|core| counter(core).value()).sum()
    }
}
