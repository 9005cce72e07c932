//! Delivery policies: the newest event of each topic, at most so many a second, and what is skipped is counted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::json::number;
use crate::harness::raw::RawSocket;
use crate::harness::sse::EventStream;

/// More than sockets buffer.
const MESSAGES: u64 = 6000;

/// What came by a policy: each event stands for those before it.
#[derive(Default)]
struct Board {
    newest: u64,
    received: u64,
    skipped: u64,
}

impl Board {
    fn book(&mut self, event: &Value) {
        assert_eq!(event["type"], "event", "{event}");
        let (seq, skipped) = (number(event, "seq"), number(event, "skipped"));
        assert_eq!(seq, self.newest + skipped + 1, "{event}");
        self.newest = seq;
        self.received += 1;
        self.skipped += skipped;
    }

    /// Takes events until the one with this number.
    async fn follow(&mut self, client: &mut Client, last: u64) {
        while self.newest < last {
            let event = client.recv().await;
            self.book(&event);
        }
        assert_eq!(self.newest, last);
    }
}

/// What `/stats` says when nothing is under way.
async fn totals_at_rest(broker: &Broker) -> Value {
    let mut totals = Value::Null;
    eventually("all events are accounted for", async || {
        totals = broker.get("/stats").await.json()["totals"].take();
        totals["queued"] == 0
    })
    .await;
    totals
}

fn assert_accounted(totals: &Value) {
    let of = |name| number(totals, name);
    let sum = of("delivered") + of("skipped") + of("dropped") + of("discarded") + of("queued");
    assert_eq!(of("offered"), sum, "{totals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_line_the_newest_comes_and_tells_of_those_before_while_others_get_all() {
    let settings = [("SUBSCRIBER_QUEUE_SIZE", "10"), ("WRITE_WAIT_SEC", "60")];
    let disconnect = ("SLOW_CONSUMER_POLICY", "disconnect");
    for further in [&[][..], &[disconnect]] {
        let broker = Broker::start(&[&settings, further].concat());
        broker.create_topic("prices").await;
        let mut board = RawSocket::connect_small(&broker).await;
        let subscribe = r#"{"type":"subscribe","topic":"prices","policy":"latest"}"#;
        assert_eq!(board.ask(subscribe).await["type"], "ack");
        let mut audit = Client::subscribed(&broker, "prices").await;
        let mut publisher = Client::connect(&broker).await;
        let payload = "x".repeat(1024);
        for seq in (5..=MESSAGES).step_by(5) {
            let batch = [payload.as_str(); 5];
            publisher.publish_all("prices", batch, 5).await;
            assert_eq!(audit.expect_seqs_to("prices", seq).await.len(), 5);
        }
        board.widen();
        let mut seen = Board::default();
        while seen.newest < MESSAGES {
            seen.book(&board.recv().await);
        }
        assert!(seen.skipped > 0, "it was not slow");
        assert_eq!(seen.received + seen.skipped, MESSAGES);
        let totals = totals_at_rest(&broker).await;
        assert_eq!(totals["skipped"], seen.skipped);
        assert_eq!(totals["dropped"], 0, "{totals}");
        assert_accounted(&totals);
        let metrics = broker.get("/metrics").await.body;
        let line = format!("shardcast_events_skipped_total {}", seen.skipped);
        assert!(metrics.contains(&line), "no {line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_spaces_events_and_the_last_of_a_burst_always_comes() {
    let broker = Broker::start(&[]);
    broker.create_topic("prices").await;
    let mut client = Client::connect(&broker).await;
    client
        .subscribe_with("prices", json!({"max_rate": 5}))
        .await;
    let mut publisher = Client::connect(&broker).await;
    let mut board = Board::default();
    let began = Instant::now();
    let mut last = 0;
    while began.elapsed() < Duration::from_secs(2) {
        publisher.publish_all("prices", 0..10, 10).await;
        last += 10;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    board.follow(&mut client, last).await;
    let took = began.elapsed();
    let most = 2 + u64::try_from(took.as_millis() / 200).expect("seconds");
    assert!(
        board.received <= most,
        "{} events in {took:?}",
        board.received
    );
    assert!(board.received >= 3, "{} events in {took:?}", board.received);
    // What comes alone is not held back once the topic has rested.
    tokio::time::sleep(Duration::from_millis(250)).await;
    let asked = Instant::now();
    publisher.publish("prices", "alone").await;
    board.follow(&mut client, last + 1).await;
    assert!(
        asked.elapsed() < Duration::from_millis(150),
        "{:?}",
        asked.elapsed()
    );
    assert_accounted(&totals_at_rest(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_counts_for_each_topic_of_a_pattern() {
    let broker = Broker::start(&[]);
    let topics = ["p.a", "p.b", "p.c", "p.d", "p.e"];
    for topic in topics {
        broker.create_topic(topic).await;
    }
    let mut client = Client::connect(&broker).await;
    client.subscribe_with("p.*", json!({"max_rate": 1})).await;
    let mut publisher = Client::connect(&broker).await;
    for topic in topics {
        publisher.publish_all(topic, 0..20, 20).await;
    }
    // One of each at once, the newest of each a second later.
    let mut boards: Vec<_> = topics.map(|_| Board::default()).into();
    while boards.iter().any(|board| board.newest < 20) {
        let event = client.recv().await;
        let topic = topics.iter().position(|topic| event["topic"] == *topic);
        boards[topic.expect("one of them")].book(&event);
    }
    for board in &boards {
        assert!(board.received <= 3, "{} of 20 events", board.received);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_policy_is_refused_and_changes_nothing() {
    let broker = Broker::start(&[]);
    broker.create_topic("prices").await;
    let mut client = Client::subscribed(&broker, "prices").await;
    for topic in ["prices", "prices.*"] {
        for (fields, words) in [
            (r#""policy":"newest""#, "latest"),
            (r#""policy":7"#, "latest"),
            (r#""max_rate":0"#, "from 1 to 1000"),
            (r#""max_rate":1001"#, "from 1 to 1000"),
            (r#""max_rate":"5""#, "from 1 to 1000"),
            (r#""policy":"latest","max_rate":0.5"#, "from 1 to 1000"),
        ] {
            let text = format!(r#"{{"type":"subscribe","topic":"{topic}",{fields}}}"#);
            let told = client.expect_refusal(&text, "BAD_REQUEST").await;
            assert!(told.contains(words), "{told}");
        }
    }
    for (query, words) in [
        ("policy=all", "latest"),
        ("policy=latest&max_rate=0", "from 1 to 1000"),
        ("max_rate=many", "from 1 to 1000"),
    ] {
        for path in ["/topics/prices/events?", "/events?topic=prices&"] {
            let answer = broker.get(&format!("{path}{query}")).await;
            assert_eq!(answer.status, 400, "{path}{query}");
            assert!(answer.body.contains(words), "{}", answer.body);
        }
    }
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("prices", 0..50, 50).await;
    for seq in 1..=50 {
        let event = client.expect_event("prices").await;
        assert_eq!((number(&event, "seq"), event.get("skipped")), (seq, None));
    }
}

/// Whether the next event of `topic` comes by a policy.
async fn has_policy(publisher: &mut Client, client: &mut Client, topic: &str) -> bool {
    publisher.publish(topic, 0).await;
    let event = client.expect_event(topic).await;
    event.get("skipped").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_the_policy_of_its_name_or_of_the_last_pattern() {
    let broker = Broker::start(&[]);
    for topic in ["p.a", "p.b"] {
        broker.create_topic(topic).await;
    }
    let (mut client, mut publisher) = (
        Client::connect(&broker).await,
        Client::connect(&broker).await,
    );
    let latest = || json!({"policy": "latest"});
    client.subscribe_with("p.a", latest()).await;
    assert!(has_policy(&mut publisher, &mut client, "p.a").await);
    // The last subscribe counts, and one without a policy wants everything again.
    client.subscribe("p.a").await;
    assert!(!has_policy(&mut publisher, &mut client, "p.a").await);
    client.subscribe_with("p.*", latest()).await;
    assert!(!has_policy(&mut publisher, &mut client, "p.a").await);
    assert!(has_policy(&mut publisher, &mut client, "p.b").await);
    // Of several patterns the last.
    client.subscribe("p.>").await;
    assert!(!has_policy(&mut publisher, &mut client, "p.b").await);
    client.subscribe_with("p.*", latest()).await;
    assert!(has_policy(&mut publisher, &mut client, "p.b").await);
    client.unsubscribe("p.*").await;
    assert!(!has_policy(&mut publisher, &mut client, "p.b").await);
    client.subscribe_with("p.*", latest()).await;
    // Without its name, the pattern decides.
    client.unsubscribe("p.a").await;
    assert!(has_policy(&mut publisher, &mut client, "p.a").await);
    client
        .subscribe_with("p.a", json!({"max_rate": 1000}))
        .await;
    client.unsubscribe("p.*").await;
    client.unsubscribe("p.>").await;
    assert!(has_policy(&mut publisher, &mut client, "p.a").await);
    client.unsubscribe("p.a").await;
    client.subscribe("p.a").await;
    assert!(!has_policy(&mut publisher, &mut client, "p.a").await);
    // Topics to come, and come again.
    client.subscribe_with("q.*", latest()).await;
    for _ in 0..2 {
        broker.create_topic("q.a").await;
        assert_eq!(client.recv().await["msg"], "topic_created");
        assert!(has_policy(&mut publisher, &mut client, "q.a").await);
        broker.delete_topic("q.a").await;
        assert_eq!(client.recv().await["msg"], "topic_deleted");
    }
}

/// A client to which the newest event of a topic is held back for a second, and what it has.
async fn held_back(broker: &Broker, topic: &str, wanted: &str) -> Client {
    let (mut client, mut publisher) =
        (Client::connect(broker).await, Client::connect(broker).await);
    client.subscribe_with(wanted, json!({"max_rate": 1})).await;
    publisher.publish(topic, 1).await;
    assert_eq!(client.expect_event(topic).await["seq"], 1);
    publisher.publish_all(topic, 2..=5, 4).await;
    client
}

fn assert_is_held_back(event: &Value) {
    assert_eq!(number(event, "seq"), 5, "{event}");
    assert_eq!(number(event, "skipped"), 3, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_comes_before_the_word_that_ends_its_subscription() {
    let mut broker = Broker::start(&[]);
    for topic in ["p.a", "p.b", "p.c", "p.d", "p.e"] {
        broker.create_topic(topic).await;
    }
    let mut client = held_back(&broker, "p.a", "p.a").await;
    let before = client.unsubscribe("p.a").await;
    assert_is_held_back(&before[0]);
    assert_eq!(before.len(), 1);

    let mut client = held_back(&broker, "p.b", "p.*").await;
    let before = client.unsubscribe("p.*").await;
    assert_is_held_back(&before[0]);
    assert_eq!(before.len(), 1);

    let mut client = held_back(&broker, "p.c", "p.*").await;
    broker.delete_topic("p.c").await;
    assert_is_held_back(&client.recv().await);
    assert_eq!(client.recv().await["msg"], "topic_deleted");

    // Also where it is to come in full from now on: in order, and each once.
    let mut client = held_back(&broker, "p.d", "p.d").await;
    client
        .send(json!({"type": "subscribe", "topic": "p.d"}))
        .await;
    assert_is_held_back(&client.recv().await);
    assert_eq!(client.recv().await["type"], "ack");

    let mut client = held_back(&broker, "p.e", "p.*").await;
    broker.signal(rustix::process::Signal::TERM);
    assert_eq!(client.recv().await["msg"], "shutting_down");
    let (code, before) = client.expect_close().await;
    assert_eq!(code, 1001);
    assert_is_held_back(&before[0]);
    assert_eq!(before.len(), 1);
    broker.wait_exit(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_replayed_whole_and_live_events_follow_by_the_policy() {
    let broker = Broker::start(&[]);
    broker.create_topic("prices").await;
    let (mut client, mut publisher) = (
        Client::connect(&broker).await,
        Client::connect(&broker).await,
    );
    publisher.publish_all("prices", 0..8, 8).await;
    let wanted = json!({"last_n": 5, "policy": "latest"});
    let ack = client.subscribe_with("prices", wanted).await;
    assert_eq!(ack["seq"], 8);
    for seq in 4..=8 {
        let event = client.expect_event("prices").await;
        assert_eq!((number(&event, "seq"), event.get("skipped")), (seq, None));
    }
    publisher.publish_all("prices", 0..100, 100).await;
    let mut board = Board {
        newest: 8,
        ..Board::default()
    };
    board.follow(&mut client, 108).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_can_have_a_policy() {
    let broker = Broker::start(&[]);
    for topic in ["a", "b"] {
        broker.create_topic(topic).await;
    }
    let mut publisher = Client::connect(&broker).await;
    for path in [
        "/topics/a/events?max_rate=5",
        "/events?topic=a&topic=b&policy=latest&max_rate=5",
    ] {
        let mut stream = EventStream::open(&broker, path, &[]).await;
        stream.expect("ack").await;
        let acks = publisher.publish_all("a", 0..50, 50).await;
        let last = number(&acks[49], "seq");
        let mut board = Board {
            newest: last - 50,
            ..Board::default()
        };
        while board.newest < last {
            let event = stream.expect_event("a").await;
            let position = format!(":{}", number(&event.json(), "seq"));
            let id = event.last_id.split(',').next().unwrap_or_default();
            assert!(id.ends_with(&position), "{id}");
            board.book(&event.json());
        }
        assert!(board.received <= 4, "{} events at once", board.received);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn even_the_newest_events_have_a_bound_in_bytes_and_what_falls_out_is_told() {
    const TOPICS: u64 = 200;
    let broker = Broker::start(&[
        ("SUBSCRIBER_QUEUE_BYTES", "256KiB"),
        ("WRITE_WAIT_SEC", "60"),
    ]);
    for topic in 0..TOPICS {
        broker.create_topic(&format!("p.{topic}")).await;
    }
    for wanted in [r#""policy":"latest""#, r#""max_rate":1"#] {
        let before = totals_at_rest(&broker).await;
        let mut board = RawSocket::connect_small(&broker).await;
        let subscribe = format!(r#"{{"type":"subscribe","topic":"p.*",{wanted}}}"#);
        assert_eq!(board.ask(&subscribe).await["type"], "ack");
        let mut publisher = Client::connect(&broker).await;
        let payload = "x".repeat(16 * 1024);
        for _ in 0..3 {
            for topic in 0..TOPICS {
                publisher
                    .publish(&format!("p.{topic}"), payload.as_str())
                    .await;
            }
        }
        let lag = broker.get("/connections?sort=lag&limit=1").await.json();
        let waiting = number(&lag["connections"][0]["lag"], "events");
        assert!(
            (1..80).contains(&waiting),
            "{waiting} events of 16 KiB wait in 256 KiB"
        );
        // Small ones take their places, and none of those falls out.
        for topic in 0..TOPICS {
            publisher.publish(&format!("p.{topic}"), "last").await;
        }
        board.widen();
        let (mut accounted, mut dropped, mut through) = (0, 0, 0);
        while through < TOPICS {
            let message = board.recv().await;
            if message["type"] == "event" {
                accounted += 1 + number(&message, "skipped");
                through += u64::from(message["message"]["payload"] == "last");
            } else {
                assert_eq!(message["error"]["code"], "SLOW_CONSUMER", "{message}");
                dropped += number(&message, "dropped");
            }
        }
        assert_eq!(accounted + dropped, TOPICS * 4);
        assert!(dropped > 0, "3 MiB fit into 256 KiB");
        let totals = totals_at_rest(&broker).await;
        assert_eq!(
            number(&totals, "dropped") - number(&before, "dropped"),
            dropped
        );
        assert_accounted(&totals);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_where_policies_change_between_events() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut client = Client::connect(&broker).await;
    let latest = r#"{"type":"subscribe","topic":"t","policy":"latest","request_id":"s"}"#;
    let latest_and_past =
        r#"{"type":"subscribe","topic":"t","policy":"latest","last_n":1,"request_id":"s"}"#;
    let all = r#"{"type":"subscribe","topic":"t","request_id":"s"}"#;
    let none = r#"{"type":"unsubscribe","topic":"t","request_id":"s"}"#;
    let mut seq = 0;
    for commands in [
        [latest, all, latest],
        [latest, none, latest],
        [latest, latest, latest_and_past],
    ] {
        // All in one read, so that nothing leaves in between.
        let mut pipelined = Vec::new();
        for command in commands {
            pipelined.push(command.to_owned());
            pipelined.push(crate::harness::client::publish("t", 1).replace(
                r#""type":"publish""#,
                r#""type":"publish","request_id":"p""#,
            ));
        }
        client.send_at_once(&pipelined).await;
        let (mut told, mut acked) = (seq, 0);
        while acked < pipelined.len() {
            let message = client.recv().await;
            if message["type"] == "ack" {
                acked += 1;
                if let Some(at) = message["seq"]
                    .as_u64()
                    .filter(|_| message["request_id"] == "s")
                {
                    assert!(told <= at, "event {told} before the ack that says {at}");
                    // A replay begins behind it.
                    told = told.min(at.saturating_sub(1));
                }
            } else {
                let at = number(&message, "seq");
                assert!(at > told, "{at} after {told}");
                told = at;
            }
        }
        seq += 3;
        for message in client.settle().await {
            told = number(&message, "seq");
        }
        assert_eq!(told, seq, "the newest has come");
        client.unsubscribe("t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_behind_a_held_back_event_repeats_nothing_behind_its_ack() {
    let broker = Broker::start(&[]);
    broker.create_topic("p.a").await;
    for wanted in ["p.a", "p.*"] {
        let mut client = held_back(&broker, "p.a", wanted).await;
        let again = json!({"type": "subscribe", "topic": wanted, "max_rate": 1, "last_n": 2});
        client.send(again).await;
        let held = client.recv().await;
        let newest = number(&held, "seq");
        assert_eq!(client.recv().await["type"], "ack");
        for seq in [newest - 1, newest] {
            assert_eq!(client.expect_event("p.a").await["seq"], seq);
        }
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(client.settle().await, [] as [Value; 0]);
        client.unsubscribe(wanted).await;
        broker.delete_topic("p.a").await;
        broker.create_topic("p.a").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_while_other_patterns_come_and_go() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let (mut client, mut publisher) = (
        Client::connect(&broker).await,
        Client::connect(&broker).await,
    );
    client.subscribe_with("t", json!({"max_rate": 1})).await;
    let began = Instant::now();
    let mut events = 0;
    while began.elapsed() < Duration::from_millis(1500) {
        publisher.publish("t", 0).await;
        for kind in ["subscribe", "unsubscribe"] {
            client
                .send(json!({"type": kind, "topic": "zzz.*", "policy": "latest"}))
                .await;
            loop {
                let message = client.recv().await;
                if message["type"] == "ack" {
                    break;
                }
                events += 1;
            }
        }
    }
    let most = began.elapsed().as_secs() + 2;
    assert!(events <= most, "{events} events at one a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_was_begun_for_a_subscription_that_has_ended_lets_nothing_go() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut publisher = Client::connect(&broker).await;
    let began = Instant::now();
    let mut client = held_back(&broker, "t", "t").await;
    assert_is_held_back(&client.unsubscribe("t").await[0]);
    // Its next rest begins half a second after that of the first subscription did.
    tokio::time::sleep(Duration::from_millis(500).saturating_sub(began.elapsed())).await;
    client.subscribe_with("t", json!({"max_rate": 1})).await;
    let asked = Instant::now();
    publisher.publish("t", 6).await;
    assert_eq!(client.expect_event("t").await["seq"], 6);
    publisher.publish("t", 7).await;
    assert_eq!(client.expect_event("t").await["seq"], 7);
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rate_holds_back_is_no_lag() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut client = held_back(&broker, "t", "t").await;
    let listed = broker.get("/connections").await.json();
    for connection in listed["connections"].as_array().expect("a list") {
        assert_eq!(
            connection["lag"],
            json!({"events": 0, "age_ms": 0}),
            "{connection}"
        );
    }
    let totals = broker.get("/stats").await.json()["totals"].take();
    assert_accounted(&totals);
    assert_is_held_back(&client.unsubscribe("t").await[0]);
}
