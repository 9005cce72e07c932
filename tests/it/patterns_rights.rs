//! Patterns and what a key may do: they lie inside its rights, or end; and a client that does not take its notices.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::keys::{KeyFile, ROOT, call, connect, create, key};

fn subscribe(topic: &str) -> String {
    json!({"type": "subscribe", "topic": topic}).to_string()
}

#[tokio::test]
async fn a_pattern_lies_inside_one_of_the_key() {
    let rights = r#"subscribe = ["orders.*", "prices.>", "a.b"]"#;
    let file = KeyFile::new(&key("reader-key", rights));
    let broker = file.broker(&[("SHARDS", "2"), ("MAX_PATTERN_TOPICS", "1")]);
    create(&broker, &["orders.eu", "prices.eu.de", "other.eu"]).await;
    let mut client = connect(&broker, "reader-key").await;
    // It comes before anything else that could be said of it.
    for pattern in [
        ">",
        "*.eu",
        "orders.>",
        "orders.*.*",
        "a.*",
        "*",
        "nothing.*",
    ] {
        let text = client
            .expect_refusal(&subscribe(pattern), "FORBIDDEN")
            .await;
        assert_eq!(
            text,
            format!("Key 'reader' may not subscribe to '{pattern}'")
        );
    }
    for pattern in ["orders.*", "prices.>", "prices.*", "prices.*.de"] {
        client.subscribe(pattern).await;
    }
    let mut admin = connect(&broker, ROOT.1).await;
    admin
        .expect_refusal(&subscribe(">"), "LIMIT_EXCEEDED")
        .await;
    for (topic, matched) in [("orders.eu", 1), ("prices.eu.de", 1), ("other.eu", 0)] {
        assert_eq!(admin.publish(topic, 1).await["matched"], matched);
    }
    // What it may not have it may leave, like what it does not have.
    client.expect_event("orders.eu").await;
    client.expect_event("prices.eu.de").await;
    assert!(client.unsubscribe("secret.>").await.is_empty());
}

#[tokio::test]
async fn patterns_that_are_not_allowed_any_more_end_and_say_so() {
    let file = KeyFile::new(&key("reader-key", r#"subscribe = [">"]"#));
    let broker = file.broker(&[("SHARDS", "3")]);
    create(&broker, &["a.1", "b.1"]).await;
    let mut client = connect(&broker, "reader-key").await;
    for topic in [">", "*.1", "a.*", "a.1", "b.*"] {
        client.subscribe(topic).await;
    }
    file.replace(&key("reader-key", r#"subscribe = ["a.*"]"#));
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(client.expect_error("FORBIDDEN").await);
    }
    told.sort();
    let words = ["*.1", ">", "b.*"].map(|of| format!("Key 'reader' may not subscribe to '{of}'"));
    assert_eq!(told, words);
    let mut admin = connect(&broker, ROOT.1).await;
    for (topic, matched) in [("a.1", 1), ("b.1", 0)] {
        assert_eq!(admin.publish(topic, 1).await["matched"], matched);
    }
    client.expect_event("a.1").await;
    create(&broker, &["a.2", "b.2"]).await;
    let created = client.recv().await;
    assert_eq!(
        (&created["msg"], &created["topic"]),
        (&json!("topic_created"), &json!("a.2"))
    );
    for (topic, matched) in [("a.2", 1), ("b.2", 0)] {
        assert_eq!(admin.publish(topic, 1).await["matched"], matched);
    }
    client.expect_event("a.2").await;
    // What it has lost it may be given again.
    file.replace(&key("reader-key", r#"subscribe = ["a.*", "b.*"]"#));
    eventually("the new rights", async || {
        client.send_text(&subscribe("b.*")).await;
        client.recv().await["type"] == "ack"
    })
    .await;
    assert_eq!(admin.publish("b.2", 1).await["matched"], 1);
    client.expect_event("b.2").await;
}

#[tokio::test]
async fn a_key_that_may_see_a_part_is_told_of_that_part() {
    let file = KeyFile::new(&key("reader-key", r#"subscribe = ["a.>"]"#));
    let broker = file.broker(&[]);
    let mut client = connect(&broker, "reader-key").await;
    client.subscribe("a.*").await;
    create(&broker, &["b.1", "a.1.x", "a.1"]).await;
    assert_eq!(client.recv().await["topic"], "a.1");
    assert!(client.settle().await.is_empty());
    let deleted = call(&broker, ROOT.1, "DELETE", "/topics/a.1", "").await;
    assert_eq!(deleted.status, 200);
    assert_eq!(client.recv().await["msg"], "topic_deleted");
}

#[tokio::test]
async fn a_client_that_takes_no_notices_is_let_go() {
    let broker = Broker::start(&[
        ("SHARDS", "2"),
        ("AUTO_CREATE_TOPICS", "true"),
        ("SUBSCRIBER_QUEUE_BYTES", "65536"),
        ("WRITE_WAIT_SEC", "3600"),
    ]);
    let mut deaf = Client::connect(&broker).await;
    deaf.subscribe("t.>").await;
    let mut publisher = Client::connect(&broker).await;
    let long = "x".repeat(240);
    for number in 0.. {
        let topics: Vec<_> = (0..200)
            .map(|of| format!("t.{of}.{number}.{long}"))
            .collect();
        for topic in &topics {
            let topic: String = topic.chars().take(250).collect();
            let text = crate::harness::client::publish(&topic, 1);
            publisher.send_text(&text).await;
        }
        for _ in &topics {
            publisher.recv().await;
        }
        if broker.health("subscribers").await == 0 {
            break;
        }
        assert!(number < 100, "its notices have no bound");
    }
    eventually("its end", async || {
        let ended = broker.get("/connections?closed=1").await.json();
        ended["connections"][0]["code"] == 1013
    })
    .await;
}
