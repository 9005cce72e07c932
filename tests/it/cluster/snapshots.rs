//! The log is bounded: what it has come to is kept beside it, and whoever starts begins with that.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Cluster, Publisher, ready, seen, standing, state};
use crate::harness::broker::Broker;
use crate::harness::eventually;
use crate::harness::http::Rest;
use crate::harness::json::{message_id, number};

const SMALL_LOG: [(&str, &str); 2] = [
    ("CLUSTER_LOG_BYTES_MAX", "4MiB"),
    ("CLUSTER_TIMEOUT_MS", "8000"),
];

/// Publishes so many messages of 10 KB each over eight topics.
async fn fill(node: &Broker, messages: usize) {
    let mut rest = Rest::open(node).await;
    let padding = "p".repeat(10_000);
    for n in 0..messages {
        let body = json!({"payload": {"n": n, "padding": padding}}).to_string();
        let path = format!("/topics/t{}/messages", n % 8);
        let answer = rest.request("POST", &path, &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// Waits until the log has let go of what it had first.
async fn purged(node: &Broker) -> Value {
    eventually("a log that is purged", async || {
        let of = standing(node).await;
        number(&of["snapshot"], "entry") > 0
            && number(&of["log"], "entries") < number(&of, "applied")
    })
    .await;
    standing(node).await
}

#[tokio::test]
async fn who_starts_later_begins_with_a_snapshot_and_has_the_same() {
    let Some(mut cluster) = Cluster::new() else {
        return;
    };
    let (one, other) = (
        cluster.node(&SMALL_LOG).await,
        cluster.node(&SMALL_LOG).await,
    );
    for n in 0..8 {
        one.create_topic(&format!("t{n}")).await;
    }
    for n in 0..2000 {
        one.create_topic(&format!("idle-{n}")).await;
    }
    one.delete_topic("idle-7").await;
    seen(&other, "idle-1999", 0).await;
    // Both at once, so that snapshots are taken while others publish.
    tokio::join!(fill(&one, 500), fill(&other, 500));
    let of = purged(&one).await;
    assert!(number(&of["log"], "bytes") <= 4 << 20, "{of}");
    cluster.level(&[&one, &other]).await;
    let whole = state(&one).await;
    assert_eq!(whole, state(&other).await);
    let later = cluster.node(&SMALL_LOG).await;
    assert!(
        later.log().contains("began with a snapshot"),
        "{}",
        later.log()
    );
    cluster.level(&[&one, &later]).await;
    assert_eq!(whole, state(&later).await);
    // All of them end, and NATS.
    cluster.nats.kill();
    for node in [one, other, later] {
        node.signal(Signal::KILL);
    }
    cluster.nats.up();
    let again = cluster.node(&SMALL_LOG).await;
    assert_eq!(whole, state(&again).await);
    fill(&again, 8).await;
}

#[tokio::test]
async fn a_full_log_makes_room() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let settings = [
        ("CLUSTER_LOG_BYTES_MAX", "1MiB"),
        ("CLUSTER_TIMEOUT_MS", "300"),
    ];
    let node = cluster.node(&settings).await;
    node.create_topic("t").await;
    let mut publisher = Publisher::new();
    for n in 1..=12 {
        let padding = json!("x".repeat(50_000));
        for m in 1..=5 {
            let ack = publisher
                .publish_value(&[node.address()], "t", padding.clone())
                .await;
            assert_eq!(number(&ack, "seq"), (n - 1) * 5 + m);
        }
    }
    // Three times what it may have.
    let of = purged(&node).await;
    assert!(number(&of["log"], "bytes") <= 1 << 20, "{of}");
}

#[tokio::test]
async fn a_node_that_slept_for_longer_than_the_log_is_kept_starts_anew() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let (one, mut other) = (
        cluster.node(&SMALL_LOG).await,
        cluster.node(&SMALL_LOG).await,
    );
    for n in 0..8 {
        one.create_topic(&format!("t{n}")).await;
    }
    seen(&other, "t7", 0).await;
    other.signal(Signal::STOP);
    let slept_at = number(&standing(&one).await, "applied");
    // What NATS had sent before it stood still it may read on, and that is not a little.
    let mut rounds = 0;
    loop {
        fill(&one, 100).await;
        let of = standing(&one).await;
        if number(&of, "applied") - number(&of["log"], "entries") > slept_at + 600 {
            break;
        }
        rounds += 1;
        assert!(rounds < 100, "the log is never purged: {of}");
    }
    other.signal(Signal::CONT);
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let has_ended = loop {
        if other.log().contains("has to start anew") {
            break true;
        }
        let is_level = number(&standing_or_none(&other).await, "applied")
            >= number(&standing(&one).await, "applied");
        if is_level || tokio::time::Instant::now() > until {
            break false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(has_ended, "it went on without what was purged");
    assert_eq!(other.wait_exit(Duration::from_secs(5)).await.0, 1);
    let again = cluster.node(&SMALL_LOG).await;
    ready(&again).await;
    cluster.level(&[&one, &again]).await;
    assert_eq!(state(&one).await, state(&again).await);
}

/// What `/stats` says, if there is somebody to say it.
async fn standing_or_none(node: &Broker) -> Value {
    if node.log().contains("has to start anew") {
        return json!({"applied": 0});
    }
    standing(node).await
}

#[tokio::test]
async fn ids_count_after_a_snapshot_as_before() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    // Without memory for what it keeps; the ids count all the same, and go into the snapshot.
    let poor = [SMALL_LOG[0], SMALL_LOG[1], ("HISTORY_BYTES_MAX", "0")];
    let node = cluster.node(&poor).await;
    for n in 0..8 {
        node.create_topic(&format!("t{n}")).await;
    }
    node.create_topic("once").await;
    let ids: Vec<_> = (0..120).map(|_| message_id()).collect();
    let mut rest = Rest::open(&node).await;
    for id in &ids {
        let body = json!({"id": id, "payload": 1, "once": true}).to_string();
        assert_eq!(
            rest.request("POST", "/topics/once/messages", &[], &body)
                .await
                .status,
            200
        );
    }
    fill(&node, 900).await;
    purged(&node).await;
    let later = cluster.node(&SMALL_LOG).await;
    let mut rest = Rest::open(&later).await;
    for (index, wanted) in [(119, 120), (20, 21), (19, 121), (21, 22), (20, 122)] {
        let body = json!({"id": ids[index], "payload": 1, "once": true}).to_string();
        let answer = rest
            .request("POST", "/topics/once/messages", &[], &body)
            .await
            .json();
        assert_eq!(answer["seq"], wanted, "{index}: {answer}");
    }
    seen(&node, "once", 122).await;
}

#[tokio::test]
async fn a_node_that_keeps_less_leaves_the_snapshot_to_one_that_keeps_all() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let log = ("CLUSTER_LOG_BYTES_MAX", "16MiB");
    let whole = cluster.node(&[log]).await;
    let poor = cluster.node(&[log, ("HISTORY_BYTES_MAX", "0")]).await;
    for n in 0..8 {
        whole.create_topic(&format!("t{n}")).await;
    }
    // A snapshot is due, and only the poor one is there to take it.
    fill(&whole, 500).await;
    cluster.level(&[&whole, &poor]).await;
    whole.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let of = standing(&poor).await;
    whole.signal(Signal::CONT);
    assert!(!poor.log().contains("took a snapshot"), "{of}");
    eventually("a snapshot", async || {
        number(&standing(&whole).await["snapshot"], "entry") > 0
    })
    .await;
    let later = cluster.node(&[log]).await;
    assert!(later.log().contains("began with a snapshot"));
    cluster.level(&[&whole, &later]).await;
    assert_eq!(state(&whole).await, state(&later).await);
}
