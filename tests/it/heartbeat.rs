//! The heartbeat: who is pinged, who is given up, and who is not.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::interval;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::{is_timestamp, keys, padded};
use crate::harness::raw::{FIN, Frame, PING, PONG, RawSocket, TEXT, masked};

const QUICK: [(&str, &str); 2] = [("PING_PERIOD_SEC", "1"), ("PONG_WAIT_SEC", "2")];

async fn frames(socket: &mut RawSocket, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        frames.push(socket.recv_frame().await.expect("a heartbeat"));
    }
    frames
}

#[tokio::test]
async fn a_heartbeat_is_a_ping_and_an_info() {
    let broker = Broker::start(&[("PING_PERIOD_SEC", "1")]);
    let mut socket = RawSocket::connect(&broker).await;
    let frames = frames(&mut socket, 4).await;
    let pings = frames.iter().filter(|frame| frame.opcode == PING).count();
    assert_eq!(pings, 2, "{frames:?}");
    for frame in frames.iter().filter(|frame| frame.opcode == TEXT) {
        let text = str::from_utf8(&frame.payload).expect("text is UTF-8");
        assert_eq!(keys(text), "type msg ts");
        let info: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(
            (&info["type"], &info["msg"]),
            (&json!("info"), &json!("ping"))
        );
        assert!(info["ts"].as_str().is_some_and(is_timestamp), "{info}");
    }
}

#[tokio::test]
async fn heartbeat_info_can_be_switched_off() {
    let broker = Broker::start(&[("PING_PERIOD_SEC", "1"), ("HEARTBEAT_INFO", "false")]);
    let mut socket = RawSocket::connect(&broker).await;
    let frames = frames(&mut socket, 2).await;
    assert!(
        frames.iter().all(|frame| frame.opcode == PING),
        "{frames:?}"
    );
}

#[tokio::test]
async fn a_silent_client_is_given_up_and_one_that_answers_is_not() {
    let broker = Broker::start(&QUICK);
    let mut silent = RawSocket::connect(&broker).await;
    let mut alive = RawSocket::connect(&broker).await;
    let answer = async {
        for _ in 0..4 {
            let ping = loop {
                let frame = alive.recv_frame().await.expect("a heartbeat");
                if frame.opcode == PING {
                    break frame;
                }
            };
            alive.send(&masked(FIN | PONG, &ping.payload)).await;
        }
    };
    tokio::join!(silent.expect_end(), answer);
    alive.send_text(r#"{"type":"ping"}"#).await;
    while alive.recv().await["type"] != "pong" {}
}

#[tokio::test]
async fn a_short_wait_alone_still_leaves_time_to_answer() {
    let broker = Broker::start(&[("PONG_WAIT_SEC", "1")]);
    let mut silent = RawSocket::connect(&broker).await;
    let mut alive = RawSocket::connect(&broker).await;
    let answer = async {
        let mut pings = 0;
        while pings < 4 {
            let frame = alive.recv_frame().await.expect("a heartbeat");
            if frame.opcode == PING {
                alive.send(&masked(FIN | PONG, &frame.payload)).await;
                pings += 1;
            }
        }
    };
    tokio::join!(silent.expect_end(), answer);
}

#[tokio::test]
async fn any_sign_of_life_counts() {
    let broker = Broker::start(&QUICK);
    let mut socket = RawSocket::connect(&broker).await;
    for _ in 0..4 {
        // Commands, but never a pong.
        let heartbeat = socket.recv().await;
        assert_eq!(heartbeat["msg"], "ping", "{heartbeat}");
        assert_eq!(socket.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    }
}

#[tokio::test]
async fn a_subscriber_that_was_given_up_is_counted_no_more() {
    let broker = Broker::start(&QUICK);
    broker.create_topic("orders").await;
    let mut silent = RawSocket::connect(&broker).await;
    silent.ask(r#"{"type":"subscribe","topic":"orders"}"#).await;
    assert_eq!(broker.subscribers_of("orders").await, 1);
    silent.expect_end().await;
    crate::harness::eventually("no subscriber", async || {
        broker.subscribers_of("orders").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_long_message_that_comes_slowly_is_a_sign_of_life() {
    let broker = Broker::start(&QUICK);
    let mut socket = RawSocket::connect(&broker).await;
    let frame = masked(FIN | TEXT, padded(r#"{"type":"ping"}"#, 30_000).as_bytes());
    let (head, tail) = frame.split_at(8_000);
    socket.send(head).await;
    let mut pace = interval(Duration::from_millis(300));
    for piece in tail.chunks(tail.len() / 10 + 1) {
        pace.tick().await;
        socket.send(piece).await;
    }
    while socket.recv().await["type"] != "pong" {}
}

#[tokio::test]
async fn a_client_that_is_slow_with_a_long_replay_but_answers_is_not_given_up() {
    let broker = Broker::start(&QUICK);
    broker.create_topic("orders").await;
    let mut publisher = Client::connect(&broker).await;
    let payloads = (0..100).map(|_| "x".repeat(60_000));
    publisher.publish_all("orders", payloads, 10).await;
    let mut socket = RawSocket::connect_small(&broker).await;
    socket
        .ask(r#"{"type":"subscribe","topic":"orders","last_n":100}"#)
        .await;
    let mut pace = interval(Duration::from_millis(100));
    let mut events = 0;
    while events < 100 {
        if events % 4 == 0 {
            pace.tick().await;
            socket.send(&masked(FIN | PONG, b"")).await;
        }
        events += usize::from(socket.recv().await["type"] == "event");
    }
    socket.send_text(r#"{"type":"ping"}"#).await;
    while socket.recv().await["type"] != "pong" {}
}
