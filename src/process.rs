//! What all cores share: the settings, the way to the shards, counters, the budget, seats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use crate::access::Access;
use crate::access::address::Addresses;
use crate::broker::Broker;
use crate::budget::Budget;
use crate::cluster::standing::Standing;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::roster::Ledger;
use crate::seats::Seats;

/// See the module.
#[derive(Debug)]
pub struct Process {
    /// The settings.
    pub config: Config,
    /// Who may do what.
    pub access: Access,
    /// How much comes from one address.
    pub addresses: Arc<Addresses>,
    /// The way to the shards.
    pub broker: Broker,
    /// How it stands with the other nodes, if there may be others.
    pub cluster: Option<Arc<Standing>>,
    /// All counters.
    pub metrics: Metrics,
    /// Who was connected.
    pub ledger: Ledger,
    /// What is kept for clients, in bytes.
    pub budget: Arc<Budget>,
    /// The server has begun to shut down.
    pub draining: AtomicBool,
    /// When the server started.
    pub started: Instant,
    /// The same by the calendar.
    pub started_at: SystemTime,
    /// Who may be connected.
    pub seats: Seats,
    /// Messages of one connection that are handed to a shard together, at most.
    pub batch_messages_max: usize,
    /// Topics in all shards.
    pub topics_total: Arc<AtomicUsize>,
}

impl Process {
    /// Whether the server has begun to shut down.
    pub fn is_draining(&self) -> bool {
        // Relaxed: it guards nothing but itself.
        self.draining.load(Ordering::Relaxed)
    }
}
