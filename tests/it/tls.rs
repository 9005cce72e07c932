//! TLS beside the plain port: the same broker, whoever comes through which door.

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::number;
use crate::harness::tls::{Authority, ask, connect, dial, shake, web_socket};
use crate::harness::{eventually, within};

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Both ways in which a core sends.
const SENDS: [&str; 2] = ["auto", "off"];

#[tokio::test]
async fn http_is_answered_in_both_versions_of_tls() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    for version in [&TLS12, &TLS13] {
        let config = authority.client_with(&[version], None);
        let answer = ask(&broker, config, HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(
            answer.ends_with('}') && answer.contains("uptime_sec"),
            "{answer}"
        );
    }
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn http_1_1_is_agreed_on_and_nothing_else() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    let offering = |protocols: &[&str]| {
        let mut config = authority.client();
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        config
    };
    let stream = connect(&broker, offering(&["h2", "http/1.1"])).await;
    let stream = stream.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = connect(&broker, offering(&["h2"])).await;
    let error = refused.expect_err("there is no HTTP/2 here").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn large_bodies_and_long_lists_pass_through_many_records() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    for number in 0..2000 {
        broker
            .create_topic(&format!("a-topic-with-a-name-{number}"))
            .await;
    }
    let request = HEALTH.replace("/health", "/topics");
    let answer = ask(&broker, authority.client(), &request).await;
    assert_eq!(answer.matches("a-topic-with-a-name-").count(), 2000);
    assert!(answer.len() > 100_000);
    let body = json!({"name": "x".repeat(70_000)}).to_string();
    let post = format!(
        "POST /topics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(&broker, authority.client(), &post).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn events_cross_from_one_door_to_the_other() {
    for io_uring in SENDS {
        let authority = Authority::new();
        let broker = authority.start(&[("IO_URING", io_uring)]);
        broker.create_topic("orders").await;
        for version in [&TLS12, &TLS13] {
            let config = authority.client_with(&[version], None);
            let mut secret = web_socket(&broker, config).await;
            secret.subscribe("orders").await;
            let mut plain = Client::subscribed(&broker, "orders").await;
            let mut publisher = web_socket(&broker, authority.client()).await;
            for payload in ["a", &"b".repeat(60_000), ""] {
                let seq = publisher.publish("orders", payload).await["seq"].clone();
                for subscriber in [&mut secret, &mut plain] {
                    let event = subscriber.expect_event("orders").await;
                    assert_eq!(event["seq"], seq);
                    assert_eq!(event["message"]["payload"], payload);
                }
            }
            for client in [secret, plain, publisher] {
                client.close().await;
            }
        }
    }
}

#[tokio::test]
async fn many_messages_at_once_arrive_complete_and_in_order() {
    const MESSAGES: u64 = 5000;
    for io_uring in SENDS {
        let authority = Authority::new();
        let broker = authority.start(&[
            ("IO_URING", io_uring),
            ("SUBSCRIBER_QUEUE_SIZE", "100000"),
            ("SUBSCRIBER_QUEUE_BYTES", "64MiB"),
        ]);
        broker.create_topic("orders").await;
        let mut subscribers = Vec::new();
        for _ in 0..5 {
            let mut subscriber = web_socket(&broker, authority.client()).await;
            subscriber.subscribe("orders").await;
            subscribers.push(subscriber);
        }
        let mut publisher = web_socket(&broker, authority.client()).await;
        let payloads = (0..MESSAGES).map(|n| "x".repeat(usize::try_from(n % 700).expect("small")));
        let acks = publisher.publish_all("orders", payloads, 500).await;
        assert_eq!(number(&acks[4999], "seq"), MESSAGES);
        for subscriber in &mut subscribers {
            let seqs = subscriber.expect_seqs_to("orders", MESSAGES).await;
            assert!(seqs.into_iter().eq(1..=MESSAGES));
        }
    }
}

#[tokio::test]
async fn a_shutdown_is_told_to_all_and_ends_with_a_word() {
    let authority = Authority::new();
    let mut broker = authority.start(&[("DRAIN_GRACE_MS", "0")]);
    let mut client = web_socket(&broker, authority.client()).await;
    let idle = connect(&broker, authority.client())
        .await
        .expect("a handshake");
    client.ask(json!({"type": "ping"})).await;
    broker.signal(rustix::process::Signal::TERM);
    let (code, before) = client.expect_close().await;
    assert_eq!(code, 1001);
    assert_eq!(before[0]["msg"], "shutting_down", "{before:?}");
    let mut idle = idle;
    let mut rest = Vec::new();
    // An end without close_notify would be an error.
    let ended = within(
        "the end",
        tokio::io::AsyncReadExt::read_to_end(&mut idle, &mut rest),
    );
    assert_eq!(ended.await.expect("a clean end"), 0);
    assert_eq!(broker.wait_exit(crate::harness::PATIENCE).await.0, 0);
}

#[tokio::test]
async fn port_off_leaves_only_tls() {
    let authority = Authority::new();
    let broker = authority.start(&[("PORT", "off")]);
    assert_eq!(broker.address(), broker.tls_address());
    let answer = ask(&broker, authority.client(), HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_loses_the_oldest_and_is_told_exactly_how_many() {
    const MESSAGES: u64 = 6000;
    for io_uring in SENDS {
        let authority = Authority::new();
        let broker = authority.start(&[
            ("IO_URING", io_uring),
            ("SUBSCRIBER_QUEUE_SIZE", "10"),
            ("WRITE_WAIT_SEC", "60"),
        ]);
        broker.create_topic("orders").await;
        let stream = shake(dial(&broker, Some(4096)).await, authority.client()).await;
        let stream = Box::new(stream.expect("a handshake"));
        let mut stalled = Client::connect_over(stream, "/ws", &[]).await;
        stalled.subscribe("orders").await;
        let mut healthy = web_socket(&broker, authority.client()).await;
        healthy.subscribe("orders").await;
        let mut publisher = Client::connect(&broker).await;
        let payload = "x".repeat(1024);
        for _ in 0..MESSAGES / 5 {
            let batch = [payload.as_str(); 5];
            for ack in publisher.publish_all("orders", batch, 5).await {
                let event = healthy.expect_event("orders").await;
                assert_eq!(
                    event["seq"], ack["seq"],
                    "a healthy subscriber misses nothing"
                );
            }
        }
        let (mut newest, mut received, mut dropped, mut announced) = (0, 0, 0, 0);
        while newest < MESSAGES {
            let message = stalled.recv().await;
            if message["type"] == "event" {
                let seq = number(&message, "seq");
                assert_eq!(seq - newest - 1, announced, "the gap before {seq}");
                (newest, announced) = (seq, 0);
                received += 1;
            } else if message["error"]["code"] == "SLOW_CONSUMER" {
                announced += number(&message, "dropped");
                dropped += number(&message, "dropped");
            }
        }
        assert_eq!(received + dropped, MESSAGES);
        assert!(dropped > 0, "the stalled subscriber was not stalled");
        let stats = broker.get("/stats").await.json();
        assert_eq!(stats["topics"]["orders"]["dropped"], dropped);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_come_back_at_once() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    broker.create_topic("orders").await;
    for _ in 0..2 {
        let config = authority.client();
        let mut coming = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let stream = dial(&broker, None).await;
            let config = config.clone();
            coming.spawn(async move {
                let stream = shake(stream, config).await.expect("a handshake");
                let mut client = Client::connect_over(Box::new(stream), "/ws", &[]).await;
                client.subscribe("orders").await;
                client
            });
        }
        let mut clients = coming.join_all().await;
        let mut publisher = Client::connect(&broker).await;
        assert_eq!(publisher.publish("orders", 1).await["matched"], 1000);
        for client in &mut clients {
            client.expect_event("orders").await;
        }
        drop(clients);
        gone(&broker, "orders").await;
    }
}

async fn gone(broker: &Broker, topic: &str) {
    eventually("all of them gone", async || {
        broker.subscribers_of(topic).await == 0
    })
    .await;
}
