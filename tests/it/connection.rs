//! `GET /ws`: who may become a connection, and what a connection's identity is.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::harness::broker::Broker;
use crate::harness::client::{Client, publish};
use crate::harness::eventually;
use crate::harness::raw::{self, CLOSE, FIN, RawSocket};

#[tokio::test]
async fn client_id_is_optional() {
    let broker = Broker::start(&[]);
    for path in ["/ws", "/ws?client_id=s1", "/ws?client_id=", "/ws?other=1"] {
        let mut client = Client::connect_with(&broker, path, &[]).await;
        let pong = client.ask(json!({"type": "ping"})).await;
        assert_eq!(pong["type"], "pong", "{path}");
    }
}

#[tokio::test]
async fn two_connections_with_one_client_id_are_two_subscribers() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut twins = [
        Client::connect_as(&broker, "s1").await,
        Client::connect_as(&broker, "s1").await,
    ];
    for twin in &mut twins {
        twin.subscribe_with("orders", json!({"client_id": "s1"}))
            .await;
    }
    assert_eq!(broker.subscribers_of("orders").await, 2);
    let mut publisher = Client::connect_as(&broker, "s1").await;
    assert_eq!(publisher.publish("orders", 1).await["matched"], 2);
    for twin in &mut twins {
        assert_eq!(twin.expect_event("orders").await["seq"], 1);
        assert_eq!(twin.settle().await, [json!(null); 0]);
    }
}

#[tokio::test]
async fn the_end_of_a_connection_leaves_its_namesake_alone() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut first = Client::connect_as(&broker, "s1").await;
    let mut second = Client::connect_as(&broker, "s1").await;
    first.subscribe("orders").await;
    second.subscribe("orders").await;
    first.close().await;
    eventually("one subscriber", async || {
        broker.subscribers_of("orders").await == 1
    })
    .await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish("orders", 1).await;
    second.expect_event("orders").await;
}

#[tokio::test]
async fn a_namesake_that_unsubscribes_unsubscribes_only_itself() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut first = Client::connect_as(&broker, "s1").await;
    let mut second = Client::connect_as(&broker, "s1").await;
    first.subscribe("orders").await;
    second.subscribe("orders").await;
    first.unsubscribe("orders").await;
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish("orders", 1).await["matched"], 1);
    second.expect_event("orders").await;
}

#[tokio::test]
async fn the_client_id_of_a_command_names_no_other_connection() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut named = Client::connect_as(&broker, "s1").await;
    let mut other = Client::connect_as(&broker, "s2").await;
    other
        .subscribe_with("orders", json!({"client_id": "s1"}))
        .await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish("orders", 1).await;
    other.expect_event("orders").await;
    assert_eq!(named.settle().await, [json!(null); 0]);
}

#[tokio::test]
async fn a_binary_message_with_json_is_a_command() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    let command = r#"{"type":"ping","request_id":"é"}"#;
    client.send_message(Message::binary(command)).await;
    let pong = client.recv().await;
    assert_eq!(
        (pong["type"].as_str(), pong["request_id"].as_str()),
        (Some("pong"), Some("é"))
    );
}

#[tokio::test]
async fn a_binary_message_that_is_not_utf8_closes_with_1007() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    let bytes = b"{\"type\":\"ping\",\"request_id\":\"\xff\"}";
    client.send_message(Message::binary(&bytes[..])).await;
    assert_eq!(client.expect_close().await, (1007, vec![]));
}

#[tokio::test]
async fn the_handshake_answers_the_key_of_the_rfc() {
    let broker = Broker::start(&[]);
    let response = broker.upgrade("/ws", &[]).await;
    assert_eq!(response.status, 101);
    let accept = response.header("sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(response.header("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn no_extension_is_accepted() {
    let broker = Broker::start(&[]);
    let offer = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    let response = broker.upgrade("/ws", &offer).await;
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn frames_right_behind_the_handshake_are_read() {
    let broker = Broker::start(&[]);
    let mut socket = RawSocket::dial(&broker).await;
    let mut bytes = raw::upgrade_request("/ws").into_bytes();
    bytes.extend(raw::text(r#"{"type":"ping","request_id":"early"}"#));
    socket.send(&bytes).await;
    assert_eq!(socket.upgrade_response().await.status, 101);
    assert_eq!(socket.recv().await["request_id"], "early");
}

#[tokio::test]
async fn a_plain_get_is_told_to_upgrade() {
    let broker = Broker::start(&[]);
    let response = broker.get("/ws").await;
    assert_eq!(response.status, 426);
    assert_eq!(response.header("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn an_upgrade_to_something_else_is_told_to_upgrade() {
    let broker = Broker::start(&[]);
    let headers = [("Connection", "Upgrade"), ("Upgrade", "h2c")];
    let response = broker.request("GET", "/ws", &headers, "").await;
    assert_eq!(response.status, 426);
    assert_eq!(response.header("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused() {
    let broker = Broker::start(&[]);
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let response = broker.request("GET", "/ws", &headers, "").await;
    assert_eq!(response.status, 426);
    assert_eq!(response.header("sec-websocket-version"), Some("13"));
}

#[tokio::test]
async fn a_handshake_without_a_key_is_refused() {
    let broker = Broker::start(&[]);
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
    ];
    let response = broker.request("GET", "/ws", &headers, "").await;
    assert!(
        matches!(response.status, 400 | 426),
        "{}: {}",
        response.status,
        response.body
    );
}

#[tokio::test]
async fn any_origin_is_allowed_by_default() {
    let broker = Broker::start(&[]);
    let origin = [("Origin", "https://anywhere.example")];
    assert_eq!(broker.upgrade("/ws", &origin).await.status, 101);
}

#[tokio::test]
async fn only_listed_origins_are_allowed() {
    let list = "https://a.example,https://b.example:8443";
    let broker = Broker::start(&[("ALLOWED_ORIGINS", list)]);
    assert_eq!(broker.upgrade("/ws", &[]).await.status, 101);
    for (origin, status) in [
        ("https://a.example", 101),
        ("https://b.example:8443", 101),
        ("https://b.example", 403),
        ("http://a.example", 403),
        ("https://a.example.evil.example", 403),
        ("https://evil-a.example", 403),
        ("null", 403),
    ] {
        let response = broker.upgrade("/ws", &[("Origin", origin)]).await;
        assert_eq!(response.status, status, "{origin}");
    }
}

#[tokio::test]
async fn a_subscribe_right_before_the_close_leaves_no_subscriber_behind() {
    let broker = Broker::start(&[("SHARDS", "2")]);
    broker.create_topic("orders").await;
    let subscribe = raw::text(r#"{"type":"subscribe","topic":"orders"}"#);
    let bytes = [subscribe, raw::masked(FIN | CLOSE, b"")].concat();
    for _ in 0..20 {
        let mut socket = RawSocket::connect(&broker).await;
        socket.send(&bytes).await;
        socket.expect_close().await;
        let mut rude = RawSocket::connect(&broker).await;
        rude.send(&bytes).await;
    }
    eventually("no subscriber", async || {
        broker.subscribers_of("orders").await == 0
    })
    .await;
}

#[tokio::test]
async fn publishes_right_before_the_close_are_accepted_through_a_full_inbox() {
    let broker = Broker::start(&[("SHARDS", "1"), ("SHARD_INBOX_SIZE", "1")]);
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let publishes = (0..60).map(|n| raw::text(&publish("orders", n)));
    let mut bytes = publishes.collect::<Vec<_>>().concat();
    bytes.extend(raw::masked(FIN | CLOSE, b""));
    socket.send(&bytes).await;
    socket.expect_close().await;
    let stats = broker.get("/stats").await.json();
    assert_eq!(stats["topics"]["orders"]["messages"], 60);
}

#[tokio::test]
async fn a_close_is_answered_at_once() {
    let broker = Broker::start(&[]);
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut socket = RawSocket::connect(&broker).await;
        let start = Instant::now();
        socket.send(&raw::masked(FIN | CLOSE, b"")).await;
        socket.expect_close().await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    assert!(times[2] < Duration::from_millis(50), "{times:?}");
}

#[tokio::test]
async fn a_close_is_answered_although_the_client_sends_nothing_more() {
    let broker = Broker::start(&[]);
    for _ in 0..5 {
        let mut socket = RawSocket::connect(&broker).await;
        socket.send(&raw::masked(FIN | CLOSE, b"\x03\xE8")).await;
        let end = socket.wire.stream.shutdown().await;
        end.expect("the broker has not hung up yet");
        assert_eq!(socket.expect_close().await, Some(1000));
    }
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_still_gets_all_answers() {
    let broker = Broker::start(&[("SHARDS", "2")]);
    broker.create_topic("orders").await;
    broker.create_topic("trades").await;
    let mut other = Client::subscribed(&broker, "orders").await;
    let mut socket = RawSocket::connect(&broker).await;
    let mut bytes = Vec::new();
    for round in 0..50 {
        let topic = ["orders", "trades"][round % 2];
        bytes.extend(raw::text(&publish(topic, round)));
        bytes.extend(raw::text(&format!(
            r#"{{"type":"ping","request_id":"{round}"}}"#
        )));
    }
    socket.send(&bytes).await;
    socket.wire.shut_down().await;
    for round in 0..50 {
        let ack = socket.recv().await;
        assert_eq!(ack["type"], "ack", "{ack}");
        let pong = socket.recv().await;
        assert_eq!(pong["request_id"], round.to_string(), "{pong}");
    }
    assert_eq!(socket.wire.rest("the end").await, b"");
    assert_eq!(other.expect_seqs_to("orders", 25).await.len(), 25);
}

#[tokio::test]
async fn a_subscriber_that_closes_its_sending_side_gets_its_replay_and_then_the_end() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut publisher = Client::connect(&broker).await;
    let payloads = (0..100).map(|_| "x".repeat(20_000));
    publisher.publish_all("orders", payloads, 10).await;
    let mut socket = RawSocket::connect_small(&broker).await;
    socket
        .send_text(r#"{"type":"subscribe","topic":"orders","last_n":100}"#)
        .await;
    socket.wire.shut_down().await;
    assert_eq!(socket.recv().await["type"], "ack");
    for seq in 1..=100 {
        assert_eq!(socket.recv().await["seq"], seq);
    }
    assert_eq!(socket.wire.rest("the end").await, b"");
    eventually("no subscriber", async || {
        broker.subscribers_of("orders").await == 0
    })
    .await;
}
