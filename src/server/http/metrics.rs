//! `GET /metrics`: the totals in the text format of Prometheus.

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::answer::Answer;
use super::stats::{health, totals};
use crate::core::Core;

/// The totals in the text format of Prometheus.
pub(super) fn metrics(core: &Core) -> Answer {
    let mut text = String::new();
    for (name, kind, help, value) in rows(core) {
        let row = format!(
            "# HELP shardcast_{name} {help}\n# TYPE shardcast_{name} {kind}\nshardcast_{name} {value}\n"
        );
        text.push_str(&row);
    }
    let mut answer = Response::new(text.into_bytes().into());
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    answer
}

/// Name, kind, help, value.
type Row = (&'static str, &'static str, &'static str, u64);

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows(core: &Core) -> [Row; 17] {
    let totals = totals(core);
    let health = health(core);
    let metrics = &core.process().metrics;
    [
        (
            "messages_total",
            "counter",
            "Messages accepted.",
            totals.messages,
        ),
        (
            "events_offered_total",
            "counter",
            "Events offered to subscribers' rings.",
            totals.offered,
        ),
        (
            "events_delivered_total",
            "counter",
            "Events handed to the kernel.",
            totals.delivered,
        ),
        (
            "events_dropped_total",
            "counter",
            "Events pushed out of full rings.",
            totals.dropped,
        ),
        (
            "events_discarded_total",
            "counter",
            "Events queued for a connection when it ended.",
            totals.discarded,
        ),
        (
            "payload_bytes_total",
            "counter",
            "Payload bytes accepted.",
            totals.bytes_in,
        ),
        (
            "event_bytes_total",
            "counter",
            "Bytes of event frames offered.",
            totals.bytes_out,
        ),
        (
            "socket_sends_total",
            "counter",
            "Sends to a WebSocket; events delivered over these is the batching.",
            metrics.core_sum(|core| &core.sends),
        ),
        (
            "flush_calls_total",
            "counter",
            "System calls that carried those sends.",
            metrics.core_sum(|core| &core.flush_calls),
        ),
        (
            "log_lines_dropped_total",
            "counter",
            "Log lines that could not be written.",
            totals.log_lines_dropped,
        ),
        (
            "memory_budget_bytes",
            "gauge",
            "MEMORY_BUDGET.",
            core.process().budget.bytes_max() as u64,
        ),
        (
            "history_bytes",
            "gauge",
            "Bytes that histories keep.",
            totals.memory.histories,
        ),
        (
            "slow_disconnects_total",
            "counter",
            "Connections ended for being too slow.",
            totals.slow_disconnects,
        ),
        (
            "connections",
            "gauge",
            "WebSocket connections open.",
            totals.connections,
        ),
        (
            "subscribers",
            "gauge",
            "Connections with a subscription.",
            totals.subscribers,
        ),
        ("topics", "gauge", "Topics.", health.topics as u64),
        (
            "uptime_seconds",
            "gauge",
            "Seconds since the start.",
            health.uptime_sec,
        ),
    ]
}
