//! What clients can make the broker keep is bounded in bytes, as the process' resident memory shows.
//!
//! Each test sends many times what its bound allows, so that a bound that is gone shows by far, while what an
//! allocator keeps for itself does not count.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::{Rest, request_head};
use crate::harness::json::{message_id, publish_text};
use crate::harness::raw::{self, FIN, PING, RawSocket, TEXT, close_payload, masked};

const MIB: u64 = 1024;

/// The process' memory in KiB, looked at until a whole second has passed without a new peak.
async fn peak_kib(broker: &Broker) -> u64 {
    let mut pace = interval(Duration::from_millis(20));
    let (mut peak, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(700) {
        pace.tick().await;
        let now = broker.resident_kib();
        if now > peak + 256 {
            (peak, since) = (now, Instant::now());
        }
    }
    peak
}

/// Fails if the broker has grown by more than this.
async fn assert_grown_at_most(broker: &Broker, before: u64, mib: u64) {
    let grown = peak_kib(broker).await.saturating_sub(before);
    assert!(grown < mib * MIB, "{grown} KiB more, {mib} MiB are allowed");
}

/// Publishes that ask for no ack, all in one piece of bytes.
fn silent_publishes(topic: &str, payload: &str, count: usize) -> Vec<u8> {
    let id = message_id();
    let one = format!(
        r#"{{"type":"publish","topic":"{topic}","message":{{"id":"{id}","payload":{payload}}},"ack":false}}"#
    );
    raw::text(&one).repeat(count)
}

fn of_bytes(count: usize) -> String {
    format!("\"{}\"", "x".repeat(count))
}

#[tokio::test]
async fn pongs_that_nobody_reads_take_a_bounded_room() {
    let broker = Broker::start(&[]);
    let before = broker.resident_kib();
    let pings = masked(FIN | PING, &[b'p'; 125]).repeat(1000);
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = RawSocket::connect_small(&broker).await;
        while socket.push(&pings).await > 0 {}
        sockets.push(socket);
    }
    assert_grown_at_most(&broker, before, 24).await;
}

#[tokio::test]
async fn pongs_that_are_read_too_slowly_take_a_bounded_room() {
    let broker = Broker::start(&[]);
    let before = broker.resident_kib();
    let socket = RawSocket::connect_small(&broker).await;
    let pings = raw::text(r#"{"type":"ping"}"#).repeat(3000);
    let (mut sent, mut buffer) = (0, vec![0; 16 * 1024]);
    let start = Instant::now();
    while sent < 64 << 20 && start.elapsed() < Duration::from_secs(2) {
        // Never an empty queue: it always sends more than it reads.
        tokio::select! {
            ready = socket.wire.stream.writable() => ready.expect("it is open"),
            ready = socket.wire.stream.readable() => ready.expect("it is open"),
        }
        let place = sent % (pings.len() / 3000);
        sent += socket.wire.stream.try_write(&pings[place..]).unwrap_or(0);
        drop(socket.wire.stream.try_read(&mut buffer));
    }
    assert_grown_at_most(&broker, before, 16).await;
}

#[tokio::test]
async fn replays_in_a_row_take_no_room_before_they_are_read() {
    let settings = [
        ("RING_BUFFER_SIZE", "10000"),
        ("RUN_MESSAGES_MAX", "1"),
        ("SHARDS", "1"),
    ];
    let broker = Broker::start(&settings);
    broker.create_topic("t").await;
    let mut publisher = RawSocket::connect(&broker).await;
    publisher.send(&silent_publishes("t", "1", 10_000)).await;
    assert_eq!(publisher.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    let before = broker.resident_kib();
    let subscribe = raw::text(r#"{"type":"subscribe","topic":"t","last_n":10000}"#);
    let mut sockets = Vec::new();
    for _ in 0..8 {
        let mut socket = RawSocket::connect_small(&broker).await;
        socket.wire.offer(&subscribe.repeat(1024)).await;
        sockets.push(socket);
    }
    assert_grown_at_most(&broker, before, 16).await;
    // And one that reads gets each of them whole.
    let mut reader = RawSocket::connect(&broker).await;
    reader.send(&subscribe.repeat(2)).await;
    for _ in 0..2 {
        assert_eq!(reader.recv().await["type"], "ack");
        for seq in 1..=10_000 {
            assert_eq!(reader.recv().await["seq"], seq);
        }
    }
}

#[tokio::test]
async fn a_frame_takes_no_room_for_what_it_only_announces() {
    let broker = Broker::start(&[("MAX_MESSAGE_SIZE", "16777216")]);
    let before = broker.resident_kib();
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = RawSocket::connect(&broker).await;
        socket.send(&announcing(16_000_000)).await;
        sockets.push(socket);
    }
    assert_grown_at_most(&broker, before, 16).await;
    // And a whole one still goes through.
    broker.create_topic("t").await;
    let publish = publish_text("t", &of_bytes(16_000_000));
    assert_eq!(sockets[0].push(b"x").await, 1);
    let mut socket = RawSocket::connect(&broker).await;
    assert_eq!(socket.ask(&publish).await["type"], "ack");
}

/// A frame of so many bytes of which only the first few come.
fn announcing(length: u64) -> Vec<u8> {
    let mut frame = vec![FIN | TEXT, 0xFF];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend([b' '; 12_000]);
    frame
}

#[tokio::test]
async fn a_length_that_cannot_be_is_refused_wherever_it_comes() {
    let settings = [("AUTH_ENABLED", "true"), ("API_KEYS", "secret")];
    let broker = Broker::start(&[&settings[..], &[("SHARDS", "1")]].concat());
    let before = broker.resident_kib();
    // Enough pongs that the broker stops reading in front of the header, and has it only in part.
    let pings = masked(FIN | PING, &[b'p'; 125]);
    for length in [1 << 46, 1 << 62, i64::MAX.unsigned_abs(), u64::MAX] {
        for count in [0, 1, 2000, 2064, 2065, 2100, 3000] {
            let mut socket = RawSocket::connect(&broker).await;
            let bytes = [pings.repeat(count), announcing(length)].concat();
            socket.wire.offer(&bytes).await;
            for _ in 0..count {
                assert_eq!(
                    socket.recv_frame().await.expect("a pong").payload.len(),
                    125
                );
            }
            let code = socket.expect_close().await;
            let allowed = if length >> 63 == 1 { 1002 } else { 1009 };
            assert!(code == Some(1009) || code == Some(allowed), "{code:?}");
        }
    }
    assert_grown_at_most(&broker, before, 16).await;
}

#[tokio::test]
async fn unfinished_heads_of_requests_take_a_bounded_room() {
    let broker = Broker::start(&[]);
    let before = broker.resident_kib();
    let endless = format!("GET /health HTTP/1.1\r\nX: {}", "a".repeat(400_000));
    let mut sockets = Vec::new();
    for bytes in [15_000, 400_000] {
        for _ in 0..150 {
            let mut socket = RawSocket::dial(&broker).await;
            socket.wire.offer(&endless.as_bytes()[..bytes]).await;
            sockets.push(socket);
        }
    }
    assert_grown_at_most(&broker, before, 16).await;
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn bodies_that_never_end_take_a_bounded_room() {
    let broker = Broker::start(&[]);
    let before = broker.resident_kib();
    let mut sockets = Vec::new();
    for _ in 0..100 {
        let length = [("Content-Length", "10000000000")];
        let mut rest = Rest::open(&broker).await;
        let head = request_head("POST", "/topics", &length);
        rest.wire.send(head.as_bytes()).await;
        rest.wire.offer(&vec![b' '; 200_000]).await;
        sockets.push(rest);
    }
    assert_grown_at_most(&broker, before, 24).await;
}

#[tokio::test]
async fn subscribers_that_trickle_keep_no_more_than_their_queues_may() {
    const SUBSCRIBERS: usize = 30;
    let settings = [
        ("RING_BUFFER_SIZE", "0"),
        ("SUBSCRIBER_QUEUE_SIZE", "10000"),
        ("SUBSCRIBER_QUEUE_BYTES", "131072"),
        ("WRITE_WAIT_SEC", "60"),
    ];
    let broker = Broker::start(&settings);
    let mut publisher = RawSocket::connect(&broker).await;
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let topic = format!("t{number}");
        broker.create_topic(&topic).await;
        let mut socket = RawSocket::connect_small(&broker).await;
        let subscribe = json!({"type": "subscribe", "topic": topic}).to_string();
        assert_eq!(socket.ask(&subscribe).await["type"], "ack");
        subscribers.push(socket);
    }
    let before = broker.resident_kib();
    let mut sip = vec![0; 4096];
    for _ in 0..4 {
        for (number, socket) in subscribers.iter_mut().enumerate() {
            let topic = format!("t{number}");
            let batch = silent_publishes(&topic, &of_bytes(64_000), 20);
            publisher.send(&batch).await;
            drop(socket.wire.stream.try_read(&mut sip));
        }
    }
    assert_eq!(publisher.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    // 150 MB went to them; a queue, what is being sent, and one run more are about 400 KiB for each.
    assert_grown_at_most(&broker, before, 32).await;
    let totals = totals(&broker).await;
    assert!(totals["dropped"].as_u64() > Some(1500), "{totals}");
    let frames = totals["memory"]["kinds"]["frames"].as_u64();
    assert!(frames < Some(16 << 20), "{totals}");
}

#[tokio::test]
async fn histories_keep_no_more_bytes_than_they_may() {
    let settings = [
        ("RING_BUFFER_SIZE", "1000"),
        ("HISTORY_BYTES_MAX", "4194304"),
    ];
    let broker = Broker::start(&settings);
    let mut publisher = RawSocket::connect(&broker).await;
    let before = broker.resident_kib();
    for number in 0..40 {
        let topic = format!("t{number}");
        broker.create_topic(&topic).await;
        publisher
            .send(&silent_publishes(&topic, &of_bytes(64_000), 40))
            .await;
        let kept = totals(&broker).await["memory"]["histories"].as_u64();
        // Each shard bounds them behind what it has just accepted.
        assert!(kept < Some(5 << 20), "{kept:?}");
    }
    assert_eq!(publisher.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    assert_grown_at_most(&broker, before, 24).await;
    // All topics give way to one another alike, so of each something is kept: the newest.
    let mut reader = Client::connect(&broker).await;
    let ack = reader.subscribe_with("t39", json!({"last_n": 1000})).await;
    assert_eq!(ack["seq"], 40);
    let seqs = reader.expect_seqs_to("t39", 40).await;
    assert!(seqs.is_sorted() && !seqs.is_empty(), "{seqs:?}");
}

async fn totals(broker: &Broker) -> Value {
    broker.get("/stats").await.json()["totals"].clone()
}

#[tokio::test]
async fn over_the_memory_budget_new_things_are_refused_until_there_is_room() {
    let settings = [
        ("MEMORY_BUDGET", "16MiB"),
        ("AUTO_CREATE_TOPICS", "true"),
        ("RING_BUFFER_SIZE", "0"),
    ];
    let broker = Broker::start(&settings);
    broker.create_topic("orders").await;
    let mut client = Client::subscribed(&broker, "orders").await;
    let mut publisher = RawSocket::connect(&broker).await;
    let name = |number: usize| format!("{number:0>200}");
    // The first to be refused is told so although it asked for no ack.
    let mut topics = 0;
    while !publisher
        .wire
        .stream
        .try_read(&mut [0; 1])
        .is_ok_and(|read| read > 0)
    {
        let batch: Vec<_> = (topics..topics + 200)
            .flat_map(|number| silent_publishes(&name(number), "1", 1))
            .collect();
        publisher.send(&batch).await;
        topics += 200;
        assert!(topics < 100_000, "16 MiB are not used up");
        tokio::task::yield_now().await;
    }
    let publish = publish_text("orders", "1");
    let text = client.expect_refusal(&publish, "LIMIT_EXCEEDED").await;
    assert!(text.contains("memory budget"), "{text}");
    let subscribe = json!({"type": "subscribe", "topic": name(0)}).to_string();
    client.expect_refusal(&subscribe, "LIMIT_EXCEEDED").await;
    let refused = broker.post_topic("trades").await;
    assert_eq!(refused.json()["code"], "LIMIT_EXCEEDED");
    // Who is there already is served, and can leave.
    assert_eq!(broker.get("/health").await.status, 200);
    let ack = client.ask(json!({"type": "unsubscribe", "topic": "orders"}));
    assert_eq!(ack.await["type"], "ack");
    let before = totals(&broker).await;
    let mut rest = Rest::open(&broker).await;
    for chunk in (0..2000).collect::<Vec<_>>().chunks(100) {
        let deletes = chunk
            .iter()
            .map(|number| request_head("DELETE", &format!("/topics/{}", name(*number)), &[]));
        rest.wire.send(deletes.collect::<String>().as_bytes()).await;
        for _ in chunk {
            assert_eq!(rest.response("a deletion").await.status, 200);
        }
    }
    eventually("room again", async || {
        client.send_text(&publish).await;
        client.recv().await["type"] == "ack"
    })
    .await;
    client.subscribe("orders").await;
    broker.create_topic("trades").await;
    let after = totals(&broker).await;
    let topics_of = |totals: &Value| totals["memory"]["kinds"]["topics"].as_u64();
    assert!(topics_of(&after) < topics_of(&before), "{before} {after}");
}

#[tokio::test]
async fn what_a_client_kept_is_given_back_when_it_has_gone() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "0")]);
    broker.create_topic("t").await;
    let kinds = async || totals(&broker).await["memory"]["kinds"].clone();
    let (before, descriptors) = (kinds().await, descriptors(&broker));
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = RawSocket::connect_small(&broker).await;
        socket.ask(r#"{"type":"subscribe","topic":"t"}"#).await;
        // Replies that it does not read, and half a frame behind them.
        socket
            .wire
            .offer(&raw::text(r#"{"type":"ping"}"#).repeat(500))
            .await;
        socket.wire.offer(&announcing(60_000)).await;
        sockets.push(socket);
    }
    let mut publisher = RawSocket::connect(&broker).await;
    publisher
        .send(&silent_publishes("t", &of_bytes(60_000), 50))
        .await;
    assert_eq!(publisher.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    assert_ne!(kinds().await, before);
    publisher
        .send(&masked(FIN | raw::CLOSE, &close_payload(1000, b"")))
        .await;
    publisher.expect_close().await;
    drop((sockets, publisher));
    eventually("the books to be as before", async || {
        kinds().await == before
    })
    .await;
    eventually("the descriptors to be as before", async || {
        self::descriptors(&broker) <= descriptors
    })
    .await;
    let totals = totals(&broker).await;
    for gauge in ["queued", "connections", "subscribers"] {
        assert_eq!(totals[gauge], 0, "{gauge}");
    }
}

/// Open files of the broker.
fn descriptors(broker: &Broker) -> usize {
    let path = format!("/proc/{}/fd", broker.pid().as_raw_nonzero());
    std::fs::read_dir(path).expect("it runs").count()
}
