//! Thousands that end at once, and hundreds that come back at once, again and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Neighbour;
use super::cuts::reset;
use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::descriptors::descriptors_of;
use crate::harness::json::number;
use crate::harness::raw::{self, CLOSE, FIN, masked, upgrade_request};
use crate::harness::within;
use crate::hostile::ONE_AT_A_TIME;

/// Handshakes at once: fewer than a listener's queue holds.
const HANDSHAKES_AT_ONCE: usize = 100;

/// The longest message of a neighbour while thousands end: some milliseconds, and as much more as a busy machine needs.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(3);

/// As many clients as there can be, 10,000 at most: each takes a descriptor here and one in the broker.
fn crowd() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit is always allowed");
    let files = limit.maximum.unwrap_or(u64::MAX).saturating_sub(2000);
    usize::try_from(files.min(10_000)).expect("it is small")
}

/// A subscriber of `crowd`, without a byte of buffer.
async fn subscriber(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the broker listens");
    let subscribe = raw::text(r#"{"type":"subscribe","topic":"crowd"}"#);
    let both = [upgrade_request("/ws").as_bytes(), &subscribe].concat();
    stream.write_all(&both).await.expect("it is open");
    let mut answers = Vec::new();
    while !answers.windows(7).any(|part| part == b"\"epoch\"") {
        assert!(answers.len() < 1000, "no ack of the subscribe");
        let read = within("the ack", stream.read_buf(&mut answers)).await;
        assert!(read.is_ok_and(|count| count > 0), "an ack, not the end");
    }
    stream
}

/// All at once: by a reset, by a close frame, by an end without a word.
fn end(streams: Vec<TcpStream>) {
    let goodbye = masked(FIN | CLOSE, &1001_u16.to_be_bytes());
    for (number, stream) in streams.into_iter().enumerate() {
        match number % 3 {
            0 => reset(stream),
            1 => drop(stream.try_write(&goodbye)),
            _ => drop(stream),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_that_end_at_once_leave_nobody_and_are_not_felt() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let crowd = crowd();
    let broker = Broker::start(&[("PING_PERIOD_SEC", "100")]);
    broker.create_topic("crowd").await;
    let mut neighbour = Neighbour::of(&broker).await;
    neighbour.live().await;
    let (descriptors, address) = (descriptors_of(&broker), broker.address());

    let turns = Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE));
    let mut joining = JoinSet::new();
    for _ in 0..crowd {
        let turns = Arc::clone(&turns);
        joining.spawn(async move {
            let _turn = turns.acquire().await.expect("it is never closed");
            subscriber(address).await
        });
    }
    let streams = joining.join_all().await;
    assert_eq!(broker.subscribers_of("crowd").await, crowd as u64);
    neighbour.live().await;

    let ending = tokio::task::spawn_blocking(|| end(streams));
    let (mut longest, mut lived) = (Duration::ZERO, 0);
    while !ending.is_finished() || broker.health("subscribers").await > 1 {
        let sent = Instant::now();
        neighbour.live().await;
        longest = longest.max(sent.elapsed());
        lived += 1;
    }
    assert!(lived > 1, "it was over before anybody could look");
    assert!(longest < ROUND_TRIP_MAX, "{longest:?}");
    neighbour.alone(&broker, descriptors).await;
    assert_eq!(broker.subscribers_of("crowd").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_come_back_at_once_get_exactly_what_they_missed() {
    const CLIENTS: u64 = 300;
    const MISSED: u64 = 7;
    let broker = Arc::new(Broker::start(&[]));
    broker.create_topic("storm").await;
    let mut neighbour = Neighbour::of(&broker).await;
    let epoch = Client::connect(&broker).await.subscribe("storm").await["epoch"].clone();
    let mut publisher = Client::connect(&broker).await;
    for round in 0..4 {
        let (first, last) = (round * MISSED + 1, (round + 1) * MISSED);
        publisher.publish_all("storm", first..=last, 3).await;
        let mut storm = JoinSet::new();
        for _ in 0..CLIENTS {
            let (broker, epoch) = (Arc::clone(&broker), epoch.clone());
            storm.spawn(async move {
                let mut client = Client::connect(&broker).await;
                let since = json!({"since": {"epoch": epoch, "seq": first - 1}});
                let ack = client.subscribe_with("storm", since).await;
                assert_eq!(
                    (&ack["recovered"], number(&ack, "seq")),
                    (&json!(true), last)
                );
                let seqs = client.expect_seqs_to("storm", last).await;
                assert!(seqs.into_iter().eq(first..=last));
                // It goes without a word, as all do when a balancer does.
                drop(client);
            });
        }
        while let Some(ended) = storm.join_next().await {
            ended.expect("a client that came back");
            neighbour.live().await;
        }
    }
    publisher.close().await;
    neighbour.alone(&broker, usize::MAX).await;
    assert_eq!(
        broker.get("/stats").await.json()["topics"]["storm"]["dropped"],
        0
    );
}
