//! The heartbeat: who is pinged, who is given up, and who is not.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::json::{is_timestamp, keys};
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
