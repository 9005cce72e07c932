//! What one scrape tells: the counters that are there anyway, read when somebody asks.

use std::fmt;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use rustix::time::{ClockId, clock_gettime};

use super::super::is_draining;
use super::super::stats::{health, totals};
use crate::cluster::standing::Standing;
use crate::core::Core;
use crate::metrics::Tally;

/// Name, what it is, how much.
type Row = (&'static str, &'static str, u64);

/// One scrape.
#[derive(Debug)]
pub(super) struct Figures {
    counters: Vec<Row>,
    gauges: Vec<Row>,
    /// Bytes by kind.
    memory: Vec<(&'static str, usize)>,
    histograms: [(&'static str, &'static str, Distribution); 3],
    /// Seconds of processor time, and bytes of memory, where the kernel says.
    cpu_seconds: f64,
    resident_bytes: Option<u64>,
    started_at: f64,
}

impl Figures {
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub(super) fn read(core: &Core) -> Self {
        let process = core.process();
        let (totals, health) = (totals(core), health(core));
        let metrics = &process.metrics;
        let mut counters = vec![
            ("messages", "Messages accepted.", totals.messages),
            (
                "events_offered",
                "Events offered to subscribers' rings.",
                totals.offered,
            ),
            (
                "events_delivered",
                "Events handed to the kernel.",
                totals.delivered,
            ),
            (
                "events_skipped",
                "Events replaced by a newer one of their topic, as their subscription wanted it.",
                totals.skipped,
            ),
            (
                "events_dropped",
                "Events pushed out of full rings.",
                totals.dropped,
            ),
            (
                "events_discarded",
                "Events queued for a connection when it ended.",
                totals.discarded,
            ),
            ("payload_bytes", "Payload bytes accepted.", totals.bytes_in),
            (
                "event_bytes",
                "Bytes of event frames offered.",
                totals.bytes_out,
            ),
            (
                "socket_sends",
                "Sends to a WebSocket; events delivered over these is the batching.",
                metrics.core_sum(|core| &core.sends),
            ),
            (
                "flush_calls",
                "System calls that carried those sends.",
                metrics.core_sum(|core| &core.flush_calls),
            ),
            (
                "tls_handshakes",
                "TLS handshakes done.",
                metrics.tls.handshakes.value(),
            ),
            (
                "tls_handshake_failures",
                "TLS handshakes that came to nothing.",
                metrics.tls.failures.value(),
            ),
            (
                "log_lines_dropped",
                "Log lines that could not be written.",
                totals.log_lines_dropped,
            ),
            (
                "slow_disconnects",
                "Connections ended for being too slow.",
                totals.slow_disconnects,
            ),
        ];
        let mut gauges = vec![
            (
                "events_queued",
                "Events that wait for a connection.",
                totals.queued,
            ),
            (
                "memory_budget_bytes",
                "MEMORY_BUDGET.",
                process.budget.bytes_max() as u64,
            ),
            (
                "history_bytes",
                "Bytes that histories keep, of the frames.",
                totals.memory.histories,
            ),
            (
                "connections",
                "WebSocket connections open.",
                totals.connections,
            ),
            (
                "subscribers",
                "Connections with a subscription.",
                totals.subscribers,
            ),
            (
                "http_connections",
                "Sockets that speak HTTP.",
                metrics.core_sum(|core| &core.requesting),
            ),
            (
                "tls_handshaking",
                "TLS handshakes under way.",
                metrics.tls.shaking.value(),
            ),
            ("topics", "Topics.", health.topics as u64),
            (
                "shards",
                "Shards, each with a core of its own.",
                metrics.cores.len() as u64,
            ),
            (
                "io_uring",
                "1 where one system call carries all sends of a flush.",
                totals.io_uring.into(),
            ),
            (
                "draining",
                "1 from when the broker begins to shut down.",
                is_draining(core).into(),
            ),
            (
                "uptime_seconds",
                "Seconds since the start.",
                health.uptime_sec,
            ),
        ];
        if let Some(of) = &process.cluster {
            let (counted, measured) = of_cluster(of);
            counters.extend(counted);
            gauges.extend(measured);
        }
        let histograms = [
            (
                "delivery_latency_seconds",
                "From when a message was read to when the kernel took the event, of each event delivered.",
                Distribution::new(metrics.core_tally(|core| &core.latency), 1e-6),
            ),
            (
                "flush_sends",
                "Sends that went to the kernel together.",
                Distribution::new(metrics.core_tally(|core| &core.flush_sends), 1.0),
            ),
            (
                "ring_lag_events",
                "Events that a connection's flush left waiting, of each that left any.",
                Distribution::new(metrics.core_tally(|core| &core.lag), 1.0),
            ),
        ];
        Self {
            counters,
            gauges,
            memory: totals.memory.kinds.into_iter().collect(),
            histograms,
            cpu_seconds: cpu_seconds(),
            resident_bytes: resident_bytes(),
            started_at: process
                .started_at
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        }
    }
}

/// How a node stands in its cluster: counters, and gauges.
fn of_cluster(of: &Standing) -> ([Row; 5], [Row; 12]) {
    let counters = [
        (
            "cluster_appends",
            "Entries that this node has put into the log.",
            of.appended.value(),
        ),
        (
            "cluster_append_retries",
            "Appends that were sent again.",
            of.retried.value(),
        ),
        (
            "cluster_append_failures",
            "Appends that were given up.",
            of.failed.value(),
        ),
        (
            "cluster_entries_unreadable",
            "Entries of the log that were passed over.",
            of.unreadable.value(),
        ),
        (
            "cluster_reconnects",
            "Connections to NATS that were lost.",
            of.reconnects.value(),
        ),
    ];
    let gauges = [
        (
            "cluster_ready",
            "1 while this node has all that the log has, and NATS can be reached.",
            of.is_ready().into(),
        ),
        (
            "cluster_nodes",
            "Nodes that were heard of in the last seconds.",
            of.nodes.value(),
        ),
        (
            "cluster_applied_entry",
            "The entry of the log that was carried out last.",
            of.applied.value(),
        ),
        (
            "cluster_lag_entries",
            "Entries of the log behind that.",
            of.behind.value(),
        ),
        (
            "cluster_lag_ms",
            "How old that was when it was carried out, in milliseconds.",
            of.behind_ms.value(),
        ),
        (
            "cluster_requests_waiting",
            "Requests that wait to be put into the log.",
            of.waiting.value(),
        ),
        (
            "cluster_appends_in_flight",
            "Appends that are not confirmed.",
            of.appending.value(),
        ),
        (
            "cluster_log_bytes",
            "Bytes that the log has.",
            of.log_bytes.value(),
        ),
        (
            "cluster_log_bytes_max",
            "Bytes that the log may have.",
            of.log_bytes_max.value(),
        ),
        (
            "cluster_snapshot_entry",
            "The entry of the log that the newest snapshot stands behind.",
            of.snapshot_place.value(),
        ),
        (
            "cluster_snapshot_bytes",
            "Bytes that the newest snapshot has.",
            of.snapshot_bytes.value(),
        ),
        (
            "cluster_snapshot_age_seconds",
            "Seconds since this node heard of the newest snapshot, or started.",
            of.snapshot_age_sec.value(),
        ),
    ];
    (counters, gauges)
}

/// Seconds of processor time that the process has used.
#[expect(clippy::cast_precision_loss, reason = "seconds of a process")]
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9
}

/// Bytes of memory that the process has in use, as the kernel counts them.
fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(resident * rustix::param::page_size() as u64)
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        for (name, help, value) in &self.counters {
            put(
                &format!("shardcast_{name}"),
                help,
                &ConstCounter::new(*value),
            )?;
        }
        for (name, help, value) in &self.gauges {
            put(&format!("shardcast_{name}"), help, &ConstGauge::new(*value))?;
        }
        for (name, help, distribution) in &self.histograms {
            put(&format!("shardcast_{name}"), help, distribution)?;
        }
        put(
            "shardcast_memory_bytes",
            "Bytes booked on the budget.",
            &Memory(&self.memory),
        )?;
        put("shardcast_build", "What runs.", &Build)?;
        put(
            "process_cpu_seconds",
            "Processor time used.",
            &ConstCounter::new(self.cpu_seconds),
        )?;
        if let Some(bytes) = self.resident_bytes {
            let help = "Memory in use, as the kernel counts it.";
            put(
                "process_resident_memory_bytes",
                help,
                &ConstGauge::new(bytes),
            )?;
        }
        put(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            &ConstGauge::new(self.started_at),
        )
    }
}

/// Bytes of each kind.
struct Memory<'m>(&'m [(&'static str, usize)]);

impl EncodeMetric for Memory<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (kind, bytes) in self.0 {
            let gauge = ConstGauge::new(*bytes as u64);
            gauge.encode(encoder.encode_family(&[("kind", *kind)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        ConstGauge::<u64>::TYPE
    }
}

/// The version.
struct Build;

impl EncodeMetric for Build {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Info
    }
}

/// A histogram as it is told.
#[derive(Debug)]
struct Distribution {
    sum: f64,
    count: u64,
    /// The largest value of each class, and how many are in it.
    classes: Vec<(f64, u64)>,
}

impl Distribution {
    /// What was counted, in units of `unit`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "bounds are small, and a sum may be rounded"
    )]
    fn new(tally: Tally, unit: f64) -> Self {
        let bounds = tally.bounds.iter().map(|bound| *bound as f64 * unit);
        Self {
            sum: tally.sum as f64 * unit,
            count: tally.counts.iter().sum(),
            classes: bounds.chain([f64::INFINITY]).zip(tally.counts).collect(),
        }
    }
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.count, &self.classes, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
