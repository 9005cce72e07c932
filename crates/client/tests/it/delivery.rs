//! Events and receipts, the past, patterns, policies, and what is refused.

use std::num::NonZeroU16;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use serde_json::value::RawValue;
use shardcast_client::{
    Client, ClientState, Item, Limits, Options, Position, Publish, Reason, Since, Subscribe,
    SubscriptionState, Uuid,
};

use crate::harness::{
    Broker, client, next, next_event, next_gap, publish, quick, subscribed, until, within,
};

#[tokio::test]
async fn what_is_published_comes_byte_for_byte_and_in_order() {
    let broker = Broker::start();
    let client = broker.client().await;
    let mut orders = subscribed(&client, "größe/ä b", Subscribe::default()).await;
    let payload = r#"{"b" : 1e2, "a":"☃𝄞\u00e9\n", "a":[]}"#;
    let raw: Box<RawValue> = serde_json::from_str(payload).expect("JSON");
    let receipt = publish(&client, "größe/ä b", &raw).await;
    assert_eq!(
        (receipt.seq, receipt.matched, receipt.duplicate),
        (1, 1, false)
    );
    let event = next_event(&mut orders).await;
    assert_eq!(event.payload.get(), payload);
    assert_eq!(
        (&event.id, event.seq, &*event.topic),
        (&receipt.id, 1, "größe/ä b")
    );
    assert!(event.ts.ends_with('Z') && event.skipped == 0);

    // A repeat under the same id is known as one.
    let id = Publish {
        id: Some(Uuid::parse_str(&receipt.id).expect("a UUID")),
        ..Publish::default()
    };
    let again = client.publish("größe/ä b", &json!("ignored"), id).await;
    let again = again.expect("it is taken");
    assert_eq!((again.seq, again.duplicate), (1, true));

    let many = (2..=500).map(|n| publish(&client, "größe/ä b", n));
    let receipts = futures_util::future::join_all(many).await;
    let seqs: Vec<_> = receipts.iter().map(|receipt| receipt.seq).collect();
    assert!(
        seqs.iter().copied().eq(2..=500),
        "in the order of the calls"
    );
    for seq in 2..=500 {
        let event = next_event(&mut orders).await;
        assert_eq!(
            (event.seq, event.json::<u64>().expect("a number")),
            (seq, seq)
        );
    }
    assert!(client.ping().await.expect("it is there") < Duration::from_secs(30));
}

#[tokio::test]
async fn the_past_by_count_and_behind_a_position() {
    let broker = Broker::start();
    let client = broker.client().await;
    for n in 1..=10 {
        publish(&client, "t", n).await;
    }
    let last = Subscribe {
        last: 3,
        ..Subscribe::default()
    };
    let mut newest = subscribed(&client, "t", last).await;
    let first = next_event(&mut newest).await;
    assert_eq!(first.seq, 8);
    let since = Subscribe {
        since: Some(Since::Topic(first.position())),
        ..Subscribe::default()
    };
    let mut behind = subscribed(&client, "t", since).await;
    for seq in 9..=10 {
        assert_eq!(next_event(&mut newest).await.seq, seq);
        assert_eq!(next_event(&mut behind).await.seq, seq);
    }
    // Two subscriptions of one topic see the replay of both, and each event once.
    publish(&client, "t", 11).await;
    assert_eq!(next_event(&mut newest).await.seq, 11);
    assert_eq!(next_event(&mut behind).await.seq, 11);
    // One that ends leaves the other.
    behind.unsubscribe().await;
    assert_eq!(publish(&client, "t", 12).await.matched, 1);
    assert_eq!(next_event(&mut newest).await.seq, 12);
    newest.unsubscribe().await;
    assert_eq!(publish(&client, "t", 13).await.matched, 0);
    // A position of a topic that has become another one.
    let position: Position = "0123456789abcdef:5".parse().expect("a position");
    let since = Subscribe {
        since: Some(position.into()),
        ..Subscribe::default()
    };
    let mut other = subscribed(&client, "t", since).await;
    let gap = next_gap(&mut other).await;
    assert_eq!((gap.first, gap.last, gap.reason), (6, None, Reason::Epoch));
    assert_eq!(next_event(&mut other).await.seq, 1);
}

#[tokio::test]
async fn a_pattern_stands_for_topics_that_are_there_and_that_come() {
    let broker = Broker::start();
    let client = broker.client().await;
    publish(&client, "orders.eu", 1).await;
    let mut all = subscribed(&client, "orders.*", Subscribe::default()).await;
    publish(&client, "orders.us", 1).await;
    publish(&client, "orders.eu", 2).await;
    publish(&client, "invoices.eu", 1).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        // As a stream, for a change.
        let item = within("an event", StreamExt::next(&mut all)).await;
        let Some(Ok(Item::Event(event))) = item else {
            panic!("{item:?}");
        };
        seen.push((event.topic.to_string(), event.seq));
    }
    seen.sort();
    assert_eq!(
        seen,
        [("orders.eu".to_owned(), 2), ("orders.us".to_owned(), 1)]
    );
    drop(all);
    until("the end of the subscription", async || {
        publish(&client, "orders.eu", 3).await.matched == 0
    })
    .await;
}

#[tokio::test]
async fn a_policy_counts_what_it_skips() {
    let broker = Broker::start();
    let client = broker.client().await;
    let wish = Subscribe {
        max_rate: NonZeroU16::new(5),
        ..Subscribe::default()
    };
    let mut prices = subscribed(&client, "prices", wish).await;
    for n in 1..=200 {
        publish(&client, "prices", n).await;
    }
    let (mut at, mut events) = (0, 0);
    while at < 200 {
        let event = next_event(&mut prices).await;
        assert_eq!(event.seq, at + event.skipped + 1);
        (at, events) = (event.seq, events + 1);
    }
    assert!(events < 200, "{events}");
}

#[tokio::test]
async fn what_is_refused_says_why_and_changes_nothing() {
    let broker = Broker::with(&[("MAX_MESSAGE_SIZE", "2000")]);
    let client = broker.client().await;
    let code = async |topic: &str, payload: &str| {
        let published = client.publish(topic, &payload, Publish::default()).await;
        published.expect_err("it is refused").code
    };
    assert_eq!(code("nope", "").await, "TOPIC_NOT_FOUND");
    assert_eq!(code("a.*", "").await, "BAD_REQUEST");
    assert_eq!(code("", "").await, "BAD_REQUEST");
    assert_eq!(code("t", &"x".repeat(70_000)).await, "MESSAGE_TOO_LARGE");
    // The broker takes less than the client allows, and closes: that message is refused, and no other.
    let created = broker.call("POST", "/topics", r#"{"name":"t"}"#).await;
    assert!(created.starts_with("HTTP/1.1 201"), "{created}");
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    let too_long = "x".repeat(5000);
    let (long, short) = tokio::join!(
        client.publish("t", &too_long, Publish::default()),
        client.publish("t", &1, Publish::default())
    );
    assert_eq!(long.expect_err("too long").code, "MESSAGE_TOO_LARGE");
    assert_eq!(short.expect("it is taken").seq, 1);
    assert_eq!(next_event(&mut events).await.seq, 1);

    let mut nowhere = client
        .subscribe("nope", Subscribe::default())
        .expect("a name");
    assert_eq!(
        nowhere.ready().await.expect_err("no topic").code,
        "TOPIC_NOT_FOUND"
    );
    let told = within("the end", nowhere.next()).await.expect("an error");
    assert_eq!(told.expect_err("no topic").code, "TOPIC_NOT_FOUND");
    assert!(nowhere.next().await.is_none());
    assert_eq!(*nowhere.state().borrow(), SubscriptionState::Ended);

    let position: Position = "e:1".parse().expect("a position");
    for (name, wish) in [
        ("a*", Subscribe::default()),
        (
            "t.*",
            Subscribe {
                since: Some(position.into()),
                ..Subscribe::default()
            },
        ),
        (
            "t",
            Subscribe {
                max_rate: NonZeroU16::new(1001),
                ..Subscribe::default()
            },
        ),
    ] {
        let error = client.subscribe(name, wish).expect_err("it is wrong");
        assert_eq!(error.code, "BAD_REQUEST", "{name}");
    }
    for text in ["", "e", ":1", "e:", "e:x", "e:+1"] {
        text.parse::<Position>().expect_err(text);
    }
    for url in [
        "",
        "ftp://a",
        "ws://a:b/ws",
        "ws://user:secret@127.0.0.1/ws",
    ] {
        let error = Client::connect(Options::new(url))
            .await
            .expect_err("no URL");
        assert_eq!(error.code, "BAD_URL", "{url}");
        assert!(error.message.contains("expected something like"), "{error}");
    }
}

#[tokio::test]
async fn a_root_and_a_name_are_enough_of_a_url() {
    let broker = Broker::start();
    for url in [
        format!("http://127.0.0.1:{}", broker.port),
        format!("http://localhost:{}/", broker.port),
        format!("ws://127.0.0.1:{}", broker.port),
        broker.url(),
    ] {
        let client = client(&url, quick()).await;
        publish(&client, "t", 1).await;
    }
    let options = Options {
        client_id: Some("bill ing/ü".to_owned()),
        limits: quick(),
        ..Options::new(broker.url())
    };
    let named = Client::connect(options).await.expect("it connects");
    let answer = broker.call("GET", "/connections", "").await;
    assert!(answer.contains(r#""client_id":"bill ing/ü""#), "{answer}");
    drop(named);
}

#[tokio::test]
async fn close_ends_everything_and_so_does_the_last_holder() {
    let broker = Broker::start();
    let first = broker.client().await;
    let mut events = subscribed(&first, "t", Subscribe::default()).await;
    first.close().await;
    assert_eq!(*first.state().borrow(), ClientState::Closed);
    assert!(within("the end", events.next()).await.is_none());
    let error = first
        .publish("t", &1, Publish::default())
        .await
        .expect_err("closed");
    assert_eq!(error.code, "CLOSED");
    assert_eq!(
        first
            .subscribe("t", Subscribe::default())
            .expect_err("closed")
            .code,
        "CLOSED"
    );

    let second = broker.client().await;
    let mut events = subscribed(&second, "t", Subscribe::default()).await;
    // A subscription holds its client.
    publish(&second, "t", 1).await;
    drop(second);
    assert!(matches!(next(&mut events).await, Item::Event(event) if event.seq == 1));
    drop(events);
    let third = broker.client().await;
    until("nobody else", async || {
        publish(&third, "t", 2).await.matched == 0
    })
    .await;
    until("one connection", async || {
        broker
            .call("GET", "/connections", "")
            .await
            .matches("\"id\":")
            .count()
            == 1
    })
    .await;
}

#[tokio::test]
async fn where_there_is_no_broker_it_says_so() {
    let limits = Limits {
        open_timeout: Some(Duration::from_millis(300)),
        ..quick()
    };
    let options = Options {
        limits: limits.clone(),
        ..Options::new("ws://127.0.0.1:1/ws")
    };
    let error = Client::connect(options.clone())
        .await
        .expect_err("nobody is there");
    assert_eq!(error.code, "TIMEOUT");
    assert!(
        error.message.contains("cannot connect to 127.0.0.1:1"),
        "{error}"
    );

    // Without a connection messages wait up to a bound, and then are refused.
    let limits = Limits {
        open_timeout: Some(Duration::ZERO),
        publish_queue_max: 2,
        ..limits
    };
    let client = Client::connect(Options { limits, ..options }).await;
    let client = client.expect("it does not wait");
    let how = Publish::default;
    let (one, two) = (
        client.publish("t", &1, how()),
        client.publish("t", &2, how()),
    );
    let (mut one, mut two) = (Box::pin(one), Box::pin(two));
    assert!((&mut one).now_or_never().is_none());
    assert!((&mut two).now_or_never().is_none());
    let full = client
        .publish("t", &3, how())
        .await
        .expect_err("it is full");
    assert_eq!(full.code, "QUEUE_FULL");
    // Who gives up makes room.
    drop(two);
    let mut three = Box::pin(client.publish("t", &3, how()));
    assert!((&mut three).now_or_never().is_none());
    client.close().await;
    assert_eq!(one.await.expect_err("closed").code, "CLOSED");
    assert_eq!(three.await.expect_err("closed").code, "CLOSED");
    assert_eq!(client.ping().await.expect_err("closed").code, "CLOSED");
}

#[tokio::test]
async fn the_example_of_the_readme_shows_what_it_says() {
    let readme = include_str!("../../README.md");
    let example = include_str!("../../examples/quick_start.rs");
    let code = readme
        .split("```rust\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    assert!(
        example.ends_with(code.expect("there is one")),
        "they differ"
    );
    // It stands beside the tests: cargo builds both.
    let tests = std::env::current_exe().expect("a path");
    let profile = tests
        .parent()
        .and_then(std::path::Path::parent)
        .expect("target/debug/deps");
    let broker = Broker::start();
    let mut run = tokio::process::Command::new(profile.join("examples/quick_start"));
    let run = run.arg(broker.url()).output();
    let output = within("its end", run).await.expect("it runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(shown, "true {\"id\":17,\"state\":\"paid\"}\n", "{output:?}");
}
