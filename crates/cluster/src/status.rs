//! How it goes, for whoever asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

/// A number that one task writes and anybody reads.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Sets it.
    pub fn set(&self, number: u64) {
        // Relaxed: it guards nothing.
        self.0.store(number, Ordering::Relaxed);
    }

    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Takes from it.
    pub fn sub(&self, number: u64) {
        self.0.fetch_sub(number, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Status {
    connected: AtomicBool,
    /// Changes with each new connection.
    connections: watch::Sender<u64>,
    /// How often a connection was lost and made again.
    pub reconnects: Figure,
    /// Nodes that were heard of in the last seconds, this one included.
    pub nodes: Figure,
    /// Appends that are not answered.
    pub appending: Figure,
    /// Entries that this node has appended.
    pub appended: Figure,
    /// Attempts of appends that had to be repeated.
    pub retried: Figure,
    /// Appends that were given up.
    pub failed: Figure,
    /// The first entry that is kept, the last one, and their bytes, as last looked at.
    pub first: Figure,
    /// See [`Self::first`].
    pub last: Figure,
    /// See [`Self::first`].
    pub bytes: Figure,
}

impl Status {
    /// Whether there is a connection to NATS.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(crate) fn set_connected(&self, connected: bool) -> bool {
        if connected {
            self.connections
                .send_modify(|connections| *connections += 1);
        }
        self.connected.swap(connected, Ordering::Relaxed)
    }

    /// Tells of each new connection.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }
}
