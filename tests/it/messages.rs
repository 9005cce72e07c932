//! The letters of every message: the order of its keys, its timestamp, and that absent things are left out.

use jiff::Timestamp;
use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::{is_timestamp, keys, member, message_id, publish_text};

async fn broker() -> (Broker, Client) {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let client = Client::connect(&broker).await;
    (broker, client)
}

/// Checks the order of keys, with and without `request_id`, and that nothing is `null`.
async fn assert_reply_keys(client: &mut Client, command: serde_json::Value, expected: &str) {
    let without = client.ask_raw(&command.to_string()).await;
    assert_eq!(
        keys(&without),
        expected.replace("request_id ", ""),
        "{without}"
    );
    let mut command = command;
    command["request_id"] = json!("r1");
    let reply = client.ask_raw(&command.to_string()).await;
    assert_eq!(keys(&reply), expected, "{reply}");
    assert!(!reply.contains("null"), "{reply}");
    assert!(
        !reply.contains("\": ") && !reply.contains(", \""),
        "{reply}"
    );
    let ts: String = serde_json::from_str(&member(&reply, "ts")).expect("a string");
    assert!(is_timestamp(&ts), "{ts}");
}

#[tokio::test]
async fn the_ack_of_subscribe_has_its_shape() {
    let (_broker, mut client) = broker().await;
    let command = json!({"type": "subscribe", "topic": "orders"});
    assert_reply_keys(
        &mut client,
        command,
        "type request_id topic status ts epoch seq",
    )
    .await;
}

#[tokio::test]
async fn the_ack_of_subscribe_with_since_has_its_shape() {
    let (_broker, mut client) = broker().await;
    let epoch = client.subscribe("orders").await["epoch"].clone();
    let since = json!({"epoch": epoch, "seq": 0});
    let command = json!({"type": "subscribe", "topic": "orders", "since": since});
    let expected = "type request_id topic status ts epoch seq recovered";
    assert_reply_keys(&mut client, command, expected).await;
}

#[tokio::test]
async fn the_ack_of_unsubscribe_has_its_shape() {
    let (_broker, mut client) = broker().await;
    let command = json!({"type": "unsubscribe", "topic": "orders"});
    assert_reply_keys(&mut client, command, "type request_id topic status ts").await;
}

#[tokio::test]
async fn the_ack_of_publish_has_its_shape() {
    let (_broker, mut client) = broker().await;
    let message = json!({"id": message_id(), "payload": 1});
    let command = json!({"type": "publish", "topic": "orders", "message": message});
    let expected = "type request_id topic status ts seq matched";
    assert_reply_keys(&mut client, command, expected).await;
}

#[tokio::test]
async fn the_ack_of_auth_has_its_shape() {
    let (_broker, mut client) = broker().await;
    let command = json!({"type": "auth", "api_key": "any"});
    assert_reply_keys(&mut client, command, "type request_id status ts").await;
}

#[tokio::test]
async fn an_error_has_its_shape() {
    let (_broker, mut client) = broker().await;
    for command in [
        json!({"type": "subscribe", "topic": "nowhere"}),
        json!({"type": "dance"}),
    ] {
        assert_reply_keys(&mut client, command.clone(), "type request_id error ts").await;
        let error = client.ask_raw(&command.to_string()).await;
        assert_eq!(keys(&member(&error, "error")), "code message");
    }
}

#[tokio::test]
async fn a_pong_has_its_shape() {
    let (_broker, mut client) = broker().await;
    assert_reply_keys(&mut client, json!({"type": "ping"}), "type request_id ts").await;
}

#[tokio::test]
async fn an_event_has_its_shape() {
    let (broker, mut publisher) = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    publisher
        .publish("orders", json!({"any": "JSON value"}))
        .await;
    let event = subscriber.recv_raw().await;
    assert_eq!(keys(&event), "type topic message ts seq");
    assert_eq!(keys(&member(&event, "message")), "id payload");
    assert!(event.starts_with(r#"{"type":"event","topic":"orders","message":{"id":""#));
}

#[tokio::test]
async fn the_values_of_acks_are_those_of_the_contract() {
    let (broker, mut client) = broker().await;
    let ack = client.subscribe("orders").await;
    assert_eq!(
        (&ack["topic"], &ack["status"]),
        (&json!("orders"), &json!("ok"))
    );
    assert_eq!(ack["seq"], 0);
    let ack = client.ask(json!({"type": "auth", "api_key": "any"})).await;
    assert_eq!(ack["status"], "authenticated");
    let mut publisher = Client::connect(&broker).await;
    let ack = publisher.publish("orders", 1).await;
    assert_eq!(
        (&ack["topic"], &ack["status"]),
        (&json!("orders"), &json!("ok"))
    );
    assert_eq!((&ack["seq"], &ack["matched"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn timestamps_tell_the_time() {
    let (_broker, mut client) = broker().await;
    let before = Timestamp::now();
    let pong = client.ask(json!({"type": "ping"})).await;
    let ts: Timestamp = pong["ts"]
        .as_str()
        .and_then(|ts| ts.parse().ok())
        .expect("a timestamp");
    let slack = jiff::SignedDuration::from_secs(2);
    assert!(
        ts >= before - slack && ts <= Timestamp::now() + slack,
        "{ts}"
    );
}

#[tokio::test]
async fn a_topics_name_is_written_as_json() {
    let broker = Broker::start(&[]);
    let name = r#"a "b\c" / é 😀"#;
    broker.create_topic(name).await;
    let mut client = Client::subscribed(&broker, name).await;
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish(name, 1).await["topic"], name);
    client.expect_event(name).await;
}

#[tokio::test]
async fn every_subscriber_gets_the_same_bytes() {
    let (broker, mut publisher) = broker().await;
    let mut first = Client::subscribed(&broker, "orders").await;
    let mut second = Client::subscribed(&broker, "orders").await;
    publisher.publish("orders", 1).await;
    assert_eq!(first.recv_raw().await, second.recv_raw().await);
}

#[tokio::test]
async fn a_replayed_event_is_the_live_event_to_the_letter() {
    let (broker, mut publisher) = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    publisher.publish_all("orders", 1..=5, 1).await;
    let mut live = Vec::new();
    for _ in 1..=5 {
        live.push(subscriber.recv_raw().await);
    }
    let mut late = Client::connect(&broker).await;
    late.subscribe_with("orders", json!({"last_n": 5})).await;
    for event in live {
        assert_eq!(late.recv_raw().await, event);
    }
}

#[tokio::test]
async fn the_deletion_of_a_topic_is_told_to_its_subscribers() {
    let (broker, mut bystander) = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    broker.delete_topic("orders").await;
    let info = subscriber.recv_raw().await;
    assert_eq!(keys(&info), "type topic msg ts");
    assert!(info.starts_with(r#"{"type":"info","topic":"orders","msg":"topic_deleted","ts":""#));
    assert_eq!(bystander.settle().await, [json!(null); 0]);
}

#[tokio::test]
async fn the_deletion_of_a_topic_ends_its_subscriptions_and_no_connection() {
    let (broker, mut publisher) = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    broker.delete_topic("orders").await;
    assert_eq!(subscriber.recv().await["msg"], "topic_deleted");
    publisher
        .expect_refusal(&publish_text("orders", "1"), "TOPIC_NOT_FOUND")
        .await;
    broker.create_topic("orders").await;
    assert_eq!(publisher.publish("orders", 1).await["matched"], 0);
    assert_eq!(subscriber.settle().await, [json!(null); 0]);
    subscriber.subscribe("orders").await;
    publisher.publish("orders", 2).await;
    assert_eq!(subscriber.expect_event("orders").await["seq"], 2);
}
