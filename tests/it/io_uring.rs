//! With one system call for a turn or one for each socket: clients cannot tell.
//!
//! The whole suite runs either way (`SHARDCAST_TEST_IO_URING=off cargo test --test it`); these always run both.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::PATIENCE;
use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::number;
use crate::harness::raw::RawSocket;

const EVENTS: u64 = 120;

/// Fifty subscribers, one of which stalls and reads again, and the end of it all.
async fn assert_serves(io_uring: &str) {
    let settings = [
        ("IO_URING", io_uring),
        ("SUBSCRIBER_QUEUE_SIZE", "10"),
        ("WRITE_WAIT_SEC", "60"),
        ("SHARDS", "2"),
    ];
    let mut broker = Broker::start(&settings);
    broker.create_topic("t").await;
    let stats = broker.get("/stats").await.json();
    if io_uring == "off" {
        assert_eq!(stats["totals"]["io_uring"], false);
    }
    let mut stalled = RawSocket::connect_small(&broker).await;
    assert_eq!(
        stalled.ask(r#"{"type":"subscribe","topic":"t"}"#).await["type"],
        "ack"
    );
    let mut subscribers = Vec::new();
    for _ in 0..49 {
        subscribers.push(Client::subscribed(&broker, "t").await);
    }
    let mut publisher = Client::connect(&broker).await;
    for seq in 1..=EVENTS {
        let ack = publisher.publish("t", "x".repeat(20_000)).await;
        assert_eq!((&ack["seq"], &ack["matched"]), (&json!(seq), &json!(50)));
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.expect_event("t").await["seq"], seq);
        }
    }
    stalled.widen();
    let (mut received, mut dropped, mut newest) = (0, 0, 0);
    while newest < EVENTS {
        let message = stalled.recv().await;
        if message["type"] == "event" {
            received += 1;
            newest = number(&message, "seq");
        } else if message["type"] == "error" {
            dropped += number(&message, "dropped");
        }
    }
    assert!(dropped > 0, "the stalled subscriber was not stalled");
    assert_eq!(received + dropped, EVENTS);
    broker.signal(Signal::TERM);
    let mut endings = JoinSet::new();
    for mut subscriber in subscribers {
        endings.spawn(async move { subscriber.expect_close().await });
    }
    for (code, before) in endings.join_all().await {
        assert_eq!((code, before.len()), (1001, 1), "{before:?}");
        assert_eq!(before[0]["msg"], "shutting_down");
    }
    assert_eq!(stalled.expect_close().await, Some(1001));
    let (code, took) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn clients_are_served_with_one_write_for_each() {
    assert_serves("off").await;
}

#[tokio::test]
async fn clients_are_served_with_what_the_kernel_offers() {
    assert_serves("auto").await;
}
