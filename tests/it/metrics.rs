//! `/metrics`: both text formats, each line of them, and what the figures say after real traffic.

#![expect(clippy::float_cmp, reason = "counts are whole numbers")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::raw::RawSocket;
use crate::harness::tls::{Authority, connect, web_socket};

/// What a scrape says: the kind of each family, and the value of each series.
struct Scrape {
    kinds: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the text as a strict reader would: each family is announced once, in front of its
    /// series, and each series is there once.
    fn parse(text: &str) -> Self {
        let mut kinds = BTreeMap::new();
        let mut helped = BTreeSet::new();
        let mut series = BTreeMap::new();
        let mut family = String::new();
        assert!(text.ends_with('\n'));
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, about) = help.split_once(' ').expect("a help");
                assert!(about.ends_with('.'), "{line}");
                assert!(helped.insert(name.to_owned()), "twice: {line}");
            } else if let Some(announced) = line.strip_prefix("# TYPE ") {
                let (name, kind) = announced.split_once(' ').expect("a kind");
                assert!(helped.contains(name), "no help: {line}");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none());
                name.clone_into(&mut family);
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                assert!(name.starts_with(&family), "{line} under {family}");
                let value = value.parse().expect("a number");
                assert!(series.insert(name.to_owned(), value).is_none(), "{line}");
            }
        }
        Self { kinds, series }
    }

    fn value(&self, name: &str) -> f64 {
        *self.series.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The classes of a histogram: they ascend, and the last holds all.
    fn check_histogram(&self, name: &str) {
        assert_eq!(self.kinds.get(name).map(String::as_str), Some("histogram"));
        let mut classes: Vec<(f64, f64)> = self
            .series
            .iter()
            .filter_map(|(series, count)| {
                let rest = series.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?;
                let bound = rest.strip_suffix("\"}")?;
                Some((bound.parse().expect("a bound"), *count))
            })
            .collect();
        classes.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(classes.len() > 5, "{name}");
        assert!(classes.is_sorted_by(|one, next| one.1 <= next.1), "{name}");
        let (bound, all) = classes.last().expect("a class");
        assert!(bound.is_infinite());
        assert_eq!(*all, self.value(&format!("{name}_count")), "{name}");
    }
}

async fn scrape(broker: &Broker) -> Scrape {
    let answer = broker.get("/metrics").await;
    assert_eq!(answer.status, 200);
    Scrape::parse(&answer.body)
}

#[tokio::test]
async fn the_classic_format_announces_counters_under_their_full_names() {
    let broker = Broker::start(&[]);
    let answer = broker.get("/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(!answer.body.contains("# EOF"));
    let scrape = Scrape::parse(&answer.body);
    assert_eq!(scrape.kinds["shardcast_messages_total"], "counter");
    assert_eq!(scrape.kinds["shardcast_connections"], "gauge");
    assert_eq!(scrape.kinds["shardcast_build_info"], "gauge");
    let version = format!(
        "shardcast_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(scrape.value(&version), 1.0);
}

#[tokio::test]
async fn open_metrics_are_given_to_those_who_ask() {
    let broker = Broker::start(&[]);
    let accept = (
        "Accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
    );
    let answer = broker.request("GET", "/metrics", &[accept], "").await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(answer.body.ends_with("\n# EOF\n"));
    let open = Scrape::parse(&answer.body);
    assert_eq!(open.kinds["shardcast_messages"], "counter");
    assert_eq!(open.kinds["shardcast_build"], "info");
    // The same series, whatever the format.
    let classic = scrape(&broker).await;
    let names = |scrape: &Scrape| scrape.series.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&open), names(&classic));
}

#[tokio::test]
async fn every_total_of_stats_is_there() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let _subscriber = Client::subscribed(&broker, "t").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("t", 0..3, 1).await;
    // What is counted must not change between the two.
    let mut stats = Value::Null;
    eventually("nothing is under way", async || {
        stats = broker.get("/stats").await.json();
        stats["totals"]["queued"] == 0
    })
    .await;
    let scrape = scrape(&broker).await;
    let totals = stats["totals"].as_object().expect("totals");
    for (name, value) in totals {
        let series = match name.as_str() {
            "offered" | "delivered" | "skipped" | "dropped" | "discarded" => {
                format!("shardcast_events_{name}_total")
            }
            "queued" => "shardcast_events_queued".into(),
            "bytes_in" => "shardcast_payload_bytes_total".into(),
            "bytes_out" => "shardcast_event_bytes_total".into(),
            "messages" | "slow_disconnects" | "log_lines_dropped" => {
                format!("shardcast_{name}_total")
            }
            "memory" => {
                for kind in value["kinds"].as_object().expect("kinds").keys() {
                    scrape.value(&format!("shardcast_memory_bytes{{kind=\"{kind}\"}}"));
                }
                let budget = scrape.value("shardcast_memory_budget_bytes");
                assert_eq!(Some(budget), value["budget"].as_f64());
                continue;
            }
            _ => format!("shardcast_{name}"),
        };
        let wanted = value.as_f64().or_else(|| value.as_bool().map(f64::from));
        assert_eq!(Some(scrape.value(&series)), wanted, "{name}");
    }
}

#[tokio::test]
async fn histograms_count_every_event_delivered() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut subscriber = Client::subscribed(&broker, "t").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("t", 0..50, 1).await;
    subscriber.expect_seqs_to("t", 50).await;
    subscriber.settle().await;
    let scrape = scrape(&broker).await;
    for name in ["delivery_latency_seconds", "flush_sends", "ring_lag_events"] {
        scrape.check_histogram(&format!("shardcast_{name}"));
    }
    let delivered = scrape.value("shardcast_events_delivered_total");
    assert_eq!(delivered, 50.0);
    assert_eq!(
        scrape.value("shardcast_delivery_latency_seconds_count"),
        delivered
    );
    let sum = scrape.value("shardcast_delivery_latency_seconds_sum");
    assert!(sum > 0.0 && sum < 50.0 * 5.0, "{sum} s for 50 events");
    let sends = scrape.value("shardcast_socket_sends_total");
    assert_eq!(scrape.value("shardcast_flush_sends_sum"), sends);
}

#[tokio::test]
async fn a_reader_that_is_late_shows_in_the_latency_and_the_lag() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut slow = RawSocket::connect_small(&broker).await;
    let ack = slow.ask(r#"{"type":"subscribe","topic":"t"}"#).await;
    assert_eq!(ack["type"], "ack");
    let mut publisher = Client::connect(&broker).await;
    let payload = "x".repeat(60_000);
    publisher.publish_all("t", vec![payload; 20], 1).await;
    let before = scrape(&broker).await;
    assert!(before.value("shardcast_ring_lag_events_count") > 0.0);
    assert!(before.value("shardcast_events_queued") > 0.0);
    tokio::time::sleep(Duration::from_millis(2_600)).await;
    let of_the_slow = |scrape: &Scrape| {
        let count = scrape.value("shardcast_delivery_latency_seconds_count");
        count - scrape.value("shardcast_delivery_latency_seconds_bucket{le=\"2.5\"}")
    };
    assert!(of_the_slow(&before).abs() < 0.5);
    slow.widen();
    while scrape(&broker).await.value("shardcast_events_queued") > 0.0 {
        slow.recv().await;
    }
    assert!(of_the_slow(&scrape(&broker).await) > 0.5);
}

#[tokio::test]
async fn the_process_tells_its_time_and_memory() {
    let broker = Broker::start(&[]);
    let scrape = scrape(&broker).await;
    assert!(scrape.value("process_resident_memory_bytes") > 1e6);
    assert!(scrape.value("process_cpu_seconds_total") > 0.0);
    let started = scrape.value("process_start_time_seconds");
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .expect("a clock")
        .as_secs_f64();
    assert!((now - 600.0..=now).contains(&started), "{started} at {now}");
}

#[tokio::test]
async fn no_client_chooses_a_label() {
    let broker = Broker::start(&[]);
    let series = |scrape: &Scrape| scrape.series.keys().cloned().collect::<Vec<_>>();
    let before = series(&scrape(&broker).await);
    for topic in ["one", "another"] {
        broker.create_topic(topic).await;
    }
    let _subscriber = Client::connect_as(&broker, "me").await;
    let _subscriber = Client::subscribed(&broker, "one").await;
    Client::connect(&broker).await.publish("another", 1).await;
    assert_eq!(series(&scrape(&broker).await), before);
}

#[tokio::test]
async fn handshakes_are_counted_by_what_they_came_to() {
    let authority = Authority::new();
    let broker = authority.start(&[("CLOSE_WAIT_SEC", "0")]);
    let _client = web_socket(&broker, authority.client()).await;
    let stranger = Authority::new();
    assert!(connect(&broker, stranger.client()).await.is_err());
    eventually("both are counted", async || {
        let scrape = scrape(&broker).await;
        let count = |what: &str| scrape.value(&format!("shardcast_tls_{what}"));
        count("handshakes_total") == 1.0
            && count("handshake_failures_total") == 1.0
            && count("handshaking") == 0.0
    })
    .await;
}
