//! NATS that goes away and comes back: publishers are told, listeners notice nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Cluster, Publisher, ready, seen, standing};
use crate::harness::client::{Client, publish};
use crate::harness::eventually;
use crate::harness::json::number;

#[tokio::test]
async fn publishers_are_told_and_go_on_without_a_gap() {
    let Some(mut cluster) = Cluster::new() else {
        return;
    };
    let settings = [
        ("CLUSTER_TIMEOUT_MS", "500"),
        ("PING_PERIOD_SEC", "1"),
        ("PONG_WAIT_SEC", "3"),
    ];
    let (one, other) = (cluster.node(&settings).await, cluster.node(&settings).await);
    one.create_topic("t").await;
    seen(&other, "t", 0).await;
    let mut subscriber = Client::subscribed(&other, "t").await;
    // It answers heartbeats all the time.
    let (tell, mut heard_all) = tokio::sync::mpsc::unbounded_channel();
    let listening = tokio::spawn(async move {
        while let Some(event) = subscriber.try_recv().await {
            if event["type"] == "event" && tell.send(event).is_err() {
                return;
            }
        }
    });
    let address = one.address();
    let publishing = tokio::spawn(async move {
        let mut publisher = Publisher::new();
        let until = Instant::now() + Duration::from_secs(7);
        let mut n = 0;
        while Instant::now() < until {
            publisher.publish(&[address], "t", n).await;
            n += 1;
        }
        (n, publisher.unavailable)
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.nats.kill();
    eventually("a node that is not ready", async || {
        one.get("/ready").await.status == 503
    })
    .await;
    // What asks only this node works as ever.
    let mut late = Client::connect(&one).await;
    let began = Instant::now();
    late.subscribe("t").await;
    assert!(number(&one.get("/topics/t").await.json(), "kept") > 0);
    assert_eq!(late.ask(json!({"type": "ping"})).await["type"], "pong");
    assert!(
        began.elapsed() < Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
    // What has to be told to others is refused in time.
    let began = Instant::now();
    let created = one.post_topic("u").await;
    assert_eq!(created.status, 503, "{}", created.body);
    assert!(created.body.contains("UNAVAILABLE"), "{}", created.body);
    assert!(
        (400..1500).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    let deleted = one.request("DELETE", "/topics/t", &[], "").await;
    assert_eq!(deleted.status, 503, "{}", deleted.body);
    let posted = one
        .request("POST", "/topics/t/messages", &[], r#"{"payload":1}"#)
        .await;
    assert_eq!(posted.status, 503, "{}", posted.body);
    // Heartbeats go on, to a client that waits for its publish too.
    let mut waiting = Client::connect(&one).await;
    waiting.send_text(&publish("t", 0)).await;
    let mut heard = waiting.recv().await;
    while heard["type"] == "info" {
        heard = waiting.recv().await;
    }
    assert_eq!(heard["error"]["code"], "UNAVAILABLE", "{heard}");
    cluster.nats.up();
    ready(&one).await;
    ready(&other).await;
    let (published, unavailable) = publishing.await.expect("the publisher gets through");
    assert!(unavailable > 0, "nobody was told");
    let (mut seq, mut payloads) = (0, Vec::new());
    while payloads.last() != Some(&(published - 1)) {
        let event = crate::harness::within("the next event", heard_all.recv()).await;
        let event = event.expect("the subscriber is connected");
        assert_eq!(number(&event, "seq"), seq + 1);
        seq += 1;
        payloads.push(number(&event["message"], "payload"));
    }
    drop(heard_all);
    listening.abort();
    // Two others have published as well, and may have got through.
    assert!(
        (0..published).all(|n| payloads.contains(&n)),
        "one is missing"
    );
    assert!(payloads.len() as u64 <= published + 2, "one is doubled");
    assert!(number(&standing(&one).await, "reconnects") >= 1);
}

#[tokio::test]
async fn a_node_may_start_before_nats() {
    let Some(mut cluster) = Cluster::new() else {
        return;
    };
    cluster.nats.kill();
    let node = cluster.start(&[]);
    let answer = node.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("NATS"), "{}", answer.body);
    assert_eq!(
        node.get("/topics").await.status,
        503,
        "it knows of none yet, and says so"
    );
    assert_eq!(node.upgrade("/ws", &[]).await.status, 503);
    assert_eq!(node.get("/health").await.status, 200);
    assert_eq!(standing(&node).await["connected"], false);
    cluster.nats.up();
    ready(&node).await;
    node.create_topic("t").await;
}
