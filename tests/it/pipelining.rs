//! Commands that arrive many at a time, or a byte at a time: each is answered, and replies keep the order.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::json::{member, message_id, padded, publish_text};
use crate::harness::raw::{self, RawSocket};

const PING: &str = r#"{"type":"ping","request_id":"ping"}"#;

fn publish(topic: &str, request: usize) -> String {
    let message = json!({"id": message_id(), "payload": request});
    let request = request.to_string();
    json!({"type": "publish", "topic": topic, "message": message, "request_id": request})
        .to_string()
}

/// Sends all in one write; gives the request id of each reply.
async fn replies(socket: &mut RawSocket, commands: &[String]) -> Vec<Value> {
    let bytes: Vec<_> = commands.iter().flat_map(|text| raw::text(text)).collect();
    socket.send(&bytes).await;
    let mut ids = Vec::new();
    for _ in commands {
        ids.push(socket.recv().await["request_id"].clone());
    }
    ids
}

fn expected(publishes: usize) -> Vec<Value> {
    let ids = (0..publishes).map(|n| json!(n.to_string()));
    ids.chain([json!("ping")]).collect()
}

#[tokio::test]
async fn a_pong_comes_after_the_acks_of_all_publishes_before_it() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let mut commands: Vec<_> = (0..100).map(|n| publish("orders", n)).collect();
    commands.push(PING.to_owned());
    assert_eq!(replies(&mut socket, &commands).await, expected(100));
}

#[tokio::test]
async fn across_topics_a_pong_still_comes_last_and_each_topic_keeps_its_order() {
    const TOPICS: usize = 10;
    let broker = Broker::start(&[("SHARDS", "4")]);
    for topic in 0..TOPICS {
        broker.create_topic(&format!("t{topic}")).await;
    }
    let mut socket = RawSocket::connect(&broker).await;
    for _ in 0..10 {
        let publishes = (0..100).map(|n| publish(&format!("t{}", n % TOPICS), n));
        let commands: Vec<_> = publishes.chain([PING.to_owned()]).collect();
        let mut replies = replies(&mut socket, &commands).await;
        assert_eq!(replies.pop(), Some(json!("ping")));
        let numbers = replies.iter().map(|id| id.as_str().expect("an id").parse());
        let mut numbers: Vec<usize> = numbers.collect::<Result<_, _>>().expect("numbers");
        // Stable: within a topic the order is the one in which they came.
        numbers.sort_by_key(|number| number % TOPICS);
        let expected = (0..TOPICS).flat_map(|topic| (topic..100).step_by(TOPICS));
        assert_eq!(numbers, expected.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn errors_keep_their_place_among_acks() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let bad = json!({"type": "publish", "topic": "orders", "request_id": "1"});
    let commands = [
        publish("orders", 0),
        bad.to_string(),
        publish("nowhere", 2),
        publish("orders", 3),
        PING.to_owned(),
    ];
    assert_eq!(replies(&mut socket, &commands).await, expected(4));
}

#[tokio::test]
async fn subscribe_publish_and_ping_in_one_write_are_all_answered() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let subscribe = r#"{"type":"subscribe","topic":"orders","request_id":"subscribe"}"#;
    let commands = [subscribe, &publish("orders", 0), PING];
    let bytes: Vec<_> = commands.iter().flat_map(|text| raw::text(text)).collect();
    socket.send(&bytes).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let message = socket.recv().await;
        let name = message["request_id"].as_str().unwrap_or("event");
        seen.push(name.to_owned());
    }
    assert_eq!(seen[0], "subscribe", "{seen:?}");
    seen.retain(|name| name != "event");
    assert_eq!(seen, ["subscribe", "0", "ping"]);
}

#[tokio::test]
async fn a_sender_of_single_bytes_is_understood() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::dial(&broker).await;
    for byte in raw::upgrade_request("/ws").into_bytes() {
        socket.send(&[byte]).await;
    }
    assert_eq!(socket.upgrade_response().await.status, 101);
    let long = padded(PING, 300);
    for text in [PING, &long] {
        for byte in raw::text(text) {
            socket.send(&[byte]).await;
        }
        assert_eq!(socket.recv().await["request_id"], "ping");
    }
}

#[tokio::test]
async fn frames_cut_anywhere_are_understood() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::connect(&broker).await;
    let two = [raw::text(PING), raw::text(PING)].concat();
    for cut in 1..two.len() {
        let (head, tail) = two.split_at(cut);
        socket.send(head).await;
        socket.send(tail).await;
        for _ in 0..2 {
            assert_eq!(socket.recv().await["request_id"], "ping", "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_burst_of_messages_of_every_length_arrives_whole_and_in_order() {
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "1000")]);
    broker.create_topic("orders").await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let lengths = (0..300).chain([65_000, 0, 1000, 65_000, 126, 65_000]);
    let payloads: Vec<_> = lengths
        .map(|length| format!("\"{:x<length$}\"", ""))
        .collect();
    let commands = payloads
        .iter()
        .map(|payload| publish_text("orders", payload));
    let bytes: Vec<_> = commands.flat_map(|command| raw::text(&command)).collect();
    let mut publisher = RawSocket::connect(&broker).await;
    publisher.send(&bytes).await;
    for payload in payloads {
        let event = subscriber.recv_raw().await;
        assert_eq!(member(&member(&event, "message"), "payload"), payload);
    }
}

#[tokio::test]
async fn replies_around_an_unsubscribe_keep_the_order_of_commands() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let about = |kind: &str, request: usize| {
        json!({"type": kind, "topic": "orders", "request_id": request.to_string()}).to_string()
    };
    let commands = [
        about("subscribe", 0),
        about("unsubscribe", 1),
        publish("orders", 2),
        about("subscribe", 3),
        about("subscribe", 4),
        about("unsubscribe", 5),
        publish("orders", 6),
        PING.to_owned(),
    ];
    assert_eq!(replies(&mut socket, &commands).await, expected(7));
}

#[tokio::test]
async fn publishes_between_other_commands_fill_no_ring_of_who_reads() {
    let broker = Broker::start(&[("SHARDS", "1"), ("SUBSCRIBER_QUEUE_SIZE", "10")]);
    broker.create_topic("orders").await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let other = r#"{"type":"unsubscribe","topic":"other"}"#;
    let commands = (0..100).flat_map(|n| [publish("orders", n), other.to_owned()]);
    let bytes: Vec<_> = commands.flat_map(|text| raw::text(&text)).collect();
    socket.send(&bytes).await;
    let seqs = subscriber.expect_seqs_to("orders", 100).await;
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_publisher_is_served_although_it_does_not_read_its_events() {
    let settings = [("SHARDS", "1"), ("COMMANDS_IN_FLIGHT_MAX", "10")];
    let broker = Broker::start(&settings);
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect_small(&broker).await;
    socket.ask(r#"{"type":"subscribe","topic":"orders"}"#).await;
    let message = json!({"id": message_id(), "payload": "x".repeat(1000)});
    let command = json!({"type": "publish", "topic": "orders", "message": message, "ack": false});
    let command = raw::text(&command.to_string());
    for _ in 0..1000 {
        socket.send(&command).await;
    }
    eventually("all messages to be accepted", async || {
        let stats = broker.get("/stats").await.json();
        stats["totals"]["messages"] == 1000
    })
    .await;
}

#[tokio::test]
async fn many_that_meet_at_full_inboxes_are_all_answered() {
    const COMMANDS: usize = 200;
    let settings = [
        ("SHARDS", "2"),
        ("SHARD_INBOX_SIZE", "1"),
        ("COMMANDS_IN_FLIGHT_MAX", "1"),
    ];
    let broker = Broker::start(&settings);
    let mut clients = JoinSet::new();
    for _ in 0..24 {
        let mut socket = RawSocket::connect(&broker).await;
        let topics = ["orders", "invoices", "returns", "stock"];
        let commands: Vec<_> = (0..COMMANDS).map(|n| publish(topics[n % 4], n)).collect();
        clients.spawn(async move {
            let expected: Vec<_> = (0..COMMANDS).map(|n| json!(n.to_string())).collect();
            assert_eq!(replies(&mut socket, &commands).await, expected);
        });
    }
    clients.join_all().await;
}
