//! What is counted: `GET /`, `/health`, `/ready`, and the totals of `/stats` and `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, json, not_level, unavailable};
use super::is_draining;
use crate::budget::Kind;
use crate::core::Core;
use crate::metrics::LOG_LINES_DROPPED;

/// Who this is.
#[derive(Serialize, ToSchema)]
pub(super) struct Identity {
    service: &'static str,
    version: &'static str,
    endpoints: Endpoints,
}

#[derive(Serialize, ToSchema)]
struct Endpoints {
    websocket: &'static str,
    topics: &'static str,
    health: &'static str,
    stats: &'static str,
}

impl Default for Identity {
    fn default() -> Self {
        let endpoints = Endpoints {
            websocket: "/ws",
            topics: "/topics",
            health: "/health",
            stats: "/stats",
        };
        Self {
            service: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            endpoints,
        }
    }
}

/// That it lives.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    pub(super) uptime_sec: u64,
    pub(super) topics: usize,
    /// Connections with at least one subscription.
    subscribers: u64,
}

pub(super) fn health(core: &Core) -> Health {
    Health {
        uptime_sec: core.process().started.elapsed().as_secs(),
        topics: core.process().topics_total.load(Ordering::Relaxed),
        subscribers: core.process().metrics.core_sum(|core| &core.subscribers),
    }
}

/// That it takes connections.
#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    status: &'static str,
}

pub(super) fn ready(core: &Core) -> Answer {
    if is_draining(core) {
        return unavailable(core.config().reconnect_spread);
    }
    match &core.process().cluster {
        Some(standing) if !standing.is_connected() => {
            not_level("there is no connection to the NATS of the cluster")
        }
        Some(standing) if !standing.is_ready() => {
            not_level("this node has still to read the log of its cluster")
        }
        _ => json(StatusCode::OK, &Ready { status: "ready" }),
    }
}

/// How this node stands in its cluster.
#[derive(Serialize, ToSchema)]
pub(super) struct Cluster {
    name: Box<str>,
    /// This node's number, 16 hex digits; another one at each start. Missing before there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// It has all that the log has, and NATS can be reached.
    ready: bool,
    connected: bool,
    /// Nodes that were heard of in the last seconds, this one included.
    pub(super) nodes: u64,
    /// The entry of the log that was carried out last.
    pub(super) applied: u64,
    lag: Lag,
    log: LogSize,
    snapshot: SnapshotShown,
    appends: Appends,
    pub(super) reconnects: u64,
    /// Entries that were passed over.
    pub(super) unreadable: u64,
}

/// How far behind the log this node is.
#[derive(Serialize, ToSchema)]
#[schema(as = ClusterLag)]
struct Lag {
    entries: u64,
    ms: u64,
}

/// How large the log is.
#[derive(Serialize, ToSchema)]
#[schema(as = ClusterLog)]
struct LogSize {
    entries: u64,
    bytes: u64,
    bytes_max: u64,
}

/// The newest snapshot of what the log has come to.
#[derive(Serialize, ToSchema)]
#[schema(as = ClusterSnapshot)]
struct SnapshotShown {
    /// The entry that it stands behind; 0 if there is none.
    entry: u64,
    bytes: u64,
    /// Since this node heard of it, or started.
    age_sec: u64,
}

/// What this node writes into the log.
#[derive(Serialize, ToSchema)]
#[schema(as = ClusterAppends)]
struct Appends {
    waiting: u64,
    in_flight: u64,
    done: u64,
    retried: u64,
    failed: u64,
}

/// How this node stands, if it is one of several.
pub(super) fn cluster(core: &Core) -> Option<Cluster> {
    let of = core.process().cluster.as_ref()?;
    Some(Cluster {
        name: of.name.clone(),
        node: of.node.get().map(|node| format!("{node:016x}")),
        ready: of.is_ready(),
        connected: of.is_connected(),
        nodes: of.nodes.value(),
        applied: of.applied.value(),
        lag: Lag {
            entries: of.behind.value(),
            ms: of.behind_ms.value(),
        },
        log: LogSize {
            entries: of.log_entries.value(),
            bytes: of.log_bytes.value(),
            bytes_max: of.log_bytes_max.value(),
        },
        snapshot: SnapshotShown {
            entry: of.snapshot_place.value(),
            bytes: of.snapshot_bytes.value(),
            age_sec: of.snapshot_age_sec.value(),
        },
        appends: Appends {
            waiting: of.waiting.value(),
            in_flight: of.appending.value(),
            done: of.appended.value(),
            retried: of.retried.value(),
            failed: of.failed.value(),
        },
        reconnects: of.reconnects.value(),
        unreadable: of.unreadable.value(),
    })
}

fn memory(core: &Core) -> Memory {
    let budget = &core.process().budget;
    let kinds = Kind::ALL.iter();
    Memory {
        budget: budget.bytes_max(),
        kinds: kinds
            .map(|(kind, name)| (*name, budget.bytes(*kind)))
            .collect(),
        histories: core
            .process()
            .metrics
            .shard_sum(|shard| &shard.history_bytes),
    }
}

/// Since the start, deleted topics included. `offered = delivered + skipped + dropped + discarded +
/// queued`.
#[derive(Serialize, ToSchema)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) offered: u64,
    pub(super) delivered: u64,
    pub(super) skipped: u64,
    pub(super) dropped: u64,
    pub(super) discarded: u64,
    pub(super) queued: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) connections: u64,
    pub(super) subscribers: u64,
    pub(super) slow_disconnects: u64,
    pub(super) log_lines_dropped: u64,
    pub(super) io_uring: bool,
    pub(super) memory: Memory,
}

/// What is kept for clients, in bytes.
/// What is kept, in bytes.
#[derive(Serialize, ToSchema)]
pub(super) struct Memory {
    budget: usize,
    #[schema(value_type = BTreeMap<String, usize>)]
    pub(super) kinds: BTreeMap<&'static str, usize>,
    /// Of the frames, those that histories keep.
    pub(super) histories: u64,
}

pub(super) fn totals(core: &Core) -> Totals {
    let metrics = &core.process().metrics;
    // What went out is read before what came in, so that nothing seems to be missing.
    let delivered = metrics.core_sum(|core| &core.delivered);
    let skipped = metrics.core_sum(|core| &core.skipped);
    let discarded = metrics.core_sum(|core| &core.discarded);
    let dropped = metrics.shard_sum(|shard| &shard.dropped);
    let offered = metrics.shard_sum(|shard| &shard.offered);
    Totals {
        messages: metrics.shard_sum(|shard| &shard.accepted),
        offered,
        delivered,
        skipped,
        dropped,
        discarded,
        queued: offered.saturating_sub(delivered + skipped + dropped + discarded),
        bytes_in: metrics.shard_sum(|shard| &shard.bytes_in),
        bytes_out: metrics.shard_sum(|shard| &shard.bytes_out),
        connections: metrics.core_sum(|core| &core.connections),
        subscribers: metrics.core_sum(|core| &core.subscribers),
        slow_disconnects: metrics.core_sum(|core| &core.slow_disconnects),
        log_lines_dropped: LOG_LINES_DROPPED.value(),
        io_uring: metrics.core_sum(|core| &core.io_uring) > 0,
        memory: memory(core),
    }
}
