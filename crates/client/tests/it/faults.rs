//! Brokers that end, freeze or come back, and lines that are cut: in order, once each, and what is lost is told.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use rustix::process::Signal;
use shardcast_client::{ClientState, Limits, Publish, Reason, Subscribe, SubscriptionState};

use crate::harness::{
    Broker, account, client, next_event, next_gap, publish, quick, subscribed, timed, until, within,
};
use crate::proxy::Proxy;

#[tokio::test]
async fn across_many_cuts_everything_comes_once_and_in_order() {
    let history = [("AUTO_CREATE_TOPICS", "true"), ("RING_BUFFER_SIZE", "2000")];
    let broker = Broker::with(&history);
    let proxy = Proxy::to(broker.port).await;
    let client = client(&proxy.url(), quick()).await;
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    let publisher = async {
        let mut seqs = Vec::new();
        for chunk in 0..60 {
            let many = (0..10).map(|n| publish(&client, "t", chunk * 10 + n));
            seqs.extend(join_all(many).await.into_iter().map(|receipt| receipt.seq));
        }
        seqs
    };
    let cutter = async {
        for _ in 0..15 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            proxy.cut();
        }
        std::future::pending::<()>().await;
    };
    let seqs = tokio::select! {
        seqs = publisher => seqs,
        () = cutter => unreachable!("it never ends"),
    };
    assert_eq!(seqs.iter().max(), Some(&600), "each was taken once");
    for seq in 1..=600 {
        assert_eq!(next_event(&mut events).await.seq, seq);
    }
    publish(&client, "t", 600).await;
    assert_eq!(next_event(&mut events).await.seq, 601);
}

#[tokio::test]
async fn a_broker_that_is_killed_and_started_again_has_other_topics() {
    let mut broker = Broker::start();
    let client = broker.client().await;
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    let mut pattern = subscribed(&client, "*", Subscribe::default()).await;
    publish(&client, "t", 1).await;
    let first = next_event(&mut events).await;
    assert_eq!(next_event(&mut pattern).await.seq, 1);
    let mut states = client.state();
    broker.kill();
    within(
        "it is noticed",
        states.wait_for(|state| *state == ClientState::Waiting),
    )
    .await
    .expect("it lives");
    // What is published meanwhile waits.
    let mut waiting = Box::pin(client.publish("t", &2, Publish::default()));
    assert!((&mut waiting).now_or_never().is_none());
    broker.start_again();
    let receipt = within("the receipt", waiting).await.expect("it is taken");
    assert_eq!(receipt.seq, 1, "of another topic");
    for subscription in [&mut events, &mut pattern] {
        let gap = next_gap(subscription).await;
        assert_eq!((gap.first, gap.last, gap.count), (2, None, None));
        assert_eq!(
            (gap.reason, gap.epoch),
            (Reason::Epoch, first.epoch.clone())
        );
        let event = next_event(subscription).await;
        assert_eq!((event.seq, event.json::<u64>().expect("a number")), (1, 2));
        assert_ne!(event.epoch, first.epoch);
    }
}

#[tokio::test]
async fn a_broker_that_drains_says_when_to_come_back() {
    let settings = [
        ("AUTO_CREATE_TOPICS", "true"),
        ("RECONNECT_SPREAD_SEC", "1"),
    ];
    let mut broker = Broker::with(&settings);
    let limits = Limits {
        // Nobody would wait for that.
        backoff_min: Duration::from_mins(10),
        backoff_max: Duration::from_mins(10),
        ..quick()
    };
    let client = client(&broker.url(), limits).await;
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    publish(&client, "t", 1).await;
    assert_eq!(next_event(&mut events).await.seq, 1);
    broker.signal(Signal::TERM);
    let mut states = client.state();
    within(
        "it is told",
        states.wait_for(|state| *state == ClientState::Waiting),
    )
    .await
    .expect("it lives");
    broker.kill();
    broker.start_again();
    publish(&client, "t", 2).await;
    assert_eq!(next_gap(&mut events).await.reason, Reason::Epoch);
    assert_eq!(next_event(&mut events).await.seq, 1);
}

#[tokio::test]
async fn a_broker_that_is_frozen_is_left_and_found_again() {
    let broker = Broker::start();
    let limits = Limits {
        heartbeat: Duration::from_millis(100),
        heartbeat_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        ..quick()
    };
    let client = client(&broker.url(), limits).await;
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    publish(&client, "t", 1).await;
    assert_eq!(next_event(&mut events).await.seq, 1);
    let mut states = client.state();
    broker.signal(Signal::STOP);
    within(
        "it is noticed",
        states.wait_for(|state| *state != ClientState::Open),
    )
    .await
    .expect("it lives");
    let waiting = client.publish("t", &2, Publish::default());
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.signal(Signal::CONT);
    };
    let (receipt, ()) = tokio::join!(waiting, thaw);
    assert_eq!(receipt.expect("it is taken").seq, 2);
    assert_eq!(next_event(&mut events).await.seq, 2);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_asked_for_again_and_known_as_a_repeat() {
    let broker = Broker::start();
    let proxy = Proxy::to(broker.port).await;
    let client = client(&proxy.url(), quick()).await;
    publish(&client, "t", 1).await;
    proxy.swallow(true);
    let mut waiting = Box::pin(client.publish("t", &2, Publish::default()));
    let once = Publish {
        once: false,
        ..Publish::default()
    };
    let mut unsure = Box::pin(client.publish("t", &3, once));
    assert!((&mut waiting).now_or_never().is_none());
    assert!((&mut unsure).now_or_never().is_none());
    let other = broker.client().await;
    until("both have arrived", async || {
        let mut probe = subscribed(
            &other,
            "t",
            Subscribe {
                last: 1,
                ..Subscribe::default()
            },
        )
        .await;
        next_event(&mut probe).await.seq == 3
    })
    .await;
    proxy.swallow(false);
    proxy.cut();
    let receipt = within("the receipt", waiting).await.expect("it is taken");
    assert_eq!((receipt.seq, receipt.duplicate), (2, true));
    let error = within("the loss", unsure).await.expect_err("nobody knows");
    assert_eq!(error.code, "CONNECTION_LOST");
}

#[tokio::test]
async fn away_for_longer_than_the_history_reaches_the_exact_range_is_told() {
    let settings = [("AUTO_CREATE_TOPICS", "true"), ("RING_BUFFER_SIZE", "10")];
    let broker = Broker::with(&settings);
    let proxy = Proxy::to(broker.port).await;
    let limits = Limits {
        backoff_min: Duration::from_millis(500),
        backoff_max: Duration::from_millis(500),
        ..quick()
    };
    let away = client(&proxy.url(), limits).await;
    let mut events = subscribed(&away, "t", Subscribe::default()).await;
    let mut pattern = subscribed(&away, "t.*", Subscribe::default()).await;
    let publisher = broker.client().await;
    for topic in ["t", "t.a"] {
        publish(&publisher, topic, 1).await;
    }
    assert_eq!(next_event(&mut events).await.seq, 1);
    assert_eq!(next_event(&mut pattern).await.seq, 1);
    proxy.swallow(true);
    proxy.cut();
    for topic in ["t", "t.a"] {
        for n in 2..=40 {
            publish(&publisher, topic, n).await;
        }
    }
    proxy.swallow(false);
    proxy.cut();
    for subscription in [&mut events, &mut pattern] {
        let gap = next_gap(subscription).await;
        assert_eq!((gap.first, gap.last, gap.count), (2, Some(30), Some(29)));
        assert_eq!(gap.reason, Reason::History);
        assert_eq!(account(subscription, 30, 40).await, 0);
    }
}

#[tokio::test]
async fn a_topic_that_is_deleted_is_waited_for() {
    let broker = Broker::start();
    let client = broker.client().await;
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    publish(&client, "t", 1).await;
    assert_eq!(next_event(&mut events).await.seq, 1);
    let mut states = events.state();
    let deleted = broker.call("DELETE", "/topics/t", "").await;
    assert!(deleted.starts_with("HTTP/1.1 200"), "{deleted}");
    // It is subscribed to again, which makes it.
    within(
        "it is told",
        states.wait_for(|state| *state == SubscriptionState::Live),
    )
    .await
    .expect("it lives");
    let gap = next_gap(&mut events).await;
    assert_eq!((gap.first, gap.reason), (2, Reason::Epoch));
    publish(&client, "t", 2).await;
    assert_eq!(next_event(&mut events).await.seq, 1);
}

#[tokio::test]
async fn a_rate_is_kept_to_and_nothing_is_refused_for_it() {
    let settings = [
        ("AUTO_CREATE_TOPICS", "true"),
        ("RATE_MESSAGES_PER_SEC", "100"),
    ];
    let broker = Broker::with(&settings);
    let client = broker.client().await;
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    let (receipts, took) = timed(join_all((1..=250).map(|n| publish(&client, "t", n)))).await;
    assert_eq!(receipts.len(), 250);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert_eq!(account(&mut events, 0, 250).await, 0);
}
