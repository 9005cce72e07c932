//! What is counted: `GET /`, `/health`, `/ready`, and the totals of `/stats` and `/metrics`.

use std::sync::atomic::Ordering;

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{Answer, json, unavailable};
use super::is_draining;
use crate::connection::home::Home;

#[derive(Serialize)]
pub(super) struct Identity {
    service: &'static str,
    version: &'static str,
    endpoints: Endpoints,
}

#[derive(Serialize)]
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

#[derive(Serialize)]
pub(super) struct Health {
    pub(super) uptime_sec: u64,
    pub(super) topics: usize,
    subscribers: u64,
}

pub(super) fn health(home: &Home) -> Health {
    Health {
        uptime_sec: home.process.started.elapsed().as_secs(),
        topics: home.process.topics_total.load(Ordering::Relaxed),
        subscribers: home.process.metrics.home_sum(|home| &home.subscribers),
    }
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
}

pub(super) fn ready(home: &Home) -> Answer {
    if is_draining(home) {
        unavailable()
    } else {
        json(StatusCode::OK, &Ready { status: "ready" })
    }
}

/// Since the start, deleted topics included. `offered = delivered + dropped + discarded + queued`.
#[derive(Serialize)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) offered: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    pub(super) discarded: u64,
    pub(super) queued: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) connections: u64,
    pub(super) subscribers: u64,
    pub(super) slow_disconnects: u64,
}

pub(super) fn totals(home: &Home) -> Totals {
    let metrics = &home.process.metrics;
    // What went out is read before what came in, so that nothing seems to be missing.
    let delivered = metrics.home_sum(|home| &home.delivered);
    let discarded = metrics.home_sum(|home| &home.discarded);
    let dropped = metrics.shard_sum(|shard| &shard.dropped);
    let offered = metrics.shard_sum(|shard| &shard.offered);
    Totals {
        messages: metrics.shard_sum(|shard| &shard.accepted),
        offered,
        delivered,
        dropped,
        discarded,
        queued: offered.saturating_sub(delivered + dropped + discarded),
        bytes_in: metrics.shard_sum(|shard| &shard.bytes_in),
        bytes_out: metrics.shard_sum(|shard| &shard.bytes_out),
        connections: metrics.home_sum(|home| &home.connections),
        subscribers: metrics.home_sum(|home| &home.subscribers),
        slow_disconnects: metrics.home_sum(|home| &home.slow_disconnects),
    }
}
