//! Shutdown: everybody is told, nothing acked is lost, and it ends in time whatever clients do.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::{Client, publish};
use crate::harness::http::Rest;
use crate::harness::json::{keys, number};
use crate::harness::raw::RawSocket;
use crate::harness::{PATIENCE, eventually};

const AT_ONCE: Duration = Duration::from_secs(5);

/// A broker whose drain cannot end by itself: a subscriber reads nothing, and waits for more than sockets buffer.
async fn broker_held_open(timeout_sec: &str) -> (Broker, RawSocket) {
    let settings = [
        ("SUBSCRIBER_QUEUE_SIZE", "10000"),
        ("SUBSCRIBER_QUEUE_BYTES", "100000000"),
        ("WRITE_WAIT_SEC", "60"),
        ("SHUTDOWN_TIMEOUT_SEC", timeout_sec),
    ];
    let broker = Broker::start(&settings);
    broker.create_topic("orders").await;
    let mut stalled = RawSocket::connect_small(&broker).await;
    stalled
        .ask(r#"{"type":"subscribe","topic":"orders"}"#)
        .await;
    let mut publisher = Client::connect(&broker).await;
    let payloads = std::iter::repeat_n("x".repeat(1024), 7000);
    publisher.publish_all("orders", payloads, 50).await;
    publisher.close().await;
    (broker, stalled)
}

async fn until_draining(broker: &Broker) {
    eventually("the drain", async || {
        broker.get("/ready").await.status == 503
    })
    .await;
}

#[tokio::test]
async fn a_broker_without_clients_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start(&[]);
        broker.signal(signal);
        let (code, took) = broker.wait_exit(PATIENCE).await;
        assert_eq!(code, 0);
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[tokio::test]
async fn every_client_is_told_and_closed_with_1001() {
    let mut broker = Broker::start(&[("SHUTDOWN_TIMEOUT_SEC", "30")]);
    broker.create_topic("orders").await;
    let mut clients = [
        Client::connect(&broker).await,
        Client::subscribed(&broker, "orders").await,
        Client::subscribed(&broker, "orders").await,
    ];
    broker.signal(Signal::TERM);
    for client in &mut clients {
        let info = client.recv_raw().await;
        assert_eq!(keys(&info), "type msg ts retry_after_ms");
        assert!(info.starts_with(r#"{"type":"info","msg":"shutting_down","ts":""#));
        let (code, before) = client.expect_close().await;
        assert_eq!((code, before), (1001, vec![]));
    }
    let (code, took) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 0);
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn an_idle_http_connection_does_not_hold_it_up() {
    let mut broker = Broker::start(&[("SHUTDOWN_TIMEOUT_SEC", "30")]);
    let mut rest = Rest::open(&broker).await;
    rest.request("GET", "/health", &[], "").await;
    broker.signal(Signal::TERM);
    let (code, took) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 0);
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn a_stalled_client_holds_it_up_no_longer_than_the_timeout() {
    let (mut broker, _stalled) = broker_held_open("2").await;
    broker.signal(Signal::TERM);
    let (code, took) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 0);
    let allowed = Duration::from_millis(1500)..Duration::from_secs(5);
    assert!(allowed.contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (mut broker, _stalled) = broker_held_open("60").await;
    broker.signal(Signal::TERM);
    until_draining(&broker).await;
    broker.signal(Signal::TERM);
    let (code, took) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 1);
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn newcomers_are_turned_away_while_it_drains() {
    let (broker, _stalled) = broker_held_open("60").await;
    broker.signal(Signal::TERM);
    until_draining(&broker).await;
    let refused = broker.upgrade("/ws", &[]).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"], "server is shutting down");
    assert_eq!(broker.get("/ready").await.status, 503);
}

#[tokio::test]
async fn a_client_that_reads_again_gets_all_that_was_acked_before_the_end() {
    let (mut broker, mut stalled) = broker_held_open("60").await;
    broker.signal(Signal::TERM);
    until_draining(&broker).await;
    stalled.widen();
    let mut seen = 0;
    while seen < 7000 {
        let message = stalled.recv().await;
        if message["type"] == "event" {
            assert_eq!(message["seq"], seen + 1);
            seen += 1;
        }
    }
    assert_eq!(stalled.expect_close().await, Some(1001));
    assert_eq!(broker.wait_exit(PATIENCE).await.0, 0);
}

#[tokio::test]
async fn no_command_is_accepted_after_the_notice() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut client = Client::connect(&broker).await;
    broker.signal(Signal::TERM);
    assert_eq!(client.recv().await["msg"], "shutting_down");
    // It may be closed already: then there is nobody to answer.
    if client.try_send(&publish("orders", 1)).await {
        let (code, before) = client.expect_close().await;
        assert_eq!(code, 1001);
        for answer in before {
            assert_eq!(answer["error"]["code"], "UNAVAILABLE", "{answer}");
        }
    }
}

/// Publishes until the broker says that it ends, and notes what was acked.
async fn publish_until_the_end(mut client: Client, acked: Arc<Mutex<Vec<u64>>>) {
    loop {
        for _ in 0..10 {
            if !client.try_send(&publish("orders", 1)).await {
                return;
            }
        }
        for _ in 0..10 {
            let Some(text) = client.recv_or_end("an ack").await else {
                return;
            };
            let message: Value = serde_json::from_str(&text).expect("messages are JSON");
            if message["type"] != "ack" {
                return;
            }
            let mut acked = acked.lock().expect("nobody panics with it");
            acked.push(number(&message, "seq"));
        }
    }
}

/// Every `seq` up to the end.
async fn read_to_the_end(mut client: Client) -> BTreeSet<u64> {
    let (code, messages) = client.expect_close().await;
    assert_eq!(code, 1001);
    let events = messages.iter().filter(|message| message["type"] == "event");
    events.map(|event| number(event, "seq")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acked_before_the_signal_reaches_every_subscriber_that_reads() {
    // Without the pause before the close, so that only order can keep the promise.
    let settings = [("SUBSCRIBER_QUEUE_SIZE", "100000"), ("DRAIN_GRACE_MS", "0")];
    let mut broker = Broker::start(&settings);
    broker.create_topic("orders").await;
    let mut subscribers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let client = Client::subscribed(&broker, "orders").await;
        subscribers.spawn(read_to_the_end(client));
    }
    let acked = Arc::default();
    for _ in 0..4 {
        let client = Client::connect(&broker).await;
        tokio::spawn(publish_until_the_end(client, Arc::clone(&acked)));
    }
    let snapshot = || acked.lock().expect("nobody panics with it").clone();
    eventually("a running storm", async || snapshot().len() > 2000).await;
    let acked_before = snapshot();
    broker.signal(Signal::TERM);
    for received in subscribers.join_all().await {
        let lost = acked_before.iter().filter(|seq| !received.contains(seq));
        assert_eq!(lost.count(), 0, "of {}", acked_before.len());
    }
    assert_eq!(broker.wait_exit(PATIENCE).await.0, 0);
}

#[tokio::test]
async fn commands_sent_before_the_signal_is_felt_are_answered_or_refused() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut client = Client::connect(&broker).await;
    for number in 0..200 {
        let command = json!({"type": "ping", "request_id": number.to_string()});
        client.send(command).await;
    }
    broker.signal(Signal::TERM);
    let (code, before) = client.expect_close().await;
    assert_eq!(code, 1001);
    let replies = before.iter().filter(|message| message["type"] != "info");
    for (reply, number) in replies.zip(0..) {
        assert_eq!(reply["request_id"], number.to_string(), "{reply}");
        let refused = reply["error"]["code"] == "UNAVAILABLE";
        assert!(refused || reply["type"] == "pong", "{reply}");
    }
}

#[tokio::test]
async fn each_client_gets_a_moment_of_its_own_to_come_back() {
    const CLIENTS: u64 = 20;
    let broker = Broker::start(&[("RECONNECT_SPREAD_SEC", "4"), ("DRAIN_GRACE_MS", "1000")]);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&broker).await);
    }
    broker.signal(Signal::TERM);
    let mut slots = Vec::new();
    for client in &mut clients {
        let told = client.recv().await;
        assert_eq!(told["msg"], "shutting_down", "{told}");
        slots.push(number(&told, "retry_after_ms"));
    }
    slots.sort_unstable();
    for (index, slot) in (0..).zip(&slots) {
        // Evenly, as far as cores have equally many.
        let even: u64 = index * 4000 / CLIENTS;
        assert!(slot.abs_diff(even) <= 4000 / CLIENTS, "{slots:?}");
    }
    slots.dedup();
    assert_eq!(slots.len() as u64, CLIENTS, "{slots:?}");
    let refused = broker.upgrade("/ws", &[]).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("4"))
    );
    let refused = broker.post_topic("orders").await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("4"))
    );
}
