//! Subscriptions to patterns: what is and what comes is delivered once, from where the ack says, whatever shard it is on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::{Client, publish};
use crate::harness::eventually;
use crate::harness::json::number;

fn broker(settings: &[(&str, &str)]) -> Broker {
    Broker::start(&[&[("SHARDS", "3")], settings].concat())
}

async fn create(broker: &Broker, topics: &[&str]) {
    for topic in topics {
        broker.create_topic(topic).await;
    }
}

/// Each topic of `positions` with its sequence number.
fn positions(ack: &Value) -> BTreeMap<String, u64> {
    let positions = ack["positions"].as_object().expect("positions");
    positions
        .iter()
        .map(|(topic, at)| {
            assert!(at["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()));
            (topic.clone(), number(at, "seq"))
        })
        .collect()
}

/// The texts of a list, in the order of the alphabet.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list").iter();
    let mut texts: Vec<_> = list.map(|text| text.as_str().expect("a text")).collect();
    texts.sort_unstable();
    texts
}

/// What came, as `topic:seq`, or as `+topic` and `-topic` where one was created or deleted.
fn seen(messages: &[Value]) -> Vec<String> {
    let one = |message: &Value| {
        let topic = message["topic"].as_str().expect("a topic");
        match message["msg"].as_str() {
            Some("topic_created") => format!("+{topic}"),
            Some("topic_deleted") => format!("-{topic}"),
            _ => format!("{topic}:{}", message["seq"]),
        }
    };
    messages.iter().map(one).collect()
}

async fn settled(client: &mut Client) -> Vec<String> {
    seen(&client.settle().await)
}

/// Exactly this comes, and nothing behind it. On a busy machine what another core sends may come late.
async fn assert_told(client: &mut Client, expected: &[impl AsRef<str>]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.push(client.recv().await);
    }
    got.extend(client.settle().await);
    assert!(
        seen(&got).iter().eq(expected.iter().map(AsRef::as_ref)),
        "{got:?}"
    );
}

fn sorted(mut seen: Vec<String>) -> Vec<String> {
    seen.sort();
    seen
}

#[tokio::test]
async fn a_pattern_gets_the_topics_that_are_there_and_no_others() {
    let broker = broker(&[]);
    let topics = [
        "orders.eu",
        "orders.",
        "orders.us",
        "orders",
        "orders.eu.de",
        "prices.eu",
    ];
    create(&broker, &topics).await;
    for (pattern, meant) in [
        ("orders.*", &["orders.", "orders.eu", "orders.us"][..]),
        (
            "orders.>",
            &["orders.", "orders.eu", "orders.eu.de", "orders.us"],
        ),
        ("*.eu", &["orders.eu", "prices.eu"]),
        ("*", &["orders"]),
        (
            ">",
            &[
                "orders",
                "orders.",
                "orders.eu",
                "orders.eu.de",
                "orders.us",
                "prices.eu",
            ],
        ),
        ("nothing.*", &[]),
    ] {
        let mut client = Client::connect(&broker).await;
        let command = format!(r#"{{"type":"subscribe","topic":"{pattern}","request_id":"r"}}"#);
        let ack = client.ask_raw(&command).await;
        let ts = serde_json::from_str::<Value>(&ack).expect("JSON")["ts"].clone();
        let matched = meant.len();
        assert_eq!(
            ack,
            format!(
                r#"{{"type":"ack","request_id":"r","topic":"{pattern}","status":"ok","ts":{ts},"matched":{matched}}}"#
            )
        );
        let mut publisher = Client::connect(&broker).await;
        for topic in topics {
            publisher.publish(topic, 1).await;
        }
        let mut topics = Vec::new();
        while topics.len() < meant.len() {
            topics.push(client.recv().await);
        }
        topics.extend(client.settle().await);
        let topics: BTreeSet<_> = topics
            .iter()
            .map(|event| event["topic"].as_str().expect("a topic"))
            .collect();
        assert!(topics.into_iter().eq(meant.iter().copied()), "{pattern}");
    }
}

#[tokio::test]
async fn what_is_no_pattern_is_refused_and_nothing_is_published_to_one() {
    let broker = broker(&[("AUTO_CREATE_TOPICS", "true")]);
    let mut client = Client::connect(&broker).await;
    for topic in ["orders*", "orders.>.eu", ">.eu", "a.b>"] {
        for kind in ["subscribe", "unsubscribe"] {
            let command = json!({"type": kind, "topic": topic}).to_string();
            client.expect_refusal(&command, "BAD_REQUEST").await;
        }
    }
    for topic in ["orders.*", "orders.>", ">"] {
        client
            .expect_refusal(&publish(topic, 1), "BAD_REQUEST")
            .await;
        assert_eq!(broker.post_topic(topic).await.status, 400);
        let path = format!("/topics/{topic}/messages");
        let posted = broker.request("POST", &path, &[], r#"{"payload":1}"#).await;
        assert_eq!(posted.status, 400, "{}", posted.body);
    }
    let command = json!({"type": "subscribe", "topic": "a.*", "since": {"epoch": "e", "seq": 1}});
    client
        .expect_refusal(&command.to_string(), "BAD_REQUEST")
        .await;
    assert_eq!(broker.health("topics").await, 0);
}

#[tokio::test]
async fn topics_that_come_and_go_are_told_of_and_the_pattern_stays() {
    let broker = broker(&[]);
    let mut client = Client::connect(&broker).await;
    client.subscribe("orders.*").await;
    client.subscribe("*.eu").await;
    let mut publisher = Client::connect(&broker).await;
    let mut epochs = BTreeSet::new();
    for _ in 0..3 {
        create(&broker, &["orders.eu", "orders.eu.de"]).await;
        publisher.publish("orders.eu", 1).await;
        let created = client.recv().await;
        let keys: Vec<_> = created.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["epoch", "msg", "topic", "ts", "type"], "{created}");
        assert_eq!(created["type"], "info");
        assert!(epochs.insert(created["epoch"].to_string()), "{created}");
        assert_eq!(seen(&[created]), ["+orders.eu"], "once, though two mean it");
        publisher.publish("orders.eu", 2).await;
        broker.delete_topic("orders.eu").await;
        broker.delete_topic("orders.eu.de").await;
        assert_told(&mut client, &["orders.eu:1", "orders.eu:2", "-orders.eu"]).await;
    }
    assert_eq!(broker.health("subscribers").await, 1);
}

#[tokio::test]
async fn topics_that_publishes_and_subscribes_create_are_told_of_too() {
    let broker = broker(&[("AUTO_CREATE_TOPICS", "true")]);
    let mut client = Client::connect(&broker).await;
    client.subscribe("a.*").await;
    client.send_text(&publish("a.b", 1)).await;
    let own = [
        client.recv().await,
        client.recv().await,
        client.recv().await,
    ];
    assert_eq!(seen(&own), ["+a.b", "a.b:1", "a.b:1"]);
    assert_eq!(
        (&own[1]["type"], &own[2]["type"]),
        (&json!("event"), &json!("ack"))
    );
    client
        .send(json!({"type": "subscribe", "topic": "a.c"}))
        .await;
    assert_eq!(seen(&[client.recv().await]), ["+a.c"]);
    assert_eq!(client.recv().await["seq"], 0);
    let posted = broker
        .request(
            "POST",
            "/topics/a.d/messages",
            &[],
            r#"[{"payload":1},{"payload":2}]"#,
        )
        .await;
    assert_eq!(posted.json()["messages"][1]["matched"], 1);
    assert_told(&mut client, &["+a.d", "a.d:1", "a.d:2"]).await;
}

#[tokio::test]
async fn an_event_comes_once_and_ending_one_subscription_leaves_the_others() {
    let broker = broker(&[]);
    create(&broker, &["orders.eu"]).await;
    let mut client = Client::connect(&broker).await;
    let mut publisher = Client::connect(&broker).await;
    let all = ["orders.eu", "orders.*", "*.eu", ">"];
    for topic in all {
        client.subscribe(topic).await;
        client.subscribe(topic).await;
    }
    let mut seq = 0;
    // Each of them alone carries the events of the last round.
    for (left, topic) in (0..all.len()).rev().zip(all) {
        assert_eq!(publisher.publish("orders.eu", 1).await["matched"], 1);
        seq += 1;
        assert_told(&mut client, &[format!("orders.eu:{seq}")]).await;
        assert!(client.unsubscribe(topic).await.is_empty());
        assert!(client.unsubscribe(topic).await.is_empty());
        let matched = u64::from(left > 0);
        assert_eq!(broker.subscribers_of("orders.eu").await, matched);
        assert_eq!(broker.health("subscribers").await, matched);
    }
    assert_eq!(publisher.publish("orders.eu", 1).await["matched"], 0);
    create(&broker, &["orders.us"]).await;
    assert_told(&mut client, &[""; 0]).await;
}

#[tokio::test]
async fn a_name_and_a_pattern_end_with_the_topic_and_only_the_pattern_returns() {
    let broker = broker(&[]);
    create(&broker, &["orders.eu"]).await;
    let mut client = Client::connect(&broker).await;
    client.subscribe("orders.eu").await;
    client.subscribe("orders.*").await;
    broker.delete_topic("orders.eu").await;
    create(&broker, &["orders.eu"]).await;
    assert_told(&mut client, &["-orders.eu", "+orders.eu"]).await;
    client.unsubscribe("orders.*").await;
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish("orders.eu", 1).await["matched"], 0);
}

#[tokio::test]
async fn positions_are_where_live_events_begin() {
    let broker = broker(&[("SHARDS", "4")]);
    let topics: Vec<String> = (0..40).map(|number| format!("t.{number}")).collect();
    for topic in &topics {
        broker.create_topic(topic).await;
    }
    let flood = async |first: usize| {
        let mut publisher = Client::connect(&broker).await;
        for round in 0..150 {
            let topic = &topics[(first + 7 * round) % topics.len()];
            publisher.publish_all(topic, 0..10, 5).await;
        }
    };
    let subscribing = async {
        let mut live = 0;
        for _ in 0..30 {
            let mut client = Client::connect(&broker).await;
            let wish = json!({"type": "subscribe", "topic": "t.*", "positions": true});
            let ack = client.ask(wish).await;
            assert_eq!((&ack["type"], &ack["matched"]), (&json!("ack"), &json!(40)));
            let mut at = positions(&ack);
            assert_eq!(at.len(), 40);
            for event in client.settle().await {
                assert_eq!(event["type"], "event", "{event}");
                let topic = event["topic"].as_str().expect("a topic");
                let newest = at.get_mut(topic).expect("a topic of the ack");
                *newest += 1;
                assert_eq!(number(&event, "seq"), *newest, "{event}");
                live += 1;
            }
            client.close().await;
        }
        live
    };
    let (live, ..) = tokio::join!(subscribing, flood(0), flood(1), flood(2));
    assert!(live > 0, "nothing was published meanwhile");
}

#[tokio::test]
async fn the_newest_of_each_topic_are_replayed_before_what_is_live() {
    let broker = broker(&[("RING_BUFFER_SIZE", "4")]);
    let mut publisher = Client::connect(&broker).await;
    for (topic, messages) in [("a.1", 6), ("a.2", 2), ("a.3", 0), ("b.1", 3)] {
        broker.create_topic(topic).await;
        publisher.publish_all(topic, 0..messages, 2).await;
    }
    for (last_n, expected) in [
        (0, &[][..]),
        (-1, &[]),
        (3, &["a.1:4", "a.1:5", "a.1:6", "a.2:1", "a.2:2"]),
        (100, &["a.1:3", "a.1:4", "a.1:5", "a.1:6", "a.2:1", "a.2:2"]),
    ] {
        let mut client = Client::connect(&broker).await;
        let ack = client
            .subscribe_with("a.*", json!({"last_n": last_n}))
            .await;
        assert_eq!((&ack["matched"], ack.get("recovered")), (&json!(3), None));
        let replayed = seen(&client.settle().await);
        assert_eq!(sorted(replayed), expected);
        let again = client
            .subscribe_with("a.*", json!({"last_n": last_n}))
            .await;
        assert_eq!(again["matched"], 3);
        assert_eq!(sorted(settled(&mut client).await), expected);
    }
}

#[tokio::test]
async fn each_topic_goes_on_behind_its_position() {
    let broker = broker(&[("RING_BUFFER_SIZE", "5")]);
    let mut publisher = Client::connect(&broker).await;
    create(&broker, &["a.kept", "a.short", "a.again", "a.gone"]).await;
    let mut client = Client::connect(&broker).await;
    let ack = client
        .subscribe_with("a.*", json!({"positions": true}))
        .await;
    assert_eq!(ack.get("recovered"), None);
    let before = ack["positions"].clone();
    client.close().await;
    publisher.publish_all("a.kept", 0..5, 5).await;
    publisher.publish_all("a.short", 0..6, 5).await;
    broker.delete_topic("a.again").await;
    broker.delete_topic("a.gone").await;
    create(&broker, &["a.again", "a.new", "a.old"]).await;
    publisher.publish_all("a.again", 0..1, 5).await;
    publisher.publish_all("a.new", 0..2, 5).await;

    let mut client = Client::connect(&broker).await;
    let ack = client
        .subscribe_with("a.*", json!({"positions": before, "last_n": 1}))
        .await;
    assert_eq!(
        (&ack["matched"], &ack["recovered"]),
        (&json!(5), &json!(false))
    );
    assert_eq!(texts(&ack["lost"]), ["a.again", "a.short"]);
    let expected = [
        ("a.again", 1),
        ("a.kept", 5),
        ("a.new", 2),
        ("a.old", 0),
        ("a.short", 6),
    ];
    let expected = expected.map(|(topic, seq)| (topic.to_owned(), seq));
    assert_eq!(positions(&ack), expected.into());
    let replayed = sorted(settled(&mut client).await);
    let expected = "a.again:1 a.kept:1 a.kept:2 a.kept:3 a.kept:4 a.kept:5 a.new:1 a.new:2 \
                    a.short:2 a.short:3 a.short:4 a.short:5 a.short:6";
    assert_eq!(replayed.join(" "), expected);

    let mut client = Client::connect(&broker).await;
    let positions = ack["positions"].clone();
    let ack = client
        .subscribe_with("a.*", json!({"positions": positions}))
        .await;
    assert_eq!((&ack["recovered"], ack.get("lost")), (&json!(true), None));
    assert_told(&mut client, &[""; 0]).await;
    // One that is new to the client and had more than is kept has lost something too.
    publisher.publish_all("a.new", 0..9, 5).await;
    let mut client = Client::connect(&broker).await;
    let ack = client
        .subscribe_with("*.new", json!({"positions": {}}))
        .await;
    assert_eq!(ack["lost"], json!(["a.new"]));
}

#[tokio::test]
async fn a_long_replay_of_many_topics_comes_whole_and_in_order() {
    const TOPICS: usize = 300;
    let broker = broker(&[("RING_BUFFER_SIZE", "20")]);
    let mut publisher = Client::connect(&broker).await;
    let payload = "x".repeat(2000);
    for number in 0..TOPICS {
        let topic = format!("t.{number}");
        broker.create_topic(&topic).await;
        publisher
            .publish_all(&topic, (0..number % 12).map(|_| payload.as_str()), 12)
            .await;
    }
    let mut client = Client::connect(&broker).await;
    client.subscribe_with("t.>", json!({"positions": {}})).await;
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for event in client.settle().await {
        let topic = event["topic"].as_str().expect("a topic").to_owned();
        let newest = next.entry(topic).or_default();
        *newest += 1;
        assert_eq!(number(&event, "seq"), *newest);
    }
    for number in 0..TOPICS {
        let expected = number as u64 % 12;
        let got = next
            .get(&format!("t.{number}"))
            .copied()
            .unwrap_or_default();
        assert_eq!(got, expected, "t.{number}");
    }
}

#[tokio::test]
async fn too_many_topics_and_too_many_subscriptions_change_nothing() {
    let settings = [
        ("MAX_PATTERN_TOPICS", "20"),
        ("MAX_SUBSCRIPTIONS_PER_CONNECTION", "2"),
    ];
    let broker = broker(&settings);
    for number in 0..21 {
        broker.create_topic(&format!("t.{number}")).await;
    }
    let mut client = Client::connect(&broker).await;
    let wish = |topic: &str| json!({"type": "subscribe", "topic": topic}).to_string();
    for pattern in ["t.*", ">", "*.*"] {
        let text = client
            .expect_refusal(&wish(pattern), "LIMIT_EXCEEDED")
            .await;
        assert!(text.contains("MAX_PATTERN_TOPICS is 20"), "{text}");
    }
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish("t.3", 1).await["matched"], 0);
    broker.delete_topic("t.20").await;
    assert_eq!(client.subscribe("t.*").await["matched"], 20);
    // One that comes later is no command.
    broker.create_topic("t.20").await;
    assert_eq!(publisher.publish("t.20", 1).await["matched"], 1);
    assert_told(&mut client, &["+t.20", "t.20:1"]).await;
    client.expect_refusal(&wish("t.*"), "LIMIT_EXCEEDED").await;
    assert_eq!(
        publisher.publish("t.20", 1).await["matched"],
        1,
        "what was stays"
    );
    assert_told(&mut client, &["t.20:2"]).await;
    client.subscribe("a.*").await;
    for topic in ["b.*", "t.1"] {
        let text = client.expect_refusal(&wish(topic), "LIMIT_EXCEEDED").await;
        assert!(text.contains("the limit is 2"), "{text}");
    }
    client.subscribe("a.*").await;
    client.unsubscribe("t.*").await;
    client.subscribe("t.1").await;
}

#[tokio::test]
async fn commands_sent_together_are_answered_in_their_order() {
    let broker = broker(&[]);
    create(&broker, &["a.1", "a.2", "b"]).await;
    let mut client = Client::connect(&broker).await;
    let commands = [
        json!({"type": "subscribe", "topic": "b"}).to_string(),
        json!({"type": "subscribe", "topic": "a.*"}).to_string(),
        publish("a.1", 1),
        json!({"type": "ping"}).to_string(),
        json!({"type": "unsubscribe", "topic": "a.*"}).to_string(),
        publish("a.2", 1),
        json!({"type": "subscribe", "topic": "*.2", "positions": true}).to_string(),
        json!({"type": "unsubscribe", "topic": "nothing.>"}).to_string(),
        publish("b", 1),
    ];
    for command in commands {
        client.send_text(&command).await;
    }
    let mut answers = Vec::new();
    for _ in 0..11 {
        let message = client.recv().await;
        let topic = message["topic"].as_str().unwrap_or_default();
        answers.push(format!(
            "{} {topic}",
            message["type"].as_str().expect("a type")
        ));
    }
    let expected = [
        "ack b",
        "ack a.*",
        "event a.1",
        "ack a.1",
        "pong ",
        "ack a.*",
        "ack a.2",
        "ack *.2",
        "ack nothing.>",
        "event b",
        "ack b",
    ];
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_connection_that_ends_leaves_all() {
    let broker = broker(&[]);
    create(&broker, &["a.1", "a.2"]).await;
    let mut client = Client::connect(&broker).await;
    for topic in ["a.*", "a.1", ">"] {
        client.subscribe(topic).await;
    }
    let connections = broker.get("/connections").await.json();
    let of_client = &connections["connections"][0];
    assert_eq!(of_client["subscriptions"], 3);
    let path = format!("/connections/{}", of_client["id"].as_str().expect("an id"));
    let shown = broker.get(&path).await.json();
    assert_eq!(texts(&shown["topics"]), [">", "a.*", "a.1"]);
    let subscribers = broker.get("/topics/a.2/subscribers").await.json();
    assert_eq!(subscribers["subscribers"].as_array().map(Vec::len), Some(1));
    client.close().await;
    // One that is cut off in the middle of its commands.
    let mut client = Client::connect(&broker).await;
    for topic in ["a.*", "*.1", ">"] {
        client
            .send(json!({"type": "subscribe", "topic": topic}))
            .await;
    }
    drop(client);
    eventually("nobody", async || {
        broker.health("subscribers").await == 0
            && broker.subscribers_of("a.1").await == 0
            && broker.subscribers_of("a.2").await == 0
    })
    .await;
    create(&broker, &["a.3"]).await;
    let mut publisher = Client::connect(&broker).await;
    // Its last commands may have come after the look, and end with it all the same.
    eventually("no pattern to be left", async || {
        publisher.publish("a.3", 1).await["matched"] == 0
    })
    .await;
    assert_eq!(publisher.publish("a.3", 1).await["matched"], 0);
}

#[tokio::test]
async fn a_subscriber_to_many_topics_that_reads_loses_nothing() {
    let broker = broker(&[]);
    let mut client = Client::connect(&broker).await;
    client.subscribe("t.*").await;
    let mut publisher = Client::connect(&broker).await;
    let topics: Vec<String> = (0..80).map(|number| format!("t.{number}")).collect();
    for topic in &topics {
        broker.create_topic(topic).await;
    }
    for _ in &topics {
        assert_eq!(client.recv().await["msg"], "topic_created");
    }
    for round in 1..=20 {
        for topic in &topics {
            publisher.send_text(&publish(topic, round)).await;
        }
        publisher.settle().await;
        for _ in &topics {
            let event = client.recv().await;
            assert_eq!(
                (&event["type"], &event["seq"]),
                (&json!("event"), &json!(round))
            );
        }
    }
}
