//! Where this node stands among the others, for whoever asks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::Counter;

/// See the module. Written by the thread of the cluster.
#[derive(Debug)]
pub struct Standing {
    /// The name of the cluster.
    pub name: Box<str>,
    /// The number of this node, once it has one.
    pub node: OnceLock<u64>,
    is_connected: AtomicBool,
    is_level: AtomicBool,
    has_begun: AtomicBool,
    /// Nodes that were heard of in the last seconds, this one included.
    pub nodes: Counter,
    /// The entry of the log that was carried out last.
    pub applied: Counter,
    /// Entries behind it.
    pub behind: Counter,
    /// How old the last one was when it was carried out, in milliseconds, while there are some behind it.
    pub behind_ms: Counter,
    /// Requests that wait to be appended.
    pub waiting: Counter,
    /// Appends that are not confirmed.
    pub appending: Counter,
    /// Entries that this node has appended.
    pub appended: Counter,
    /// Appends that were sent again.
    pub retried: Counter,
    /// Appends that were given up.
    pub failed: Counter,
    /// Entries that no node has written, or that nobody can read.
    pub unreadable: Counter,
    /// How often the connection to NATS was lost.
    pub reconnects: Counter,
    /// Entries that the log has.
    pub log_entries: Counter,
    /// Their bytes.
    pub log_bytes: Counter,
    /// Bytes that it may have.
    pub log_bytes_max: Counter,
    /// The entry that the newest snapshot stands behind; 0 if there is none.
    pub snapshot_place: Counter,
    /// Its bytes.
    pub snapshot_bytes: Counter,
    /// Seconds since this node heard of it, or started.
    pub snapshot_age_sec: Counter,
}

impl Standing {
    /// Of a node that is not yet there.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            node: OnceLock::new(),
            is_connected: AtomicBool::new(false),
            is_level: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            nodes: Counter::default(),
            applied: Counter::default(),
            behind: Counter::default(),
            behind_ms: Counter::default(),
            waiting: Counter::default(),
            appending: Counter::default(),
            appended: Counter::default(),
            retried: Counter::default(),
            failed: Counter::default(),
            unreadable: Counter::default(),
            reconnects: Counter::default(),
            log_entries: Counter::default(),
            log_bytes: Counter::default(),
            log_bytes_max: Counter::default(),
            snapshot_place: Counter::default(),
            snapshot_bytes: Counter::default(),
            snapshot_age_sec: Counter::default(),
        }
    }

    /// Whether it has all that the log has, and can add to it.
    pub fn is_ready(&self) -> bool {
        self.is_connected() && self.is_level.load(Ordering::Relaxed)
    }

    /// Whether there is a connection to NATS.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Whether it has ever had all that the log had: before, it knows of no topic.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// There is a connection, or there is none.
    pub fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    /// It has all that the log has, or may not have it.
    pub fn set_level(&self, is_level: bool) {
        self.is_level.store(is_level, Ordering::Relaxed);
        if is_level {
            self.has_begun.store(true, Ordering::Relaxed);
        }
    }
}
