//! Rates: what comes too soon is refused and said when it would be taken, and nobody else notices.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::broker::Broker;
use crate::harness::client::{Client, publish};
use crate::harness::eventually;
use crate::harness::json::{keys, member, number};
use crate::harness::keys::{KeyFile, ROOT, call, connect, create, key};

/// Pings `times` in one go. Returns the answers.
async fn burst(client: &mut Client, times: u64) -> Vec<Value> {
    for n in 0..times {
        client
            .send(json!({"type": "ping", "request_id": n.to_string()}))
            .await;
    }
    let mut answers = Vec::new();
    for n in 0..times {
        let answer = client.recv().await;
        assert_eq!(answer["request_id"], n.to_string(), "in their order");
        answers.push(answer);
    }
    answers
}

fn pongs(answers: &[Value]) -> usize {
    answers
        .iter()
        .filter(|answer| answer["type"] == "pong")
        .count()
}

#[tokio::test]
async fn above_the_rate_a_command_is_refused_and_says_when_to_come_back() {
    let broker = Broker::start(&[("RATE_MESSAGES_PER_SEC", "2"), ("RATE_BURST_MESSAGES", "5")]);
    let mut client = Client::connect(&broker).await;
    let answers = burst(&mut client, 8).await;
    assert_eq!(pongs(&answers[..5]), 5, "{answers:?}");
    let refused = &answers[7];
    assert_eq!(refused["error"]["code"], "LIMIT_EXCEEDED");
    let wait = number(refused, "retry_after_ms");
    assert!((1..=500).contains(&wait), "{wait}");
    sleep(Duration::from_millis(wait)).await;
    assert_eq!(pongs(&burst(&mut client, 1).await), 1);
}

#[tokio::test]
async fn a_refusal_has_its_shape() {
    let broker = Broker::start(&[("RATE_MESSAGES_PER_SEC", "1")]);
    let mut client = Client::connect(&broker).await;
    burst(&mut client, 1).await;
    let refused = client.ask_raw(r#"{"type":"ping","request_id":"r"}"#).await;
    assert_eq!(keys(&refused), "type request_id error ts retry_after_ms");
    assert_eq!(keys(&member(&refused, "error")), "code message");
}

#[tokio::test]
async fn what_is_refused_is_not_carried_out_and_every_command_counts() {
    let broker = Broker::start(&[("RATE_MESSAGES_PER_SEC", "1"), ("RATE_BURST_MESSAGES", "4")]);
    broker.create_topic("t").await;
    let mut listener = Client::subscribed(&broker, "t").await;
    let mut client = Client::connect(&broker).await;
    for kind in ["subscribe", "unsubscribe"] {
        let ack = client.ask(json!({"type": kind, "topic": "t"})).await;
        assert_eq!(ack["type"], "ack");
    }
    client.send_text("{").await;
    assert_eq!(client.recv().await["error"]["code"], "BAD_REQUEST");
    client.publish("t", 1).await;
    for payload in [2, 3] {
        client.send_text(&publish("t", payload)).await;
        client.expect_error("LIMIT_EXCEEDED").await;
    }
    assert_eq!(listener.expect_event("t").await["message"]["payload"], 1);
    assert_eq!(
        broker.get("/stats").await.json()["topics"]["t"]["messages"],
        1
    );
}

#[tokio::test]
async fn bytes_have_a_rate_of_their_own() {
    let broker = Broker::start(&[
        ("RATE_BYTES_PER_SEC", "4KiB"),
        ("AUTO_CREATE_TOPICS", "true"),
    ]);
    let mut client = Client::connect(&broker).await;
    // More than a second's worth comes through once, alone.
    client.publish("t", "x".repeat(8000)).await;
    client.send_text(&publish("t", "y")).await;
    client.expect_error("LIMIT_EXCEEDED").await;
    let mut other = Client::connect(&broker).await;
    other.publish("t", 1).await;
}

#[tokio::test]
async fn who_does_not_slow_down_is_disconnected() {
    let broker = Broker::start(&[("RATE_MESSAGES_PER_SEC", "1"), ("RATE_PATIENCE_SEC", "1")]);
    let mut client = Client::connect(&broker).await;
    let start = Instant::now();
    while client.try_send(r#"{"type":"ping"}"#).await {
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "it goes on for ever"
        );
        sleep(Duration::from_millis(20)).await;
    }
    let (code, before) = client.expect_close().await;
    assert_eq!(code, 1008);
    let last = before.last().expect("the last refusal");
    assert_eq!(last["error"]["code"], "LIMIT_EXCEEDED");
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn who_is_refused_now_and_then_stays() {
    let broker = Broker::start(&[
        ("RATE_MESSAGES_PER_SEC", "1"),
        ("RATE_BURST_MESSAGES", "1"),
        ("RATE_PATIENCE_SEC", "1"),
    ]);
    let mut client = Client::connect(&broker).await;
    for _ in 0..2 {
        let answers = burst(&mut client, 2).await;
        assert_eq!(pongs(&answers), 1);
        // Longer than an episode lasts after its last refusal.
        sleep(Duration::from_millis(1300)).await;
    }
    assert_eq!(pongs(&burst(&mut client, 1).await), 1);
}

/// Pings of all of `clients`, one after the other, until so many were refused.
async fn taken_until_refused(clients: &mut [Client], refusals: usize) -> usize {
    let (mut taken, mut refused) = (0, 0);
    while refused < refusals {
        for client in &mut *clients {
            let answer = client.ask(json!({"type": "ping"})).await;
            if answer["type"] == "pong" {
                taken += 1;
            } else {
                assert_eq!(answer["error"]["code"], "LIMIT_EXCEEDED", "{answer}");
                assert!(number(&answer, "retry_after_ms") <= 1000);
                refused += 1;
            }
        }
    }
    taken
}

#[tokio::test]
async fn a_key_has_one_rate_for_all_its_connections_and_its_requests() {
    let of_key = |rate: &str| {
        key("shared-key", &format!("observe = true\n{rate}")) + &key("other-key", "observe = true")
    };
    let file = KeyFile::new(&of_key("messages_per_sec = 10"));
    let broker = file.broker(&[("SHARDS", "2")]);
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(connect(&broker, "shared-key").await);
    }
    let start = Instant::now();
    let taken = taken_until_refused(&mut clients, 4).await;
    let most = 10 + 10 * usize::try_from(start.elapsed().as_secs() + 1).expect("seconds");
    assert!((10..=most).contains(&taken), "{taken}");
    // Requests come out of the same bucket, and nobody else's.
    let refused = call(&broker, "shared-key", "GET", "/stats", "").await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(
        call(&broker, "other-key", "GET", "/stats", "").await.status,
        200
    );
    let mut other = [connect(&broker, "other-key").await];
    for _ in 0..50 {
        assert_eq!(other[0].ask(json!({"type": "ping"})).await["type"], "pong");
    }
    // Another figure in the file holds from the next command on.
    file.replace(&of_key(""));
    eventually("no rate", async || {
        let answers = burst(&mut clients[0], 30).await;
        pongs(&answers) == 30
    })
    .await;
}

#[tokio::test]
async fn the_bytes_of_a_key_have_a_rate_too() {
    let rate = "publish = [\">\"]\nbytes_per_sec = 2000";
    let file = KeyFile::new(&key("shared-key", rate));
    let broker = file.broker(&[]);
    create(&broker, &["t"]).await;
    let mut client = connect(&broker, "shared-key").await;
    client.publish("t", "x".repeat(1500)).await;
    client.send_text(&publish("t", "x".repeat(1500))).await;
    client.expect_error("LIMIT_EXCEEDED").await;
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn a_connection_of_a_key_that_does_not_heed_its_rate_ends() {
    let file = KeyFile::new(&key("shared-key", "messages_per_sec = 1"));
    let broker = file.broker(&[("RATE_PATIENCE_SEC", "1")]);
    let mut client = connect(&broker, "shared-key").await;
    let start = Instant::now();
    loop {
        client.send(json!({"type": "ping"})).await;
        let Some(answer) = client.recv_or_end("an answer or the end").await else {
            break;
        };
        assert!(start.elapsed() < Duration::from_secs(8), "{answer}");
        sleep(Duration::from_millis(20)).await;
    }
    eventually("the end in the ledger", async || {
        let ended = call(&broker, ROOT.1, "GET", "/connections?closed=1", "").await;
        ended.json()["connections"][0]["code"] == 1008
    })
    .await;
}
