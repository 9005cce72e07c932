//! `publish`: what is required of it, and what its ack says.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::{keys, message_id, number, publish_text};

async fn broker() -> Broker {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    broker
}

#[tokio::test]
async fn an_incomplete_publish_is_a_bad_request() {
    let broker = broker().await;
    let mut client = Client::connect(&broker).await;
    let id = message_id();
    for (topic, message) in [
        (json!("orders"), Value::Null),
        (json!("orders"), json!("text")),
        (json!("orders"), json!([])),
        (json!("orders"), json!({})),
        (json!("orders"), json!({"payload": 1})),
        (json!("orders"), json!({"id": 7, "payload": 1})),
        (json!(""), json!({"id": id, "payload": 1})),
        (json!("a*"), json!({"id": id, "payload": 1})),
        (Value::Null, json!({"id": id, "payload": 1})),
    ] {
        let command = json!({"type": "publish", "topic": topic, "message": message});
        client
            .expect_refusal(&command.to_string(), "BAD_REQUEST")
            .await;
    }
    let stats = broker.get("/stats").await.json();
    assert_eq!(stats["topics"]["orders"]["messages"], 0);
}

#[tokio::test]
async fn absent_parts_of_a_publish_are_a_bad_request() {
    let broker = broker().await;
    let mut client = Client::connect(&broker).await;
    let id = message_id();
    for command in [
        json!({"type": "publish", "topic": "orders"}),
        json!({"type": "publish", "message": {"id": id, "payload": 1}}),
        json!({"type": "publish"}),
    ] {
        client
            .expect_refusal(&command.to_string(), "BAD_REQUEST")
            .await;
    }
}

#[tokio::test]
async fn a_message_id_must_be_a_uuid() {
    let broker = broker().await;
    let mut client = Client::connect(&broker).await;
    for id in [
        "",
        "1",
        "550e8400-e29b-41d4-a716",
        "g50e8400-e29b-41d4-a716-446655440000",
    ] {
        let message = json!({"id": id, "payload": 1});
        let command = json!({"type": "publish", "topic": "orders", "message": message});
        let text = client
            .expect_refusal(&command.to_string(), "BAD_REQUEST")
            .await;
        assert_eq!(text, "message.id must be a valid UUID");
    }
}

#[tokio::test]
async fn a_message_id_is_delivered_as_it_was_sent() {
    let broker = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    for id in [
        "550e8400-e29b-41d4-a716-446655440000",
        "550E8400-E29B-41D4-A716-44665544ABCD",
    ] {
        let message = json!({"id": id, "payload": 1});
        let command = json!({"type": "publish", "topic": "orders", "message": message});
        assert_eq!(publisher.ask(command).await["type"], "ack");
        let event = subscriber.expect_event("orders").await;
        assert_eq!(event["message"]["id"], id);
    }
}

#[tokio::test]
async fn an_unknown_topic_is_not_found() {
    let broker = broker().await;
    let mut client = Client::connect(&broker).await;
    let text = client
        .expect_refusal(&publish_text("trades", "1"), "TOPIC_NOT_FOUND")
        .await;
    assert_eq!(text, "Topic 'trades' does not exist");
}

#[tokio::test]
async fn unknown_fields_of_a_message_are_ignored() {
    let broker = broker().await;
    let mut client = Client::connect(&broker).await;
    let message = json!({"id": message_id(), "x": {"payload": 2}, "payload": 1, "y": []});
    let command = json!({"message": message, "z": 1, "topic": "orders", "type": "publish"});
    assert_eq!(client.ask(command).await["type"], "ack");
}

#[tokio::test]
async fn an_ack_counts_the_subscribers_that_were_offered_the_message() {
    let broker = broker().await;
    let mut publisher = Client::connect(&broker).await;
    let mut subscribers = Vec::new();
    for count in 0..3 {
        let ack = publisher.publish("orders", count).await;
        assert_eq!((&ack["matched"], ack.get("dropped")), (&json!(count), None));
        subscribers.push(Client::subscribed(&broker, "orders").await);
    }
}

#[tokio::test]
async fn a_publisher_that_subscribes_hears_itself() {
    let broker = broker().await;
    let mut client = Client::subscribed(&broker, "orders").await;
    client.send_text(&publish_text("orders", "1")).await;
    let types = [client.recv().await, client.recv().await].map(|m| m["type"].clone());
    assert_eq!(types, ["event", "ack"]);
}

#[tokio::test]
async fn own_events_come_before_their_acks_whatever_else_is_under_way() {
    let broker = Broker::start(&[("SHARDS", "4"), ("SUBSCRIBER_QUEUE_SIZE", "10000")]);
    let topics = ["a", "b", "c", "d", "e"];
    let mut client = Client::connect(&broker).await;
    for topic in topics {
        broker.create_topic(topic).await;
        client.subscribe(topic).await;
    }
    for number in 0..500 {
        let topic = topics[number % topics.len()];
        client.send_text(&publish_text(topic, "1")).await;
    }
    let mut events = BTreeMap::new();
    let mut acked = 0;
    while acked < 500 {
        let message = client.recv().await;
        let (topic, seq) = (message["topic"].to_string(), number(&message, "seq"));
        if message["type"] == "event" {
            events.insert(topic, seq);
        } else {
            assert!(events[&topic] >= seq, "{message} before its event");
            acked += 1;
        }
    }
}

#[tokio::test]
async fn a_publish_without_ack_is_delivered_and_not_acked() {
    let broker = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    let message = json!({"id": message_id(), "payload": 1});
    let command = json!({"type": "publish", "topic": "orders", "message": message, "ack": false});
    publisher.send(command).await;
    assert_eq!(subscriber.expect_event("orders").await["seq"], 1);
    assert_eq!(publisher.settle().await, [json!(null); 0]);
}

#[tokio::test]
async fn a_publish_without_ack_still_gets_its_errors() {
    let broker = broker().await;
    let mut publisher = Client::connect(&broker).await;
    let message = json!({"id": message_id(), "payload": 1});
    for (topic, message, code) in [
        ("trades", message, "TOPIC_NOT_FOUND"),
        ("orders", json!({"id": "x", "payload": 1}), "BAD_REQUEST"),
    ] {
        let command = json!({"type": "publish", "topic": topic, "message": message, "ack": false});
        publisher.expect_refusal(&command.to_string(), code).await;
    }
}

#[tokio::test]
async fn a_publish_with_ack_true_is_acked() {
    let broker = broker().await;
    let mut publisher = Client::connect(&broker).await;
    let message = json!({"id": message_id(), "payload": 1});
    let command = json!({"type": "publish", "topic": "orders", "message": message, "ack": true});
    assert_eq!(publisher.ask(command).await["type"], "ack");
}

#[tokio::test]
async fn messages_sent_before_a_close_are_delivered() {
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "1000")]);
    broker.create_topic("orders").await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    for number in 0..100 {
        let text = publish_text("orders", &number.to_string());
        publisher.send_text(&text).await;
    }
    publisher.close().await;
    let seqs = subscriber.expect_seqs_to("orders", 100).await;
    assert_eq!(seqs.len(), 100);
}

#[tokio::test]
async fn once_publishes_an_id_that_is_kept_no_second_time() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "3")]);
    broker.create_topic("t").await;
    let mut subscriber = Client::subscribed(&broker, "t").await;
    let mut publisher = Client::connect(&broker).await;
    let publish = |id: &str, once: &str| {
        format!(
            r#"{{"type":"publish","topic":"t","message":{{"id":"{id}","payload":1,"once":{once}}}}}"#
        )
    };
    let (first, second) = (message_id(), message_id());
    let ack = publisher.ask_raw(&publish(&first, "true")).await;
    assert_eq!(keys(&ack), "type topic status ts seq matched");
    let ack = publisher.ask_raw(&publish(&first, "true")).await;
    assert_eq!(keys(&ack), "type topic status ts seq matched duplicate");
    assert!(
        ack.ends_with(r#""seq":1,"matched":0,"duplicate":true}"#),
        "{ack}"
    );
    // In one piece with others, and in front of it in the same.
    for text in [
        publish(&second, "true"),
        publish(&second, "true"),
        publish(&first, "false"),
        publish(&first, "null"),
    ] {
        publisher.send_text(&text).await;
    }
    let mut told = Vec::new();
    for _ in 0..4 {
        let ack = publisher.recv().await;
        told.push((number(&ack, "seq"), ack["duplicate"] == true));
    }
    assert_eq!(told, [(2, false), (2, true), (3, false), (4, false)]);
    subscriber.expect_seqs_to("t", 4).await;
    // `second` is kept, and then no more.
    let again = publish(&second, "true");
    assert_eq!(number(&publisher.ask(parse(&again)).await, "seq"), 2);
    publisher.publish_all("t", 0..3, 1).await;
    let ack = publisher.ask(parse(&again)).await;
    assert_eq!((number(&ack, "seq"), &ack["duplicate"]), (8, &Value::Null));
    subscriber.expect_seqs_to("t", 8).await;
    publisher
        .expect_refusal(&publish(&first, "1"), "BAD_REQUEST")
        .await;
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}
