//! Sequence numbers, epochs, and `since`: what a client that was away gets back, and what it is told is lost.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::number;

/// A topic `orders` with this many messages, a publisher, and the topic's epoch.
async fn topic_with(messages: u64, settings: &[(&str, &str)]) -> (Broker, Client, String) {
    let broker = Broker::start(settings);
    broker.create_topic("orders").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders", 1..=messages, 10).await;
    let epoch = epoch_of(&broker).await;
    (broker, publisher, epoch)
}

async fn epoch_of(broker: &Broker) -> String {
    let ack = Client::connect(broker).await.subscribe("orders").await;
    let epoch = ack["epoch"].as_str().expect("an epoch");
    assert!(!epoch.is_empty());
    epoch.to_owned()
}

/// Subscribes with `since`; says `recovered`, and what was replayed before all was quiet.
async fn since(broker: &Broker, epoch: &str, seq: u64) -> (Value, Vec<u64>) {
    let mut client = Client::connect(broker).await;
    let since = json!({"epoch": epoch, "seq": seq});
    let ack = client
        .subscribe_with("orders", json!({"since": since}))
        .await;
    let events = client.settle().await;
    let seqs = events.iter().map(|event| number(event, "seq")).collect();
    (ack["recovered"].clone(), seqs)
}

#[tokio::test]
async fn seq_counts_a_topics_messages_from_one() {
    let (broker, mut first, _) = topic_with(0, &[]).await;
    let mut second = Client::connect(&broker).await;
    for expected in [1, 3, 5] {
        assert_eq!(first.publish("orders", 0).await["seq"], expected);
        assert_eq!(second.publish("orders", 0).await["seq"], expected + 1);
    }
    broker.create_topic("trades").await;
    assert_eq!(first.publish("trades", 0).await["seq"], 1);
}

#[tokio::test]
async fn a_refused_message_takes_no_seq() {
    let (_broker, mut publisher, _) = topic_with(1, &[]).await;
    let bad = json!({"type": "publish", "topic": "orders", "message": {"id": "x", "payload": 1}});
    publisher
        .expect_refusal(&bad.to_string(), "BAD_REQUEST")
        .await;
    assert_eq!(publisher.publish("orders", 0).await["seq"], 2);
}

#[tokio::test]
async fn the_ack_of_subscribe_tells_the_newest_seq() {
    let (broker, mut publisher, _) = topic_with(0, &[]).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.subscribe("orders").await["seq"], 0);
    client.unsubscribe("orders").await;
    publisher.publish_all("orders", 1..=7, 7).await;
    assert_eq!(client.subscribe("orders").await["seq"], 7);
}

#[tokio::test]
async fn an_epoch_lasts_as_long_as_its_topic() {
    let (broker, mut publisher, epoch) = topic_with(3, &[]).await;
    assert_eq!(epoch_of(&broker).await, epoch);
    broker.delete_topic("orders").await;
    broker.create_topic("orders").await;
    assert_ne!(epoch_of(&broker).await, epoch);
    assert_eq!(publisher.publish("orders", 0).await["seq"], 1);
}

#[tokio::test]
async fn two_topics_have_two_epochs() {
    let (broker, _publisher, epoch) = topic_with(0, &[]).await;
    broker.create_topic("trades").await;
    let ack = Client::connect(&broker).await.subscribe("trades").await;
    assert_ne!(ack["epoch"], epoch.as_str());
}

#[tokio::test]
async fn since_replays_exactly_what_is_after_it() {
    let (broker, _publisher, epoch) = topic_with(10, &[]).await;
    for seq in [0, 1, 4, 9, 10] {
        let (recovered, seqs) = since(&broker, &epoch, seq).await;
        assert_eq!(recovered, true, "since {seq}");
        assert_eq!(seqs, (seq + 1..=10).collect::<Vec<u64>>());
    }
}

#[tokio::test]
async fn recovered_is_false_where_the_history_no_longer_reaches() {
    let (broker, _publisher, epoch) = topic_with(10, &[("RING_BUFFER_SIZE", "5")]).await;
    for (seq, expected) in [(0, false), (4, false), (5, true), (6, true)] {
        let (recovered, seqs) = since(&broker, &epoch, seq).await;
        assert_eq!(recovered, expected, "since {seq}");
        assert_eq!(seqs, (seq.max(5) + 1..=10).collect::<Vec<u64>>());
    }
}

#[tokio::test]
async fn another_epoch_replays_everything_and_is_not_recovered() {
    let (broker, mut publisher, epoch) = topic_with(5, &[]).await;
    broker.delete_topic("orders").await;
    broker.create_topic("orders").await;
    publisher.publish_all("orders", 1..=8, 8).await;
    let (recovered, seqs) = since(&broker, &epoch, 5).await;
    assert_eq!(recovered, false);
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn without_a_history_only_the_newest_seq_is_recovered() {
    let (broker, _publisher, epoch) = topic_with(3, &[("RING_BUFFER_SIZE", "0")]).await;
    assert_eq!(since(&broker, &epoch, 3).await, (json!(true), vec![]));
    assert_eq!(since(&broker, &epoch, 2).await, (json!(false), vec![]));
}

#[tokio::test]
async fn without_since_nothing_is_said_of_recovery() {
    let (broker, _publisher, _) = topic_with(3, &[]).await;
    let mut client = Client::connect(&broker).await;
    let ack = client.subscribe_with("orders", json!({"last_n": 3})).await;
    assert_eq!(ack.get("recovered"), None);
}

#[tokio::test]
async fn a_since_that_is_no_position_is_a_bad_request() {
    let (broker, _publisher, _) = topic_with(1, &[]).await;
    let mut client = Client::connect(&broker).await;
    for since in [
        "5",
        "\"x\"",
        "[]",
        "{}",
        r#"{"epoch":"x"}"#,
        r#"{"seq":1}"#,
        r#"{"epoch":7,"seq":1}"#,
        r#"{"epoch":"x","seq":-1}"#,
        r#"{"epoch":"x","seq":1.5}"#,
        r#"{"epoch":"x","seq":"1"}"#,
    ] {
        let text = format!(r#"{{"type":"subscribe","topic":"orders","since":{since}}}"#);
        client.expect_refusal(&text, "BAD_REQUEST").await;
    }
    assert_eq!(broker.subscribers_of("orders").await, 0);
}

#[tokio::test]
async fn a_client_that_was_away_gets_exactly_what_it_missed() {
    let (broker, mut publisher, epoch) = topic_with(0, &[]).await;
    let mut client = Client::subscribed(&broker, "orders").await;
    publisher.publish_all("orders", 1..=3, 1).await;
    client.expect_seqs_to("orders", 3).await;
    client.close().await;
    publisher.publish_all("orders", 4..=9, 1).await;
    let (recovered, seqs) = since(&broker, &epoch, 3).await;
    assert_eq!((recovered, seqs), (json!(true), vec![4, 5, 6, 7, 8, 9]));
}

#[tokio::test]
async fn an_acked_message_is_in_the_history() {
    let (broker, mut publisher, _) = topic_with(0, &[]).await;
    let mut reader = Client::connect(&broker).await;
    for number in 1..=200 {
        publisher.publish("orders", number).await;
        let ack = reader.subscribe_with("orders", json!({"last_n": 1})).await;
        assert_eq!(ack["seq"], number);
        assert_eq!(reader.expect_event("orders").await["seq"], number);
        reader.unsubscribe("orders").await;
    }
}
