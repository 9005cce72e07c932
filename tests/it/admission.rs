//! Who gets in when there are too many: whoever asks, and whoever has a key.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::descriptors::starve;
use crate::harness::eventually;
use crate::harness::http::Rest;
use crate::harness::raw::{RawSocket, upgrade_request};

#[tokio::test]
async fn the_longest_silent_socket_makes_room_for_whoever_asks() {
    // One core takes its sockets in the order in which they came.
    let broker = Broker::start(&[("HTTP_CONNECTIONS_MAX", "4"), ("SHARDS", "1")]);
    let mut client = Client::connect(&broker).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(RawSocket::dial(&broker).await);
    }
    for _ in 0..5 {
        assert_eq!(broker.get("/health").await.status, 200);
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    for mut socket in silent.drain(..36) {
        assert!(socket.wire.rest("its end").await.is_empty());
    }
}

#[tokio::test]
async fn kept_alive_connections_make_room_too() {
    let broker = Broker::start(&[("HTTP_CONNECTIONS_MAX", "2")]);
    let mut first = Rest::open(&broker).await;
    assert_eq!(first.request("GET", "/health", &[], "").await.status, 200);
    let mut second = Rest::open(&broker).await;
    assert_eq!(second.request("GET", "/health", &[], "").await.status, 200);
    assert_eq!(first.request("GET", "/health", &[], "").await.status, 200);
    let mut third = Rest::open(&broker).await;
    assert_eq!(third.request("GET", "/health", &[], "").await.status, 200);
    assert!(second.wire.rest("its end").await.is_empty());
    assert_eq!(first.request("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_refused_upgrade_keeps_no_socket() {
    let broker = Broker::start(&[("MAX_CONNECTIONS", "1")]);
    let _client = Client::connect(&broker).await;
    let mut refused = RawSocket::dial(&broker).await;
    refused.send(upgrade_request("/ws").as_bytes()).await;
    let answer = refused.upgrade_response().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (503, Some("close"))
    );
    refused.wire.rest("the end of a refused client").await;
}

#[tokio::test]
async fn more_connections_than_descriptors_are_cut_with_a_line() {
    let settings = [("MAX_CONNECTIONS", "1000"), ("SHARDS", "4")];
    let broker = Broker::start_with_descriptors(120, &settings);
    assert!(broker.log().contains("MAX_CONNECTIONS=1000 is more"));
    let mut clients = Vec::new();
    let refused = loop {
        let mut socket = RawSocket::dial(&broker).await;
        socket.send(upgrade_request("/ws").as_bytes()).await;
        let answer = socket.upgrade_response().await;
        if answer.status != 101 {
            break answer;
        }
        clients.push(socket);
    };
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(clients.len() >= 30, "only {}", clients.len());
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(RawSocket::dial(&broker).await);
    }
    assert_eq!(broker.get("/health").await.status, 200);
    assert!(!broker.log().contains("cannot accept"), "{}", broker.log());
}

#[tokio::test]
async fn without_a_descriptor_a_client_is_closed_and_not_left_hanging() {
    let broker = Broker::start(&[]);
    let starved = starve(&broker).await;
    starved.feed(&broker);
    eventually("a broker that answers again", async || {
        let mut socket = RawSocket::dial(&broker).await;
        socket.is_open(b"GET /health HTTP/1.0\r\n\r\n").await
            && !socket.wire.rest("an answer or the end").await.is_empty()
    })
    .await;
    assert!(broker.log().contains("cannot accept"));
}

fn auth(settings: &[(&'static str, &'static str)]) -> Broker {
    let auth = [("AUTH_ENABLED", "true"), ("API_KEYS", "k")];
    Broker::start(&[&auth[..], settings].concat())
}

const AUTH: &str = r#"{"type":"auth","api_key":"k"}"#;

#[tokio::test]
async fn clients_without_a_key_take_no_seat_from_those_with_one() {
    let broker = auth(&[("MAX_CONNECTIONS", "1"), ("UNAUTHENTICATED_MAX", "2")]);
    let mut first = RawSocket::connect(&broker).await;
    let mut second = RawSocket::connect(&broker).await;
    let third = broker.upgrade("/ws", &[]).await;
    assert_eq!(third.status, 503, "{}", third.body);
    let wrong = broker.upgrade("/ws", &[("X-API-Key", "wrong")]).await;
    assert_eq!(wrong.status, 503, "{}", wrong.body);
    let keyed = Client::connect_with(&broker, "/ws", &[("x-api-key", "k")]).await;

    // All seats are taken: the key is right, and there is no room all the same.
    let refused = first.ask(AUTH).await;
    assert_eq!(refused["error"]["code"], "LIMIT_EXCEEDED", "{refused}");
    assert_eq!(first.expect_close().await, Some(1008));

    keyed.close().await;
    eventually("the seat of the client that left", async || {
        let free = broker.upgrade("/ws", &[("X-API-Key", "k")]).await.status;
        free == 101
    })
    .await;
    eventually("room for one that has still to send its key", async || {
        broker.upgrade("/ws", &[]).await.status == 101
    })
    .await;
    let acked = second.ask(AUTH).await;
    assert_eq!(acked["status"], "authenticated", "{acked}");
}
