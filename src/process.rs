//! What all cores share: the settings, the way to the shards, counters, the budget, seats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::broker::Broker;
use crate::budget::Budget;
use crate::config::Config;
use crate::metrics::Metrics;

/// See the module.
#[derive(Debug)]
pub struct Process {
    /// The settings.
    pub config: Config,
    /// The way to the shards.
    pub broker: Broker,
    /// All counters.
    pub metrics: Metrics,
    /// What is kept for clients, in bytes.
    pub budget: Arc<Budget>,
    /// The server has begun to shut down.
    pub draining: AtomicBool,
    /// When the server started.
    pub started: Instant,
    /// WebSocket connections at most.
    pub connections_max: usize,
    /// Of those, the ones that are taken: by a connection, or by a handshake under way.
    pub seats_taken: AtomicUsize,
    /// Messages of one connection that are handed to a shard together, at most.
    pub batch_messages_max: usize,
    /// Topics in all shards.
    pub topics_total: Arc<AtomicUsize>,
}

/// The right to be one of `MAX_CONNECTIONS`, given back when it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Process>);

impl Seat {
    /// Takes a seat, if there is one.
    pub fn take(process: &Arc<Process>) -> Option<Self> {
        // Relaxed: the count guards nothing but itself.
        let taken =
            process
                .seats_taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                    (taken < process.connections_max).then_some(taken + 1)
                });
        taken.is_ok().then(|| Self(Arc::clone(process)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats_taken.fetch_sub(1, Ordering::Relaxed);
    }
}
