//! What is counted: `GET /`, `/health`, `/ready`, and the totals of `/stats` and `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, json, unavailable};
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
        unavailable(core.config().reconnect_spread)
    } else {
        json(StatusCode::OK, &Ready { status: "ready" })
    }
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
/// What was counted since the start, of deleted topics too.
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
