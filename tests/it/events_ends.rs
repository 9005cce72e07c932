//! Server-Sent Events: who may have a stream, what a slow one loses, and how it ends.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::{Rest, request_head};
use crate::harness::json::number;
use crate::harness::keys::{KeyFile, connect, key};
use crate::harness::sse::EventStream;
use crate::harness::tls::{self, Authority};
use crate::harness::wire::Wire;

async fn streams(broker: &Broker) -> Vec<Value> {
    let connections = broker.get("/connections").await.json();
    let connections = connections["connections"]
        .as_array()
        .expect("a list")
        .clone();
    let is_stream = |connection: &Value| connection["transport"] == "sse";
    connections.into_iter().filter(is_stream).collect()
}

#[tokio::test]
async fn it_is_a_connection_like_any_other() {
    let broker = Broker::start(&[("MAX_CONNECTIONS", "2")]);
    broker.create_topic("t").await;
    let path = "/topics/t/events?client_id=tab";
    let mut stream = EventStream::open(&broker, path, &[]).await;
    stream.expect("ack").await;
    assert_eq!(streams(&broker).await.len(), 1);
    assert_eq!(broker.subscribers_of("t").await, 1);
    let mut publisher = Client::connect(&broker).await;
    assert_eq!(publisher.publish("t", 1).await["matched"], 1);
    stream.expect_event("t").await;
    eventually("the event to be counted", async || {
        number(&streams(&broker).await[0], "events_out") == 1
    })
    .await;
    let shown = streams(&broker).await.remove(0);
    assert_eq!(
        (&shown["client_id"], &shown["subscriptions"]),
        (&"tab".into(), &1.into())
    );
    // It has a seat.
    let refused = broker.get("/topics/t/events").await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    // An operator can end it.
    let id = shown["id"].as_str().expect("an id");
    let answer = broker
        .request("DELETE", &format!("/connections/{id}"), &[], "")
        .await;
    assert_eq!(answer.status, 204);
    stream.expect_end().await;
    eventually("the stream to be forgotten", async || {
        streams(&broker).await.is_empty() && broker.subscribers_of("t").await == 0
    })
    .await;
    let ended = broker.get("/connections?closed=1").await.json();
    assert_eq!(ended["connections"][0]["transport"], "sse");
    assert_eq!(ended["connections"][0]["reason"], "closed by an operator");
}

#[tokio::test]
async fn a_client_that_goes_is_forgotten_at_once() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    for is_half in [true, false] {
        let mut stream = EventStream::open(&broker, "/topics/t/events", &[]).await;
        stream.expect("ack").await;
        if is_half {
            stream.wire.shut_down().await;
            stream.expect_end().await;
        } else {
            drop(stream);
        }
        eventually("nobody to be subscribed", async || {
            broker.subscribers_of("t").await == 0 && streams(&broker).await.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_client_says_to_a_stream_is_thrown_away() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    broker.create_topic("t").await;
    let mut stream = EventStream::open(&broker, "/topics/t/events", &[]).await;
    stream.expect("ack").await;
    let before = broker.resident_kib();
    let nothing = vec![b'x'; 64 * 1024];
    for _ in 0..200 {
        stream.wire.send(&nothing).await;
    }
    let mut publisher = Client::connect(&broker).await;
    publisher.publish("t", 1).await;
    stream.expect_event("t").await;
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB for 12.5 MiB of nothing");
}

#[tokio::test]
async fn a_slow_one_loses_its_oldest_and_is_told_how_many_in_their_place() {
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "10"), ("WRITE_WAIT_SEC", "60")]);
    broker.create_topic("t").await;
    let wire = Wire::connect(broker.address(), Some(4096)).await;
    let mut stream = EventStream::open_over(wire, "/topics/t/events", &[]).await;
    stream.expect("ack").await;
    let mut publisher = Client::connect(&broker).await;
    let payload = "x".repeat(1024);
    for _ in 0..600 {
        publisher.publish_all("t", [payload.as_str(); 10], 5).await;
    }
    let (mut newest, mut received, mut dropped) = (0, 0, 0);
    while newest < 6000 {
        let event = stream.next().await.expect("the stream goes on");
        let json = event.json();
        if event.name == "slow_consumer" {
            let now = number(&json, "dropped");
            dropped += now;
            let next = stream.expect_event("t").await;
            let seq = number(&next.json(), "seq");
            assert_eq!(seq, newest + now + 1, "the gap is what was announced");
            assert_eq!(next.last_id.split(':').nth(1), Some(&*seq.to_string()));
            newest = seq;
        } else {
            assert_eq!(number(&json, "seq"), newest + 1);
            newest += 1;
        }
        received += 1;
    }
    assert!(dropped > 0, "the socket took everything");
    assert_eq!(received + dropped, 6000);
    let shown = broker.get("/connections?sort=dropped").await.json();
    assert_eq!(number(&shown["connections"][0], "dropped"), dropped);
}

#[tokio::test]
async fn where_slow_ones_are_disconnected_it_is_told_and_ends() {
    let broker = Broker::start(&[
        ("SUBSCRIBER_QUEUE_SIZE", "10"),
        ("SLOW_CONSUMER_POLICY", "disconnect"),
    ]);
    broker.create_topic("t").await;
    let wire = Wire::connect(broker.address(), Some(4096)).await;
    let mut stream = EventStream::open_over(wire, "/topics/t/events", &[]).await;
    stream.expect("ack").await;
    let mut publisher = Client::connect(&broker).await;
    let payload = "x".repeat(4096);
    for _ in 0..300 {
        publisher.publish_all("t", [payload.as_str(); 10], 5).await;
        if broker.subscribers_of("t").await == 0 {
            break;
        }
    }
    let mut last = None;
    while let Some(event) = stream.next().await {
        last = Some(event);
    }
    assert_eq!(last.expect("events came").name, "slow_consumer");
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_its_stream_behind_what_was_published() {
    let broker = Broker::start(&[("SHARDS", "2")]);
    for topic in ["a", "b"] {
        broker.create_topic(topic).await;
    }
    let mut of_one = EventStream::open(&broker, "/topics/a/events", &[]).await;
    let mut of_two = EventStream::open(&broker, "/events?topic=a&topic=b", &[]).await;
    for stream in [&mut of_one, &mut of_two] {
        stream.expect("ack").await;
    }
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("a", [1, 2, 3], 3).await;
    broker.delete_topic("a").await;
    for stream in [&mut of_one, &mut of_two] {
        assert_eq!(stream.expect_seqs_to("a", 3).await, [1, 2, 3]);
        let told = stream.expect("topic_deleted").await.json();
        assert_eq!(
            (&told["msg"], &told["topic"]),
            (&"topic_deleted".into(), &"a".into())
        );
    }
    of_one.expect_end().await;
    // The other goes on, as long as there is a topic.
    publisher.publish("b", 1).await;
    of_two.expect_event("b").await;
    broker.delete_topic("b").await;
    of_two.expect("topic_deleted").await;
    of_two.expect_end().await;
    eventually("both to be among the ended", async || {
        let ended = broker.get("/connections?closed=1").await.json();
        let ended = ended["connections"].as_array().expect("a list");
        let because = |of: &&Value| of["reason"] == "its topics have ended";
        ended.iter().filter(because).count() == 2
    })
    .await;
}

#[tokio::test]
async fn a_quiet_stream_gets_a_comment_and_lives_longer_than_a_silent_websocket() {
    let broker = Broker::start(&[("PING_PERIOD_SEC", "1"), ("PONG_WAIT_SEC", "2")]);
    broker.create_topic("t").await;
    let mut stream = EventStream::open(&broker, "/topics/t/events", &[]).await;
    stream.expect("ack").await;
    let mut publisher = Client::connect(&broker).await;
    let pause = tokio::time::sleep(Duration::from_millis(4500));
    tokio::select! {
        () = pause => {}
        early = publisher.recv_or_end("nothing but heartbeats") => drop(early),
    }
    drop(publisher);
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish("t", 1).await;
    stream.expect_event("t").await;
    assert!((3..=9).contains(&stream.comments), "{}", stream.comments);
}

#[tokio::test]
async fn it_is_told_to_come_again_when_the_server_drains() {
    let mut broker = Broker::start(&[("RECONNECT_SPREAD_SEC", "5")]);
    broker.create_topic("t").await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = EventStream::open(&broker, "/topics/t/events", &[]).await;
        stream.expect("ack").await;
        streams.push(stream);
    }
    let mut publisher = Client::connect(&broker).await;
    publisher.publish("t", 1).await;
    broker.signal(Signal::TERM);
    let mut slots = Vec::new();
    for stream in &mut streams {
        // The event was acked, and may still have been on its way to the core of the stream.
        let mut came = Vec::new();
        for _ in 0..2 {
            came.push(stream.next().await.expect("it is not the end yet"));
        }
        came.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(came[0].name, "message", "{came:?}");
        assert_eq!(came[1].name, "shutting_down", "{came:?}");
        let told = came[1].json();
        let slot = number(&told, "retry_after_ms");
        assert_eq!(stream.retry_ms, Some(slot));
        slots.push(slot);
        stream.expect_end().await;
    }
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), 4, "each has a moment of its own");
    publisher.expect_close().await;
    let (code, _) = broker.wait_exit(Duration::from_secs(10)).await;
    assert_eq!(code, 0);
}

#[tokio::test]
async fn a_key_or_a_ticket_opens_it() {
    let broker = Broker::start(&[("AUTH_ENABLED", "true"), ("API_KEYS", "secret")]);
    let key = [("X-API-Key", "secret")];
    broker
        .request("POST", "/topics", &key, r#"{"name":"t"}"#)
        .await;
    for path in ["/topics/t/events", "/events?topic=t"] {
        assert_eq!(broker.get(path).await.status, 401);
        let mut stream = EventStream::open(&broker, path, &key).await;
        stream.expect("ack").await;
        let sold = broker.request("POST", "/tickets", &key, "").await.json();
        let ticket = sold["ticket"].as_str().expect("a ticket");
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}ticket={ticket}");
        // A request that comes to nothing leaves it as it was.
        let wrong = broker.get(&format!("{path}&last=x")).await;
        assert_eq!(wrong.status, 400);
        let mut stream = EventStream::open(&broker, &path, &[]).await;
        stream.expect("ack").await;
        let again = broker.get(&path).await;
        assert_eq!(again.status, 401);
        assert!(!broker.log().contains(ticket), "a ticket is never logged");
    }
}

#[tokio::test]
async fn rights_are_asked_and_a_right_that_is_lost_ends_what_it_had_opened() {
    let rights = |topics: &str| key("reader", &format!("subscribe = [{topics}]"));
    let admin = key("admin", "admin = true");
    let file = KeyFile::new(&(rights(r#""a", "b""#) + &admin));
    let broker = file.broker(&[]);
    for topic in ["a", "b", "c"] {
        let body = json!({"name": topic}).to_string();
        broker
            .request("POST", "/topics", &[("X-API-Key", "admin")], &body)
            .await;
    }
    let reader = [("X-API-Key", "reader")];
    for path in [
        "/topics/c/events",
        "/events?topic=a&topic=c",
        "/topics/none/events",
    ] {
        let refused = broker.request("GET", path, &reader, "").await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.body);
    }
    let mut of_a = EventStream::open(&broker, "/topics/a/events", &reader).await;
    let mut of_both = EventStream::open(&broker, "/events?topic=a&topic=b", &reader).await;
    for stream in [&mut of_a, &mut of_both] {
        stream.expect("ack").await;
    }
    file.replace(&(rights(r#""b""#) + &admin));
    for stream in [&mut of_a, &mut of_both] {
        let told = stream.expect("error").await.json();
        assert_eq!(told["error"]["code"], "FORBIDDEN");
    }
    of_a.expect_end().await;
    let mut publisher = connect(&broker, "admin").await;
    publisher.publish_all("a", [1], 1).await;
    publisher.publish("b", 1).await;
    of_both.expect_event("b").await;
    file.replace(&admin);
    let told = of_both.expect("error").await.json();
    assert_eq!(told["error"]["code"], "UNAUTHORIZED");
    of_both.expect_end().await;
}

#[tokio::test]
async fn it_comes_over_tls_too() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    broker.create_topic("t").await;
    let connected = tls::connect(&broker, authority.client()).await;
    let mut socket = connected.expect("hands are shaken");
    let request = request_head("GET", "/topics/t/events", &[]);
    socket
        .write_all(request.as_bytes())
        .await
        .expect("it is open");
    let mut publisher = Client::connect(&broker).await;
    eventually("the stream to begin", async || {
        broker.subscribers_of("t").await == 1
    })
    .await;
    publisher.publish("t", "over TLS").await;
    broker.delete_topic("t").await;
    let mut text = String::new();
    // To its end: the session is closed as it should be, so nothing was cut off.
    socket
        .read_to_string(&mut text)
        .await
        .expect("a proper end");
    assert!(text.contains("event: ack"), "{text}");
    assert!(text.contains("over TLS"), "{text}");
    assert!(
        text.ends_with("\n\n") && text.contains("event: topic_deleted"),
        "{text}"
    );
}

#[tokio::test]
async fn who_comes_while_the_server_drains_is_told_when_to_come_again() {
    let broker = Broker::start(&[("DRAIN_GRACE_MS", "5000")]);
    broker.create_topic("t").await;
    // Half a request holds up nobody, and is answered.
    let mut rest = Rest::open(&broker).await;
    let request = request_head("GET", "/topics/t/events", &[]);
    rest.wire.send(&request.as_bytes()[..20]).await;
    // A subscriber that does not read does hold it up.
    let wire = Wire::connect(broker.address(), Some(4096)).await;
    let mut stalled = EventStream::open_over(wire, "/topics/t/events", &[]).await;
    stalled.expect("ack").await;
    let mut publisher = Client::connect(&broker).await;
    let payload = "x".repeat(4096);
    publisher.publish_all("t", [payload.as_str(); 100], 5).await;
    broker.signal(Signal::TERM);
    eventually("the drain to begin", async || {
        broker.log().contains("shutting down")
    })
    .await;
    rest.wire.send(&request.as_bytes()[20..]).await;
    // Not a refusal: with one a browser would give up for ever.
    let head = rest.response_head("an answer").await;
    assert_eq!(head.status, 200);
    let mut late = EventStream::of(rest.wire, head);
    let told = late.expect("shutting_down").await.json();
    assert!(number(&told, "retry_after_ms") >= 1000, "{told}");
    late.expect_end().await;
    drop(late);
    // The others end behind the grace.
    let mut ended = Value::Null;
    eventually("its end to be remembered", async || {
        let mut closed = broker.get("/connections?closed=1").await.json();
        let newest = closed.pointer_mut("/connections/0");
        ended = newest.map(Value::take).unwrap_or_default();
        !ended.is_null()
    })
    .await;
    assert_eq!(ended["reason"], "server is shutting down", "{ended}");
}
