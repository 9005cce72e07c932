//! What a broker says of itself at one moment, by the calls that anybody may make who may `observe`.

use std::collections::BTreeMap;
use std::time::Instant;

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::Failure;
use super::super::rest::RestError;
use super::super::topics::call;
use super::{By, View};
use crate::config::client::ClientSettings;

/// Connections that are asked for: as many as the broker gives at once.
const CONNECTIONS_MAX: usize = 200;

/// See the module.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) stats: Stats,
    /// Asked for only where they are looked at; the largest first.
    pub(super) connections: Vec<Connection>,
    pub(super) meters: Meters,
}

/// `GET /stats`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Stats {
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) totals: Totals,
}

/// One topic of it, since it was created.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Topic {
    pub(super) messages: u64,
    pub(super) subscribers: u64,
    pub(super) dropped: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) seq: u64,
}

/// All of it since the start. What a broker of another release does not say is 0.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) delivered: u64,
    pub(super) skipped: u64,
    pub(super) dropped: u64,
    pub(super) queued: u64,
    pub(super) bytes_out: u64,
    pub(super) connections: u64,
    pub(super) subscribers: u64,
}

/// One of `GET /connections`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) client_id: String,
    pub(super) key: Option<String>,
    pub(super) transport: String,
    pub(super) since: String,
    pub(super) subscriptions: u64,
    pub(super) lag: Lag,
    pub(super) dropped: u64,
    pub(super) events_in: u64,
    pub(super) events_out: u64,
    pub(super) bytes_out: u64,
}

/// What waits for one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lag {
    pub(super) events: u64,
    pub(super) age_ms: u64,
}

/// What only `GET /metrics` says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Meters {
    /// Seconds since 1970: another one is another process.
    pub(super) started: f64,
    pub(super) cpu_sec: f64,
    pub(super) resident: f64,
    /// Upper bounds in seconds, and how many deliveries took no longer.
    pub(super) latency: Vec<(f64, f64)>,
}

impl Look {
    /// Which connections these are, where the broker may have more.
    pub(super) fn chosen(&self, view: View, by: By) -> Option<String> {
        let largest = view.of_broker(by);
        let which = match largest.filter(|_| self.connections.len() >= CONNECTIONS_MAX)? {
            "dropped" => "that lost most",
            "age" => "that are oldest",
            _ => "with most lag",
        };
        Some(format!("the {CONNECTIONS_MAX} {which}"))
    }

    /// Asks the broker.
    pub(super) async fn take(
        settings: &ClientSettings,
        view: View,
        by: By,
    ) -> Result<Self, Failure> {
        let stats = ask(settings, "/stats").await?;
        let metrics = get(settings, "/metrics").await?;
        let connections = match view.of_broker(by) {
            None => Vec::new(),
            Some(sort) => {
                #[derive(Deserialize)]
                struct Page {
                    connections: Vec<Connection>,
                }
                let path = format!("/connections?sort={sort}&limit={CONNECTIONS_MAX}");
                ask::<Page>(settings, &path).await?.connections
            }
        };
        Ok(Self {
            at: Instant::now(),
            stats,
            connections,
            meters: Meters::parse(&String::from_utf8_lossy(&metrics)),
        })
    }
}

async fn get(settings: &ClientSettings, path: &str) -> Result<Vec<u8>, Failure> {
    call(settings, Method::GET, path, String::new()).await
}

async fn ask<T: DeserializeOwned>(settings: &ClientSettings, path: &str) -> Result<T, Failure> {
    let body = get(settings, path).await?;
    let answer = serde_json::from_slice(&body);
    Ok(answer.map_err(|error| RestError::Http(settings.url.clone(), error.into()))?)
}

impl Meters {
    fn parse(text: &str) -> Self {
        const BUCKET: &str = "shardcast_delivery_latency_seconds_bucket{le=\"";
        let mut meters = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let value = value.parse().unwrap_or_default();
            match name {
                "process_start_time_seconds" => meters.started = value,
                "process_cpu_seconds_total" => meters.cpu_sec = value,
                "process_resident_memory_bytes" => meters.resident = value,
                _ => {
                    let bound = name.strip_prefix(BUCKET);
                    let bound = bound.and_then(|bound| bound.strip_suffix("\"}"));
                    let bound = bound.and_then(|bound| bound.replace("+Inf", "inf").parse().ok());
                    meters.latency.extend(bound.map(|bound| (bound, value)));
                }
            }
        }
        meters
    }

    /// The latency in seconds that so large a `share` of deliveries since `before` stayed below,
    /// straight within a class; none if there was none.
    pub(super) fn latency_since(&self, before: &Self, share: f64) -> Option<f64> {
        let counts = self.latency.iter().enumerate().map(|(at, (bound, now))| {
            let then = before.latency.get(at).map_or(0.0, |(_, then)| *then);
            (*bound, now - then)
        });
        let counts: Vec<_> = counts.collect();
        let (_, total) = counts.last().copied().filter(|(_, total)| *total > 0.0)?;
        let rank = share * total;
        let at = counts.iter().position(|(_, count)| *count >= rank)?;
        let (bound, last) = counts[at];
        let (below, first) = at.checked_sub(1).map_or((0.0, 0.0), |at| counts[at]);
        if bound.is_infinite() {
            return Some(below);
        }
        let within = if last > first {
            (rank - first) / (last - first)
        } else {
            1.0
        };
        Some(below + (bound - below) * within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# HELP shardcast_x x\n\
        shardcast_delivery_latency_seconds_bucket{le=\"0.001\"} 50\n\
        shardcast_delivery_latency_seconds_bucket{le=\"0.002\"} 90\n\
        shardcast_delivery_latency_seconds_bucket{le=\"+Inf\"} 100\n\
        process_start_time_seconds 1756116000.5\n\
        process_cpu_seconds_total 12.5\n\
        process_resident_memory_bytes 1048576\n";

    #[test]
    fn it_says_which_connections_it_has_where_there_may_be_more() {
        let of = |count: usize| Look {
            at: Instant::now(),
            stats: Stats::default(),
            connections: (0..count).map(|_| Connection::default()).collect(),
            meters: Meters::default(),
        };
        let by = |name| View::Connections.by(Some(name)).expect("a column");
        let chosen = |count, name| of(count).chosen(View::Connections, by(name));
        assert_eq!(chosen(199, "lag"), None);
        assert_eq!(
            chosen(200, "out/s").as_deref(),
            Some("the 200 with most lag")
        );
        assert_eq!(
            chosen(200, "dropped").as_deref(),
            Some("the 200 that lost most")
        );
        assert_eq!(
            chosen(200, "since").as_deref(),
            Some("the 200 that are oldest")
        );
        assert_eq!(of(0).chosen(View::Topics, by("lag")), None);
    }

    #[test]
    fn metrics_tell_latency_and_what_the_process_takes() {
        let meters = Meters::parse(METRICS);
        assert_eq!(
            (meters.started, meters.cpu_sec, meters.resident),
            (1_756_116_000.5, 12.5, 1_048_576.0)
        );
        let none = Meters::default();
        assert_eq!(meters.latency_since(&none, 0.5), Some(0.001));
        assert_eq!(meters.latency_since(&none, 0.7), Some(0.0015));
        // Beyond the last bound nothing is known but that.
        assert_eq!(meters.latency_since(&none, 0.99), Some(0.002));
        assert_eq!(meters.latency_since(&meters, 0.5), None);
        assert_eq!(none.latency_since(&none, 0.5), None);
    }
}
