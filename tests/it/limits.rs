//! Everything has a limit, says so when it is reached, and has room again afterwards.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::Rest;
use crate::harness::json::publish_text;
use crate::harness::raw::{RawSocket, upgrade_request};

#[tokio::test]
async fn connections_over_the_limit_get_503() {
    let broker = Broker::start(&[("MAX_CONNECTIONS", "2")]);
    let first = Client::connect(&broker).await;
    let mut second = Client::connect(&broker).await;
    let refused = broker.upgrade("/ws", &[]).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.json()["code"], "LIMIT_EXCEEDED");
    assert_eq!(second.ask(json!({"type": "ping"})).await["type"], "pong");
    first.close().await;
    eventually("room for another connection", async || {
        broker.upgrade("/ws", &[]).await.status == 101
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_does_not_get_past_the_limit() {
    let broker = Arc::new(Broker::start(&[("MAX_CONNECTIONS", "10"), ("SHARDS", "4")]));
    let mut storm = JoinSet::new();
    for _ in 0..200 {
        let broker = Arc::clone(&broker);
        storm.spawn(async move {
            let mut socket = RawSocket::dial(&broker).await;
            socket.send(upgrade_request("/ws").as_bytes()).await;
            (socket.upgrade_response().await.status, socket)
        });
    }
    let answers = storm.join_all().await;
    let taken = answers.iter().filter(|(status, _)| *status == 101).count();
    assert_eq!(taken, 10);
}

#[tokio::test]
async fn subscriptions_over_the_limit_are_refused() {
    let broker = Broker::start(&[("MAX_SUBSCRIPTIONS_PER_CONNECTION", "2")]);
    for topic in ["a", "b", "c"] {
        broker.create_topic(topic).await;
    }
    let mut client = Client::subscribed(&broker, "a").await;
    client.subscribe("b").await;
    let third = r#"{"type":"subscribe","topic":"c"}"#;
    client.expect_refusal(third, "LIMIT_EXCEEDED").await;
    // One that is there already takes no further room.
    client.subscribe("a").await;
    client.unsubscribe("a").await;
    client.subscribe("c").await;
    let mut other = Client::connect(&broker).await;
    other.subscribe("a").await;
}

#[tokio::test]
async fn a_refused_or_deleted_subscription_takes_no_room() {
    let broker = Broker::start(&[("MAX_SUBSCRIPTIONS_PER_CONNECTION", "1")]);
    broker.create_topic("a").await;
    broker.create_topic("b").await;
    let mut client = Client::connect(&broker).await;
    let nowhere = r#"{"type":"subscribe","topic":"nowhere"}"#;
    for _ in 0..3 {
        client.expect_refusal(nowhere, "TOPIC_NOT_FOUND").await;
    }
    client.subscribe("a").await;
    broker.delete_topic("a").await;
    assert_eq!(client.recv().await["msg"], "topic_deleted");
    client.subscribe("b").await;
}

#[tokio::test]
async fn topics_over_the_limit_are_refused() {
    let broker = Broker::start(&[("MAX_TOPICS", "2"), ("SHARDS", "4")]);
    broker.create_topic("a").await;
    broker.create_topic("b").await;
    let refused = broker.post_topic("c").await;
    assert!(refused.status >= 400, "{}", refused.status);
    assert_eq!(refused.json()["code"], "LIMIT_EXCEEDED");
    assert_eq!(broker.health("topics").await, 2);
    broker.delete_topic("a").await;
    broker.create_topic("c").await;
}

#[tokio::test]
async fn topics_are_created_at_first_use_where_that_is_switched_on() {
    let broker = Broker::start(&[("AUTO_CREATE_TOPICS", "true")]);
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish("orders", 1).await["matched"], 1);
    subscriber.expect_event("orders").await;
    assert_eq!(publisher.publish("trades", 1).await["seq"], 1);
    assert_eq!(broker.health("topics").await, 2);
}

#[tokio::test]
async fn automatic_topics_keep_to_the_limit_and_to_legal_names() {
    let broker = Broker::start(&[("AUTO_CREATE_TOPICS", "true"), ("MAX_TOPICS", "1")]);
    let mut client = Client::connect(&broker).await;
    client.publish("a", 1).await;
    let second = r#"{"type":"subscribe","topic":"b"}"#;
    client.expect_refusal(second, "LIMIT_EXCEEDED").await;
    client
        .expect_refusal(&publish_text("b", "1"), "LIMIT_EXCEEDED")
        .await;
    client
        .expect_refusal(&publish_text("b*", "1"), "BAD_REQUEST")
        .await;
    assert_eq!(broker.health("topics").await, 1);
}

#[tokio::test]
async fn half_a_request_is_cut_off_and_others_are_served_meanwhile() {
    let broker = Broker::start(&[("READ_TIMEOUT_SEC", "1")]);
    let mut halves = Vec::new();
    for _ in 0..50 {
        let mut socket = RawSocket::dial(&broker).await;
        let request = upgrade_request("/ws");
        socket.send(&request.as_bytes()[..request.len() / 2]).await;
        halves.push(socket);
    }
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    for mut socket in halves {
        let answer = socket.wire.rest("the end of half a request").await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.contains(" 408 "), "{answer}");
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn a_request_that_trickles_in_is_cut_off_too() {
    let broker = Broker::start(&[("READ_TIMEOUT_SEC", "1")]);
    let mut socket = RawSocket::dial(&broker).await;
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let start = std::time::Instant::now();
    let endless = b"GET /ws HTTP/1.1\r\nX: "
        .iter()
        .chain(std::iter::repeat(&b'x'));
    for byte in endless {
        pace.tick().await;
        if !socket.is_open(&[*byte]).await {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "still open");
    }
}

#[tokio::test]
async fn an_endless_request_head_is_refused() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::dial(&broker).await;
    let head = format!("GET /health HTTP/1.1\r\nX: {}\r\n", "x".repeat(4 << 20));
    socket.wire.offer(head.as_bytes()).await;
    let answer = socket.wire.rest("the end of an endless head").await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn an_idle_http_connection_is_closed_where_that_is_switched_on() {
    let broker = Broker::start(&[("IDLE_TIMEOUT_SEC", "1")]);
    let mut rest = Rest::open(&broker).await;
    assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
    assert_eq!(rest.wire.rest("the end of an idle connection").await, b"");
}
