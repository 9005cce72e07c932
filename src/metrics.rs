//! Counters, written by the thread that owns them and read by anyone.
//!
//! Everything is relaxed: a reader sees each counter at some recent moment, not all at the same
//! one. At rest `offered = delivered + dropped + discarded + queued` holds exactly.

use std::sync::atomic::{AtomicU64, Ordering};

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

    /// Adds `n` to a counter that no other thread writes: a plain load and store, no locked one.
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
}

/// What one thread's connections have done since the start.
#[derive(Debug, Default)]
pub struct HomeCounters {
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
    /// Calls that wrote to a socket.
    pub writes: Counter,
    /// Connections ended because their socket took nothing for `WRITE_WAIT_SEC`, or because of
    /// `SLOW_CONSUMER_POLICY=disconnect`.
    pub slow_disconnects: Counter,
}

impl HomeCounters {
    /// Sockets open now.
    pub fn sockets(&self) -> u64 {
        self.requesting.value() + self.connections.value()
    }
}

/// All counters of a process.
#[derive(Debug)]
pub struct Metrics {
    /// One for each shard.
    pub shards: Box<[std::sync::Arc<ShardCounters>]>,
    /// One for each thread.
    pub homes: Box<[std::sync::Arc<HomeCounters>]>,
}

impl Metrics {
    /// Counters for `threads` threads, all zero.
    pub fn new(threads: usize) -> Self {
        Self {
            shards: (0..threads).map(|_| std::sync::Arc::default()).collect(),
            homes: (0..threads).map(|_| std::sync::Arc::default()).collect(),
        }
    }

    /// The sum of one counter over all shards.
    pub fn shard_sum(&self, counter: impl Fn(&ShardCounters) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(shard).value()).sum()
    }

    /// The sum of one counter over all threads.
    pub fn home_sum(&self, counter: impl Fn(&HomeCounters) -> &Counter) -> u64 {
        self.homes.iter().map(|home| counter(home).value()).sum()
    }
}
