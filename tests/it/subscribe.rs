//! `subscribe` and `unsubscribe`: what is replayed, in which order, and that nothing comes twice or afterwards.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::number;

/// A broker with a topic `orders` that holds this many messages.
async fn broker_with(messages: u64, settings: &[(&str, &str)]) -> (Broker, Client) {
    let broker = Broker::start(settings);
    broker.create_topic("orders").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders", 1..=messages, 10).await;
    (broker, publisher)
}

/// What a new subscriber with these fields is replayed, shown by a live event behind it.
async fn replayed(broker: &Broker, publisher: &mut Client, further: Value) -> Vec<u64> {
    let mut subscriber = Client::connect(broker).await;
    subscriber.subscribe_with("orders", further).await;
    let live = number(&publisher.publish("orders", "live").await, "seq");
    let mut seqs = subscriber.expect_seqs_to("orders", live).await;
    assert_eq!(seqs.pop(), Some(live));
    seqs
}

#[tokio::test]
async fn an_unknown_topic_is_not_found() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    client
        .send(json!({"type": "subscribe", "topic": "orders"}))
        .await;
    let text = client.expect_error("TOPIC_NOT_FOUND").await;
    assert_eq!(text, "Topic 'orders' does not exist");
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn a_missing_or_illegal_topic_is_a_bad_request() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    let too_long = "x".repeat(256);
    for topic in [
        json!(""),
        json!("a*"),
        json!(">.a"),
        json!("a\nb"),
        json!("\0"),
        json!(too_long),
        json!(7),
        json!(["a"]),
    ] {
        for kind in ["subscribe", "unsubscribe"] {
            let command = json!({"type": kind, "topic": topic});
            client
                .expect_refusal(&command.to_string(), "BAD_REQUEST")
                .await;
        }
    }
    client
        .expect_refusal(r#"{"type":"subscribe"}"#, "BAD_REQUEST")
        .await;
}

#[tokio::test]
async fn the_ack_comes_first_then_the_replay_oldest_first_then_live_events() {
    let (broker, mut publisher) = broker_with(5, &[]).await;
    let mut subscriber = Client::connect(&broker).await;
    let ack = subscriber
        .subscribe_with("orders", json!({"last_n": 3}))
        .await;
    assert_eq!(ack["seq"], 5);
    publisher.publish("orders", "live").await;
    let seqs = subscriber.expect_seqs_to("orders", 6).await;
    assert_eq!(seqs, [3, 4, 5, 6]);
}

#[tokio::test]
async fn nothing_is_replayed_unless_asked_for() {
    let (broker, mut publisher) = broker_with(5, &[]).await;
    for further in [
        json!({}),
        json!({"last_n": null}),
        json!({"last_n": 0}),
        json!({"last_n": -1}),
        json!({"last_n": i64::MIN}),
    ] {
        let seqs = replayed(&broker, &mut publisher, further).await;
        assert_eq!(seqs, [0; 0]);
    }
}

#[tokio::test]
async fn last_n_beyond_the_history_gives_what_there_is() {
    let (broker, mut publisher) = broker_with(3, &[]).await;
    let seqs = replayed(&broker, &mut publisher, json!({"last_n": 50})).await;
    assert_eq!(seqs, [1, 2, 3]);
    let seqs = replayed(
        &broker,
        &mut publisher,
        json!({"last_n": 5_000_000_000_u64}),
    )
    .await;
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[tokio::test]
async fn the_history_holds_the_newest_messages_up_to_its_size() {
    let (broker, mut publisher) = broker_with(12, &[("RING_BUFFER_SIZE", "5")]).await;
    let seqs = replayed(&broker, &mut publisher, json!({"last_n": 100})).await;
    assert_eq!(seqs, [8, 9, 10, 11, 12]);
}

#[tokio::test]
async fn the_history_holds_100_messages_by_default() {
    let (broker, mut publisher) = broker_with(150, &[]).await;
    let seqs = replayed(&broker, &mut publisher, json!({"last_n": 1000})).await;
    assert_eq!(seqs, (51..=150).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_history_of_size_zero_replays_nothing() {
    let (broker, mut publisher) = broker_with(3, &[("RING_BUFFER_SIZE", "0")]).await;
    let seqs = replayed(&broker, &mut publisher, json!({"last_n": 3})).await;
    assert_eq!(seqs, [0; 0]);
}

#[tokio::test]
async fn a_replay_longer_than_the_queue_is_complete() {
    let settings = [
        ("RING_BUFFER_SIZE", "1000"),
        ("SUBSCRIBER_QUEUE_SIZE", "10"),
    ];
    let (broker, mut publisher) = broker_with(1000, &settings).await;
    let seqs = replayed(&broker, &mut publisher, json!({"last_n": 1000})).await;
    assert_eq!(seqs, (1..=1000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_last_n_that_is_no_count_is_a_bad_request() {
    let (broker, _publisher) = broker_with(1, &[]).await;
    let mut client = Client::connect(&broker).await;
    for last_n in ["1.5", "-1.5", "1e2", "-", "\"3\"", "true", "[1]", "{}"] {
        let text = format!(r#"{{"type":"subscribe","topic":"orders","last_n":{last_n}}}"#);
        client.expect_refusal(&text, "BAD_REQUEST").await;
    }
    assert_eq!(broker.subscribers_of("orders").await, 0);
}

#[tokio::test]
async fn subscribing_again_never_doubles_delivery() {
    let (broker, mut publisher) = broker_with(2, &[]).await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    subscriber.subscribe("orders").await;
    subscriber.subscribe("orders").await;
    assert_eq!(broker.subscribers_of("orders").await, 1);
    assert_eq!(publisher.publish("orders", "live").await["matched"], 1);
    assert_eq!(subscriber.expect_event("orders").await["seq"], 3);
    assert_eq!(subscriber.settle().await, [json!(null); 0]);
}

#[tokio::test]
async fn subscribing_again_replays_again_if_asked() {
    let (broker, mut publisher) = broker_with(3, &[]).await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    for _ in 0..2 {
        subscriber
            .subscribe_with("orders", json!({"last_n": 2}))
            .await;
        assert_eq!(subscriber.expect_seqs_to("orders", 3).await, [2, 3]);
    }
    publisher.publish("orders", "live").await;
    assert_eq!(subscriber.expect_event("orders").await["seq"], 4);
    assert_eq!(subscriber.settle().await, [json!(null); 0]);
}

#[tokio::test]
async fn one_unsubscribe_ends_what_two_subscribes_began() {
    let (broker, mut publisher) = broker_with(0, &[]).await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    subscriber.subscribe("orders").await;
    subscriber.unsubscribe("orders").await;
    assert_eq!(publisher.publish("orders", 1).await["matched"], 0);
    assert_eq!(subscriber.settle().await, [json!(null); 0]);
}

#[tokio::test]
async fn unsubscribe_is_acked_without_a_subscription() {
    let (broker, _publisher) = broker_with(0, &[]).await;
    let mut client = Client::connect(&broker).await;
    let ack = client
        .ask(json!({"type": "unsubscribe", "topic": "orders"}))
        .await;
    assert_eq!(
        (&ack["type"], &ack["status"]),
        (&json!("ack"), &json!("ok"))
    );
}

#[tokio::test]
async fn unsubscribe_from_an_unknown_topic_is_answered() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    let answer = client
        .ask(json!({"type": "unsubscribe", "topic": "nowhere"}))
        .await;
    let refused = answer["error"]["code"] == "TOPIC_NOT_FOUND";
    assert!(refused || answer["type"] == "ack", "{answer}");
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_follows_the_ack_of_unsubscribe() {
    let (broker, mut publisher) = broker_with(0, &[]).await;
    let storm = tokio::spawn(async move { publisher.publish_all("orders", 0_u64.., 5).await });
    let mut subscriber = Client::connect(&broker).await;
    for _ in 0..50 {
        subscriber.subscribe("orders").await;
        subscriber.expect_event("orders").await;
        subscriber.unsubscribe("orders").await;
        assert_eq!(subscriber.settle().await, [json!(null); 0]);
    }
    storm.abort();
}

#[tokio::test]
async fn a_subscription_can_be_taken_up_again() {
    let (broker, mut publisher) = broker_with(0, &[]).await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    subscriber.unsubscribe("orders").await;
    publisher.publish("orders", "missed").await;
    subscriber.subscribe("orders").await;
    publisher.publish("orders", "heard").await;
    assert_eq!(subscriber.expect_event("orders").await["seq"], 2);
}

#[tokio::test]
async fn unsubscribing_from_one_topic_keeps_the_others() {
    let (broker, mut publisher) = broker_with(0, &[]).await;
    broker.create_topic("trades").await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    subscriber.subscribe("trades").await;
    subscriber.unsubscribe("orders").await;
    publisher.publish("orders", 1).await;
    publisher.publish("trades", 1).await;
    subscriber.expect_event("trades").await;
    assert_eq!(subscriber.settle().await, [json!(null); 0]);
}
