//! Slow consumers: only they lose events, they are told exactly how many, and nobody waits for them.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::json::{keys, member, message_id, number};
use crate::harness::raw::{RawSocket, text};

/// More than sockets buffer: 7 MB of events.
const MESSAGES: u64 = 6000;

/// A stalled subscriber beside a healthy one, each with a queue of ten.
struct Scene {
    broker: Broker,
    publisher: Client,
    healthy: Client,
    stalled: RawSocket,
}

impl Scene {
    async fn set(further: &[(&str, &str)]) -> Self {
        let settings = [("SUBSCRIBER_QUEUE_SIZE", "10"), ("WRITE_WAIT_SEC", "60")];
        let broker = Broker::start(&[&settings, further].concat());
        broker.create_topic("orders").await;
        let mut stalled = RawSocket::connect_small(&broker).await;
        let subscribe = r#"{"type":"subscribe","topic":"orders"}"#;
        assert_eq!(stalled.ask(subscribe).await["type"], "ack");
        Self {
            publisher: Client::connect(&broker).await,
            healthy: Client::subscribed(&broker, "orders").await,
            stalled,
            broker,
        }
    }

    /// Publishes up to a `seq`, a few at a time and in step with the healthy subscriber, who must get everything.
    async fn storm_to(&mut self, last: u64) {
        let payload = "x".repeat(1024);
        let mut seq = 0;
        while seq < last {
            let batch = [payload.as_str(); 5];
            let acks = self.publisher.publish_all("orders", batch, 5).await;
            for ack in acks {
                seq = number(&ack, "seq");
                let event = self.healthy.expect_event("orders").await;
                assert_eq!(event["seq"], seq, "a healthy subscriber misses nothing");
            }
        }
    }
}

/// What a subscriber got, and what it was told that it did not get.
#[derive(Default)]
struct Account {
    newest: u64,
    received: u64,
    dropped: u64,
    announced: u64,
}

impl Account {
    /// Checks the message against those before it: `seq` only grows, and each gap was announced, exactly.
    fn book(&mut self, message: &Value) {
        if message["type"] == "event" {
            let seq = number(message, "seq");
            assert!(seq > self.newest, "{seq} after {}", self.newest);
            let gap = seq - self.newest - 1;
            assert_eq!(gap, self.announced, "the gap before {seq}");
            (self.newest, self.announced) = (seq, 0);
            self.received += 1;
        } else if message["error"]["code"] == "SLOW_CONSUMER" {
            let dropped = number(message, "dropped");
            let words = format!("Subscriber queue overflow, {dropped} messages dropped");
            assert_eq!(message["error"]["message"], words);
            self.announced += dropped;
            self.dropped += dropped;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn received_and_dropped_are_exactly_what_was_published() {
    let mut scene = Scene::set(&[]).await;
    scene.storm_to(MESSAGES).await;
    scene.stalled.widen();
    let mut account = Account::default();
    while account.newest < MESSAGES {
        account.book(&scene.stalled.recv().await);
    }
    assert_eq!(account.received + account.dropped, MESSAGES);
    assert!(
        account.dropped > 0,
        "the stalled subscriber was not stalled"
    );
    let stats = scene.broker.get("/stats").await.json();
    assert_eq!(stats["topics"]["orders"]["dropped"], account.dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_memory_is_short_who_lags_most_loses_before_anything_is_refused() {
    const BUDGET: u64 = 16 << 20;
    // More than the budget, and less than the queue may hold.
    const LAST: u64 = 18_000;
    let budget = BUDGET.to_string();
    let mut scene = Scene::set(&[
        ("MEMORY_BUDGET", &budget),
        ("RING_BUFFER_SIZE", "0"),
        ("SUBSCRIBER_QUEUE_SIZE", "1000000"),
        ("SUBSCRIBER_QUEUE_BYTES", "1GiB"),
    ])
    .await;
    // Every publish is acked and reaches the healthy one.
    scene.storm_to(LAST).await;
    let stats = scene.broker.get("/stats").await.json();
    let kinds = &stats["totals"]["memory"]["kinds"];
    let kept: u64 = ["frames", "replies", "input", "topics", "connections"]
        .iter()
        .map(|kind| number(kinds, kind))
        .sum();
    assert!(
        kept < BUDGET / 10 * 11,
        "{kept} bytes are kept: {}",
        stats["totals"]
    );
    scene.stalled.widen();
    let mut account = Account::default();
    while account.newest < LAST {
        account.book(&scene.stalled.recv().await);
    }
    assert_eq!(account.received + account.dropped, LAST);
    assert!(account.dropped > 0, "18 MB fit into 16 MiB");
    assert_eq!(stats["topics"]["orders"]["dropped"], account.dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_reads_again_is_whole_again() {
    let mut scene = Scene::set(&[]).await;
    scene.storm_to(MESSAGES).await;
    scene.stalled.widen();
    let mut account = Account::default();
    while account.newest < MESSAGES {
        account.book(&scene.stalled.recv().await);
    }
    for seq in MESSAGES + 1..MESSAGES + 100 {
        scene.publisher.publish("orders", seq).await;
        assert_eq!(scene.stalled.recv().await["seq"], seq);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_has_its_shape() {
    let mut scene = Scene::set(&[]).await;
    scene.storm_to(MESSAGES).await;
    scene.stalled.widen();
    let notice = loop {
        let message = scene.stalled.recv_raw().await;
        if message.starts_with(r#"{"type":"error""#) {
            break message;
        }
    };
    assert_eq!(keys(&notice), "type error ts dropped");
    assert_eq!(keys(&member(&notice, "error")), "code message");
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_a_slow_consumer_are_never_dropped() {
    let mut scene = Scene::set(&[]).await;
    scene.storm_to(MESSAGES).await;
    let ids: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    let commands = ids.iter().flat_map(|id| text(&ping(id)));
    scene.stalled.send(&commands.collect::<Vec<_>>()).await;
    scene.stalled.widen();
    let mut account = Account::default();
    let mut answered = Vec::new();
    while account.newest < MESSAGES || answered.len() < ids.len() {
        let message = scene.stalled.recv().await;
        account.book(&message);
        if let Some(id) = message["request_id"].as_str() {
            assert_eq!(message["type"], "pong");
            answered.push(id.to_owned());
        }
    }
    assert_eq!(answered, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_takes_no_byte_is_disconnected() {
    let mut scene = Scene::set(&[("WRITE_WAIT_SEC", "1")]).await;
    scene.storm_to(MESSAGES).await;
    eventually("only the healthy subscriber", async || {
        scene.broker.subscribers_of("orders").await == 1
    })
    .await;
    let ack = scene.publisher.publish("orders", "still").await;
    assert_eq!(ack["matched"], 1);
    scene.healthy.expect_event("orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_disconnect_ends_a_slow_consumer_with_1013() {
    // CLOSE_WAIT_SEC: how long the close may wait for the client to read again.
    let settings = [
        ("SLOW_CONSUMER_POLICY", "disconnect"),
        ("CLOSE_WAIT_SEC", "60"),
    ];
    let mut scene = Scene::set(&settings).await;
    scene.storm_to(MESSAGES).await;
    eventually("only the healthy subscriber", async || {
        scene.broker.subscribers_of("orders").await == 1
    })
    .await;
    scene.stalled.widen();
    let mut newest = 0;
    let notice = loop {
        let message = scene.stalled.recv().await;
        if message["type"] != "event" {
            break message;
        }
        assert_eq!(message["seq"], newest + 1);
        newest += 1;
    };
    assert_eq!(notice["error"]["code"], "SLOW_CONSUMER");
    assert!(number(&notice, "dropped") > 0);
    assert_eq!(scene.stalled.expect_close().await, Some(1013));
}

/// Floods a topic, and comes back when all is acked.
async fn flood(mut publisher: Client, topic: &str) -> Client {
    let payloads = std::iter::repeat_n("x".repeat(1024), 2000);
    publisher.publish_all(topic, payloads, 50).await;
    publisher
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_over_topics_that_flood_one_connection_at_once() {
    const TOPICS: [&str; 4] = ["a", "b", "c", "d"];
    let settings = [
        ("SUBSCRIBER_QUEUE_SIZE", "10"),
        ("WRITE_WAIT_SEC", "60"),
        ("SHARDS", "4"),
    ];
    let broker = Broker::start(&settings);
    let mut stalled = RawSocket::connect_small(&broker).await;
    for topic in TOPICS {
        broker.create_topic(topic).await;
        let subscribe = json!({"type": "subscribe", "topic": topic});
        assert_eq!(stalled.ask(&subscribe.to_string()).await["type"], "ack");
    }
    let mut floods = JoinSet::new();
    for topic in TOPICS {
        floods.spawn(flood(Client::connect(&broker).await, topic));
    }
    let mut publisher = floods.join_all().await.pop().expect("four of them");
    for topic in TOPICS {
        assert_eq!(publisher.publish(topic, "last").await["seq"], 2001);
    }
    stalled.widen();
    let mut newest = [0; TOPICS.len()];
    let (mut missing, mut announced) = (0, 0);
    while newest != [2001; TOPICS.len()] {
        let message = stalled.recv().await;
        if message["type"] == "error" {
            announced += number(&message, "dropped");
            continue;
        }
        let topic = TOPICS.iter().position(|topic| message["topic"] == *topic);
        let newest = &mut newest[topic.expect("one of them")];
        missing += number(&message, "seq") - *newest - 1;
        assert!(
            missing <= announced,
            "{missing} missing, {announced} announced"
        );
        *newest = number(&message, "seq");
    }
    assert!(missing > 0, "the stalled subscriber was not stalled");
    assert_eq!(missing, announced);
}

/// Sends all commands and reads nothing as long as the broker takes more; then each must have its reply, in order.
async fn assert_answers_all(broker: &Broker, commands: Vec<String>) {
    let mut socket = RawSocket::connect_small(broker).await;
    let bytes: Vec<_> = commands.iter().flat_map(|command| text(command)).collect();
    let mut sent = 0;
    loop {
        let taken = socket.push(&bytes[sent..]).await;
        sent += taken;
        if taken == 0 {
            break;
        }
    }
    socket.widen();
    for number in 0..commands.len() {
        if sent < bytes.len() {
            sent += socket.wire.stream.try_write(&bytes[sent..]).unwrap_or(0);
        }
        let reply = socket.recv().await;
        assert_eq!(reply["request_id"], number.to_string(), "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_without_reading_loses_no_pong() {
    let broker = Broker::start(&[("WRITE_WAIT_SEC", "60")]);
    let commands = (0..60_000).map(|number| ping(&number.to_string()));
    assert_answers_all(&broker, commands.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_does_not_read_loses_no_ack() {
    let broker = Broker::start(&[("WRITE_WAIT_SEC", "60")]);
    broker.create_topic("orders").await;
    let commands = (0..30_000).map(|number| {
        let message = json!({"id": message_id(), "payload": number});
        let id = number.to_string();
        json!({"type": "publish", "topic": "orders", "message": message, "request_id": id})
            .to_string()
    });
    assert_answers_all(&broker, commands.collect()).await;
}

fn ping(request_id: &str) -> String {
    json!({"type": "ping", "request_id": request_id}).to_string()
}
