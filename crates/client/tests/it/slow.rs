//! Consumers that do not keep up: the broker holds the rest, and what falls out is told with its range.

use std::time::Duration;

use shardcast_client::{Limits, Reason, Subscribe};

use crate::harness::{Broker, account, client, next, publish, quick, subscribed, until, within};

/// More than sockets and rings hold.
const FLOOD: u64 = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_consumer_is_told_exactly_what_it_lost() {
    let settings = [
        ("AUTO_CREATE_TOPICS", "true"),
        ("SUBSCRIBER_QUEUE_SIZE", "100"),
        ("WRITE_WAIT_SEC", "60"),
    ];
    let broker = Broker::with(&settings);
    let limits = Limits {
        event_queue_max: 10,
        ..quick()
    };
    let slow = client(&broker.url(), limits).await;
    let mut events = subscribed(&slow, "t", Subscribe::default()).await;
    let publisher = broker.client().await;
    let payload = "x".repeat(8000);
    for _ in 0..FLOOD / 50 {
        let many = (0..50).map(|_| publish(&publisher, "t", &payload));
        futures_util::future::join_all(many).await;
    }
    // The end is told too, though nothing follows it.
    let lost = account(&mut events, 0, FLOOD).await;
    assert!(lost > 0, "it was not slow");
    publish(&publisher, "t", 1).await;
    assert_eq!(account(&mut events, FLOOD, FLOOD + 1).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_answer_gets_it_though_a_consumer_has_no_room() {
    let broker = Broker::with(&[
        ("AUTO_CREATE_TOPICS", "true"),
        ("SUBSCRIBER_QUEUE_SIZE", "100000"),
    ]);
    let limits = Limits {
        event_queue_max: 5,
        ..quick()
    };
    let client = client(&broker.url(), limits).await;
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    for n in 1..=50 {
        publish(&client, "t", n).await;
    }
    // Nobody has taken an event, and every publish has got its receipt: the oldest events made room.
    let first = next(&mut events).await;
    let shardcast_client::Item::Gap(gap) = first else {
        panic!("{first:?}");
    };
    assert_eq!((gap.first, gap.reason), (1, Reason::Slow));
    let last = gap.last.expect("the epoch is the same");
    assert_eq!(gap.count, Some(last));
    account(&mut events, last, 50).await;
}

#[tokio::test]
async fn a_consumer_that_stands_still_for_longer_than_a_heartbeat_keeps_its_connection() {
    let broker = Broker::with(&[
        ("AUTO_CREATE_TOPICS", "true"),
        ("SUBSCRIBER_QUEUE_SIZE", "100000"),
    ]);
    let limits = Limits {
        event_queue_max: 2,
        heartbeat: Duration::from_millis(50),
        heartbeat_timeout: Duration::from_millis(50),
        ..quick()
    };
    let slow = client(&broker.url(), limits).await;
    let mut events = subscribed(&slow, "t", Subscribe::default()).await;
    let publisher = broker.client().await;
    for n in 1..=20 {
        publish(&publisher, "t", n).await;
    }
    let states = slow.state();
    // Much longer than both together.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!states.has_changed().expect("it lives"), "it was left");
    assert_eq!(account(&mut events, 0, 20).await, 0);
    // One subscription that nobody takes from is let go, and the others go on.
    let ignored = subscribed(&slow, "t", Subscribe::default()).await;
    for n in 21..=40 {
        publish(&publisher, "t", n).await;
    }
    let taking = tokio::spawn(async move {
        account(&mut events, 20, 40).await;
        events
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!taking.is_finished(), "the other one holds it up");
    drop(ignored);
    let mut events = within("the others", taking).await.expect("no panic");
    publish(&publisher, "t", 41).await;
    assert_eq!(account(&mut events, 40, 41).await, 0);
    until("it is still the same connection", async || {
        !states.has_changed().expect("it lives")
    })
    .await;
}
