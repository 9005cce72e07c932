//! Clients that do not speak TLS, do not finish it, or do not end it: each ends alone, and costs nobody else anything.

use std::time::{Duration, Instant};

use rustls::version::TLS12;
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::number;
use crate::harness::tls::{Authority, ask, connect, dial, shake, web_socket};
use crate::harness::{eventually, within};

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The first bytes of a handshake that never goes on: a record of 512 bytes is announced.
const BEGINNING: [u8; 6] = [22, 3, 1, 2, 0, 1];

/// An alert that ends a session: its record's header, and that it is fatal.
const FATAL: [&[u8]; 2] = [&[21, 3], &[0, 2, 2]];

/// All that the broker says to bytes that are no handshake.
async fn answer_to(broker: &Broker, bytes: &[u8]) -> Vec<u8> {
    let mut stream = dial(broker, None).await;
    stream.write_all(bytes).await.expect("the broker reads");
    read_to_end(&mut stream).await
}

/// To the end, in whatever way it comes.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    within("the end", stream.read_to_end(&mut answer))
        .await
        .ok();
    answer
}

fn is_fatal_alert(answer: &[u8]) -> bool {
    answer.len() == 7 && answer.starts_with(FATAL[0]) && answer[3..].starts_with(FATAL[1])
}

/// A hello of TLS 1.0 with one cipher suite of that time and no extensions.
fn hello_of_1999() -> Vec<u8> {
    let mut hello = vec![3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 47, 1, 0]);
    let length = u8::try_from(hello.len()).expect("it is short");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[tokio::test]
async fn what_is_no_tls_has_a_clear_end() {
    let authority = Authority::new();
    let broker = authority.start(&[("CLOSE_WAIT_SEC", "0")]);
    let answer = String::from_utf8(answer_to(&broker, HEALTH.as_bytes()).await);
    let answer = answer.expect("HTTP is answered as HTTP");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("use https:// or wss://"), "{answer}");
    let huge = [23, 3, 3, 255, 255, 0];
    for bytes in [&[0; 512][..], &[255; 512], &hello_of_1999(), &huge] {
        let answer = answer_to(&broker, bytes).await;
        assert!(is_fatal_alert(&answer), "{bytes:?}: {answer:?}");
    }
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn what_is_no_tls_does_not_flood_the_log() {
    let authority = Authority::new();
    let broker = authority.start(&[("CLOSE_WAIT_SEC", "0")]);
    for _ in 0..200 {
        answer_to(&broker, b"SSH-2.0-scanner\r\n\r\n\r\n").await;
        answer_to(&broker, &[0; 64]).await;
    }
    // Where it listens, and that anybody may come.
    assert_eq!(broker.log().lines().count(), 2, "{}", broker.log());
}

#[tokio::test]
async fn a_handshake_that_trickles_is_given_up() {
    let authority = Authority::new();
    let broker = authority.start(&[("READ_TIMEOUT_SEC", "1")]);
    let mut stream = dial(&broker, None).await;
    let start = Instant::now();
    stream
        .write_all(&BEGINNING)
        .await
        .expect("the broker reads");
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut byte = [0];
    within("the end", async {
        loop {
            tokio::select! {
                _ = pace.tick() => drop(stream.write_all(&[0]).await),
                ended = stream.read(&mut byte) => break assert!(matches!(ended, Ok(0) | Err(_))),
            }
        }
    })
    .await;
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn sockets_that_never_shake_hands_keep_nobody_out() {
    let authority = Authority::new();
    let broker = authority.start(&[("HTTP_CONNECTIONS_MAX", "20")]);
    let mut healthy = web_socket(&broker, authority.client()).await;
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut stream = dial(&broker, None).await;
        if number % 2 == 0 {
            stream.write_all(&BEGINNING).await.ok();
        }
        silent.push(stream);
        if number % 20 == 0 {
            let answer = ask(&broker, authority.client(), HEALTH).await;
            assert!(answer.contains("200 OK"), "{answer}");
            assert_eq!(healthy.ask(json!({"type": "ping"})).await["type"], "pong");
        }
    }
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn handshakes_count_on_the_budget_and_give_it_back() {
    const SOCKETS: u64 = 100;
    let authority = Authority::new();
    let broker = authority.start(&[]);
    let booked = async || {
        let stats = broker.get("/stats").await.json();
        number(&stats["totals"]["memory"]["kinds"], "connections")
    };
    let mut streams = Vec::new();
    for _ in 0..SOCKETS {
        let mut stream = dial(&broker, None).await;
        stream
            .write_all(&BEGINNING)
            .await
            .expect("the broker reads");
        streams.push(stream);
    }
    eventually("them to be counted", async || {
        booked().await > SOCKETS * 4096
    })
    .await;
    drop(streams);
    eventually("all of it given back", async || booked().await == 0).await;
    let mut client = web_socket(&broker, authority.client()).await;
    client.ask(json!({"type": "ping"})).await;
    let one = booked().await;
    assert!(one > 1024, "a session counts beside its connection: {one}");
    drop(client);
    eventually("all of it given back", async || booked().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_handshakes_delays_nobodys_events_for_long() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    broker.create_topic("orders").await;
    let mut subscriber = web_socket(&broker, authority.client()).await;
    subscriber.subscribe("orders").await;
    let mut publisher = Client::connect(&broker).await;
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        let (address, config) = (broker.tls_address(), authority.client());
        flood.spawn(async move {
            for _ in 0..50 {
                let stream = TcpStream::connect(address).await.expect("it listens");
                shake(stream, config.clone()).await.expect("a handshake");
            }
        });
    }
    let mut events = 0;
    while flood.try_join_next().is_none() {
        publisher.publish("orders", 1).await;
        subscriber.expect_event("orders").await;
        events += 1;
    }
    flood.join_all().await;
    assert!(events > 10, "only {events} events passed beside the flood");
}

#[tokio::test]
async fn an_end_without_a_word_is_an_end() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    broker.create_topic("orders").await;
    for version in rustls::ALL_VERSIONS {
        let stream = connect(&broker, authority.client_with(&[version], None)).await;
        let stream = stream.expect("a handshake");
        let socket = stream.get_ref().0;
        let descriptor = rustix::io::dup(socket).expect("a free descriptor");
        let mut client = Client::connect_over(Box::new(stream), "/ws", &[]).await;
        client.subscribe("orders").await;
        // TCP ends, TLS does not.
        SockRef::from(&descriptor)
            .shutdown(std::net::Shutdown::Both)
            .expect("it is open");
        eventually("it to be gone", async || {
            broker.subscribers_of("orders").await == 0
        })
        .await;
    }
}

#[tokio::test]
async fn an_end_that_only_tls_knows_is_an_end_too() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    let mut stream = connect(&broker, authority.client())
        .await
        .expect("a handshake");
    stream.get_mut().1.send_close_notify();
    stream.flush().await.expect("the broker reads");
    let mut rest = Vec::new();
    let ended = within("the end", stream.read_to_end(&mut rest)).await;
    assert_eq!(ended.expect("the broker says its end as well"), 0);
}

#[tokio::test]
async fn keys_may_be_changed_in_the_middle() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    let mut stream = connect(&broker, authority.client())
        .await
        .expect("a handshake");
    for _ in 0..5 {
        stream
            .get_mut()
            .1
            .refresh_traffic_keys()
            .expect("TLS 1.3 can");
        let request = HEALTH.replace("close", "keep-alive");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = vec![0; 15];
        within("the answer", stream.read_exact(&mut answer))
            .await
            .expect("an answer");
        assert_eq!(answer, b"HTTP/1.1 200 OK");
        let mut rest = [0; 4096];
        within("the rest", stream.read(&mut rest))
            .await
            .expect("it");
    }
}

#[tokio::test]
async fn a_record_that_was_changed_ends_its_connection_with_an_alert() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    broker.create_topic("orders").await;
    let config = authority.client_with(&[&TLS12], None);
    let stream = connect(&broker, config).await.expect("a handshake");
    let (mut socket, _) = stream.into_inner();
    let mut record = vec![23, 3, 3, 0, 64];
    record.extend([9; 64]);
    socket.write_all(&record).await.expect("the broker reads");
    let answer = read_to_end(&mut socket).await;
    // Encrypted, so all that shows is that it is an alert.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_given_up() {
    let authority = Authority::new();
    let broker = authority.start(&[("WRITE_TIMEOUT_SEC", "1")]);
    for number in 0..5000 {
        broker
            .create_topic(&format!("{number}-{}", "x".repeat(200)))
            .await;
    }
    let stream = shake(dial(&broker, Some(4096)).await, authority.client()).await;
    let mut stream = stream.expect("a handshake");
    let request = HEALTH.replace("/health", "/topics").repeat(20);
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    eventually("it to be given up", async || {
        stream.write_all(b" ").await.is_err() || stream.flush().await.is_err()
    })
    .await;
}
