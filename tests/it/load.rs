//! Many clients at once: nothing is lost, doubled or delivered to the wrong one.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::Rest;
use crate::harness::json::{number, publish_text};

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_their_topic_and_no_other() {
    const MESSAGES: u64 = 50;
    let broker = Broker::start(&[("SHARDS", "4")]);
    let mut clients = JoinSet::new();
    for topic in (0..20).map(|n| format!("t{n}")) {
        broker.create_topic(&topic).await;
        for _ in 0..5 {
            let mut subscriber = Client::subscribed(&broker, &topic).await;
            let topic = topic.clone();
            clients.spawn(async move {
                for seq in 1..=MESSAGES {
                    let event = subscriber.expect_event(&topic).await;
                    assert_eq!(
                        (&event["seq"], &event["message"]["payload"]),
                        (&json!(seq), &json!(topic))
                    );
                }
                assert_eq!(subscriber.settle().await, [json!(null); 0]);
            });
        }
    }
    for topic in (0..20).map(|n| format!("t{n}")) {
        let mut publisher = Client::connect(&broker).await;
        clients.spawn(async move {
            let payloads = (0..MESSAGES).map(|_| topic.clone());
            publisher.publish_all(&topic, payloads, 10).await;
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_publishers_and_fifty_subscribers_lose_and_double_nothing() {
    const PUBLISHERS: usize = 50;
    const EACH: u64 = 40;
    const ALL: u64 = 50 * EACH;
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "4096")]);
    broker.create_topic("orders").await;
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let mut subscriber = Client::subscribed(&broker, "orders").await;
        clients.spawn(async move {
            let mut next_of = [0; PUBLISHERS];
            for seq in 1..=ALL {
                let event = subscriber.expect_event("orders").await;
                assert_eq!(event["seq"], seq);
                let payload = &event["message"]["payload"];
                let publisher = usize::try_from(number(payload, "publisher")).expect("small");
                assert_eq!(payload["number"], next_of[publisher]);
                next_of[publisher] += 1;
            }
            assert_eq!(next_of, [EACH; PUBLISHERS]);
        });
    }
    for publisher in 0..PUBLISHERS {
        let mut client = Client::connect(&broker).await;
        clients.spawn(async move {
            let payloads = (0..EACH).map(|n| json!({"publisher": publisher, "number": n}));
            let acks = client.publish_all("orders", payloads, 20).await;
            assert!(acks.iter().all(|ack| ack["matched"] == 50));
        });
    }
    clients.join_all().await;
    let stats = broker.get("/stats").await.json();
    assert_eq!(stats["topics"]["orders"]["dropped"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_are_served_and_forgotten() {
    let broker = Arc::new(Broker::start(&[]));
    broker.create_topic("orders").await;
    let mut joining = JoinSet::new();
    for _ in 0..1000 {
        let broker = Arc::clone(&broker);
        joining.spawn(async move { Client::subscribed(&broker, "orders").await });
    }
    let mut clients = joining.join_all().await;
    assert_eq!(broker.health("subscribers").await, 1000);
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish("orders", 1).await["matched"], 1000);
    for client in &mut clients {
        client.expect_event("orders").await;
    }
    drop(clients);
    eventually("no subscriber", async || {
        broker.health("subscribers").await == 0
    })
    .await;
    assert_eq!(broker.subscribers_of("orders").await, 0);
}

/// Sends commands and reads up to the reply of each; the topic comes and goes meanwhile.
async fn hammer(mut client: Client, commands: [String; 3]) {
    for command in commands.iter().cycle().take(600) {
        client.send_text(command).await;
        loop {
            let message = client.recv().await;
            match message["type"].as_str() {
                Some("ack") => break,
                Some("error") if message["error"]["code"] == "TOPIC_NOT_FOUND" => break,
                Some("event" | "info") => {}
                _ => panic!("{message}"),
            }
        }
    }
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_come_and_go_under_load() {
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "4096")]);
    let command = |kind: &str| json!({"type": kind, "topic": "orders"}).to_string();
    let mut hammers = JoinSet::new();
    for _ in 0..8 {
        let publish = publish_text("orders", "1");
        let commands = [command("subscribe"), publish, command("unsubscribe")];
        hammers.spawn(hammer(Client::connect(&broker).await, commands));
    }
    let mut rest = Rest::open(&broker).await;
    while hammers.try_join_next().is_none_or(|ended| ended.is_ok()) && !hammers.is_empty() {
        let created = rest
            .request("POST", "/topics", &[], r#"{"name":"orders"}"#)
            .await;
        assert_eq!(created.status, 201);
        let deleted = rest.request("DELETE", "/topics/orders", &[], "").await;
        assert_eq!(deleted.status, 200);
    }
    hammers.join_all().await;
    broker.create_topic("orders").await;
    assert_eq!(broker.subscribers_of("orders").await, 0);
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish("orders", 1).await["matched"], 1);
    assert_eq!(subscriber.expect_event("orders").await["seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_that_come_and_go_disturb_nobody() {
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "10000")]);
    broker.create_topic("orders").await;
    let mut steady = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    let storm = tokio::spawn(async move {
        publisher.publish_all("orders", 0..5000, 10).await;
    });
    for round in 0..100 {
        let passer_by = Client::subscribed(&broker, "orders").await;
        if round % 2 == 0 {
            drop(passer_by);
        } else {
            passer_by.close().await;
        }
    }
    let seqs = steady.expect_seqs_to("orders", 5000).await;
    assert_eq!(seqs, (1..=5000).collect::<Vec<u64>>());
    storm.await.expect("every publish was acked");
}
