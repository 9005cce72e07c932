//! The seam between replay and live events: during a publish storm, no event is missing there and none comes twice.

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::json::number;
use crate::harness::raw::RawSocket;

const JOINERS: u64 = 8;
const ROUNDS: u64 = 25;

/// A topic `orders` on which somebody publishes all the time.
async fn storm() -> (Broker, JoinHandle<Vec<Value>>) {
    let settings = [
        ("RING_BUFFER_SIZE", "10000"),
        ("SUBSCRIBER_QUEUE_SIZE", "20000"),
        ("SHARDS", "4"),
    ];
    let broker = Broker::start(&settings);
    broker.create_topic("orders").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders", 0..100, 10).await;
    let storm = tokio::spawn(async move { publisher.publish_all("orders", 0_u64.., 10).await });
    (broker, storm)
}

/// Reads from the replay far into the live events.
async fn assert_no_seam(mut client: Client, first: u64, newest: u64) {
    for expected in first..newest + 20 {
        let event = client.expect_event("orders").await;
        assert_eq!(
            event["seq"], expected,
            "{newest} was the newest at the subscribe"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_n_joins_the_live_events_without_a_seam() {
    let (broker, storm) = storm().await;
    for round in 0..ROUNDS {
        let last_n = [0, 1, 10, 1000][usize::try_from(round % 4).expect("small")];
        let mut joiners = JoinSet::new();
        for _ in 0..JOINERS {
            let mut client = Client::connect(&broker).await;
            joiners.spawn(async move {
                let ack = client
                    .subscribe_with("orders", json!({"last_n": last_n}))
                    .await;
                let newest = number(&ack, "seq");
                let first = newest.saturating_sub(last_n) + 1;
                assert_no_seam(client, first, newest).await;
            });
        }
        joiners.join_all().await;
    }
    storm.abort();
}

/// The next message that is not about the topic `noise`.
async fn next_but_noise(client: &mut Client) -> Value {
    loop {
        let message = client.recv().await;
        if message["topic"] != "noise" {
            return message;
        }
    }
}

/// Joins and leaves `orders` many times, while events of another topic keep the connection busy.
async fn join_again_and_again(mut client: Client, last_n: u64) {
    let subscribe = json!({"type": "subscribe", "topic": "orders", "last_n": last_n});
    let unsubscribe = json!({"type": "unsubscribe", "topic": "orders"});
    for _ in 0..500 {
        client.send(subscribe.clone()).await;
        let ack = next_but_noise(&mut client).await;
        assert_eq!(ack["type"], "ack", "an event in front of the ack: {ack}");
        let newest = number(&ack, "seq");
        let mut expected = newest - last_n + 1..;
        for _ in 0..12 {
            let event = next_but_noise(&mut client).await;
            assert_eq!(
                event["seq"].as_u64(),
                expected.next(),
                "{newest} was the newest"
            );
        }
        client.send(unsubscribe.clone()).await;
        while next_but_noise(&mut client).await["type"] == "event" {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_connection_that_joins_again_and_again_never_sees_a_seam() {
    let (broker, storm) = storm().await;
    broker.create_topic("noise").await;
    let mut joiners = JoinSet::new();
    for last_n in 0..JOINERS {
        let client = Client::subscribed(&broker, "noise").await;
        joiners.spawn(join_again_and_again(client, last_n));
    }
    let mut rival = Client::connect(&broker).await;
    let noise = tokio::spawn(async move { rival.publish_all("noise", 0_u64.., 2).await });
    joiners.join_all().await;
    storm.abort();
    noise.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn since_joins_the_live_events_without_a_seam() {
    let (broker, storm) = storm().await;
    let ack = Client::connect(&broker).await.subscribe("orders").await;
    let (epoch, mut seen) = (ack["epoch"].clone(), number(&ack, "seq"));
    for _ in 0..ROUNDS {
        let mut joiners = JoinSet::new();
        for _ in 0..JOINERS {
            let mut client = Client::connect(&broker).await;
            let since = json!({"since": {"epoch": epoch, "seq": seen}});
            joiners.spawn(async move {
                let ack = client.subscribe_with("orders", since).await;
                assert_eq!(ack["recovered"], true, "{ack}");
                let newest = number(&ack, "seq");
                assert_no_seam(client, seen + 1, newest).await;
                newest
            });
        }
        seen = joiners.join_all().await.into_iter().max().expect("some");
    }
    storm.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_beside_running_live_events_repeats_only_what_was_asked_for() {
    let (broker, storm) = storm().await;
    let mut client = Client::subscribed(&broker, "orders").await;
    client.expect_event("orders").await;
    for _ in 0..ROUNDS {
        client
            .send(json!({"type": "subscribe", "topic": "orders", "last_n": 5}))
            .await;
        let newest = loop {
            let message = client.recv().await;
            if message["type"] == "ack" {
                break number(&message, "seq");
            }
        };
        for expected in newest - 4..newest + 20 {
            let event = client.expect_event("orders").await;
            assert_eq!(event["seq"], expected, "{newest} was the newest");
        }
    }
    storm.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_and_comes_back_since_then_misses_nothing() {
    let (broker, storm) = storm().await;
    let mut client = Client::connect(&broker).await;
    let ack = client.subscribe("orders").await;
    let (epoch, mut newest) = (ack["epoch"].clone(), number(&ack, "seq"));
    for _ in 0..ROUNDS {
        let mut events = vec![client.expect_event("orders").await];
        events.extend(client.unsubscribe("orders").await);
        for event in events {
            assert_eq!(event["seq"], newest + 1);
            newest += 1;
        }
        let since = json!({"since": {"epoch": epoch, "seq": newest}});
        let ack = client.subscribe_with("orders", since).await;
        assert_eq!(ack["recovered"], true, "{ack}");
    }
    storm.abort();
}

/// A subscriber of `orders` that has stopped reading, with events in its ring and its socket full.
async fn stalled(broker: &Broker, publisher: &mut Client) -> RawSocket {
    broker.create_topic("orders").await;
    let mut socket = RawSocket::connect_small(broker).await;
    socket.ask(r#"{"type":"subscribe","topic":"orders"}"#).await;
    fill(publisher).await;
    socket
}

/// More than a socket that nobody reads takes and a ring holds.
async fn fill(publisher: &mut Client) {
    let payloads = (0..100).map(|_| "x".repeat(20_000));
    publisher.publish_all("orders", payloads, 10).await;
}

/// All messages that wait for it. A pong may overtake events, but three round trips leave nothing behind.
async fn catch_up(socket: &mut RawSocket) -> Vec<Value> {
    socket.widen();
    let mut messages = Vec::new();
    for _ in 0..3 {
        socket.send_text(r#"{"type":"ping"}"#).await;
        loop {
            let message = socket.recv().await;
            if message["type"] == "pong" {
                break;
            }
            messages.push(message);
        }
    }
    messages
}

fn place(messages: &[Value], wanted: impl Fn(&Value) -> bool) -> usize {
    let place = messages.iter().position(wanted);
    place.unwrap_or_else(|| panic!("not among {} messages", messages.len()))
}

const SMALL_RING: [(&str, &str); 2] = [("SUBSCRIBER_QUEUE_SIZE", "10"), ("SHARDS", "2")];

#[tokio::test]
async fn subscribing_again_to_a_topic_made_anew_is_acked_behind_the_deletion() {
    let broker = Broker::start(&SMALL_RING);
    let mut publisher = Client::connect(&broker).await;
    let mut socket = stalled(&broker, &mut publisher).await;
    broker.delete_topic("orders").await;
    broker.create_topic("orders").await;
    socket
        .send_text(r#"{"type":"subscribe","topic":"orders","request_id":"again"}"#)
        .await;
    eventually("the subscription", async || {
        broker.subscribers_of("orders").await == 1
    })
    .await;
    publisher.publish("orders", "new").await;
    let messages = catch_up(&mut socket).await;
    let deleted = place(&messages, |message| message["msg"] == "topic_deleted");
    let acked = place(&messages, |message| message["request_id"] == "again");
    let new = place(&messages, |message| message["message"]["payload"] == "new");
    let old = |message: &Value| message["type"] == "event" && number(message, "seq") > 1;
    let last_old = messages
        .iter()
        .rposition(old)
        .expect("events of the old topic");
    assert!(last_old < deleted && deleted < acked && acked < new);
}

#[tokio::test]
async fn the_ack_of_subscribing_again_keeps_its_place_though_the_queue_overflows() {
    // The replay is read from the history when the socket has room for it, so it must still be there then.
    let broker = Broker::start(&[&SMALL_RING[..], &[("RING_BUFFER_SIZE", "1000")]].concat());
    let mut publisher = Client::connect(&broker).await;
    let mut socket = stalled(&broker, &mut publisher).await;
    socket
        .send_text(r#"{"type":"subscribe","topic":"orders","last_n":2,"request_id":"again"}"#)
        .await;
    // Time for it to be read; what is claimed holds whenever that is.
    publisher.publish_all("orders", 0..30, 1).await;
    fill(&mut publisher).await;
    let messages = catch_up(&mut socket).await;
    let acked = place(&messages, |message| message["request_id"] == "again");
    let seq = number(&messages[acked], "seq");
    let live: Vec<_> = messages[..acked]
        .iter()
        .filter(|message| message["type"] == "event")
        .map(|event| number(event, "seq"))
        .collect();
    assert!(live.iter().all(|of| *of <= seq), "{live:?} before {seq}");
    let replayed = &messages[acked + 1..acked + 3];
    assert_eq!(number(&replayed[0], "seq"), seq - 1);
    assert_eq!(number(&replayed[1], "seq"), seq);
}

#[tokio::test]
async fn a_replay_that_the_history_outruns_is_announced_as_lost() {
    let broker = Broker::start(&SMALL_RING);
    let mut publisher = Client::connect(&broker).await;
    let mut socket = stalled(&broker, &mut publisher).await;
    socket
        .send_text(r#"{"type":"subscribe","topic":"orders","last_n":50,"request_id":"again"}"#)
        .await;
    // Behind the subscribe, and on another connection: it is with the shard when this is answered.
    eventually("the subscribe to be read", async || {
        publisher.publish("orders", "behind").await;
        let stats = broker.get("/stats").await.json();
        stats["topics"]["orders"]["seq"].as_u64() > Some(110)
    })
    .await;
    fill(&mut publisher).await;
    publisher.publish("orders", "last").await;
    let messages = catch_up(&mut socket).await;
    let acked = place(&messages, |message| message["request_id"] == "again");
    let seq = number(&messages[acked], "seq");
    let (mut live, mut replayed, mut announced) = (0, Vec::new(), 0);
    for (place, message) in messages.iter().enumerate() {
        match message["type"].as_str() {
            Some("error") => announced += number(message, "dropped"),
            Some("event") if place > acked && number(message, "seq") <= seq => {
                replayed.push(number(message, "seq"));
            }
            Some("event") => live += 1,
            _ => {}
        }
    }
    // What is left of the replay is its newest part, and it is whole.
    let left = replayed.len() as u64;
    assert!(left < 50, "the history kept it all");
    assert_eq!(replayed, (seq + 1 - left..=seq).collect::<Vec<_>>());
    let last = messages.last().expect("messages");
    assert_eq!(last["message"]["payload"], "last");
    let missing = number(last, "seq") - live + 50 - left;
    assert_eq!(announced, missing);
}
