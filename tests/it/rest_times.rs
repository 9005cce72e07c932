//! How long an HTTP client may take, what a pause of the process changes about it, and the end of the process.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::broker::{Broker, UPGRADE_HEADERS};
use crate::harness::http::{Rest, request_head};
use crate::harness::{PATIENCE, eventually};

/// Once this is answered, a broker of one core has read what was sent to it before.
async fn until_read(broker: &Broker) {
    assert_eq!(broker.get("/health").await.status, 200);
}

async fn idle_for(settings: &[(&str, &str)]) -> Duration {
    let broker = Broker::start(settings);
    let mut rest = Rest::open(&broker).await;
    let start = Instant::now();
    assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
    assert!(rest.wire.rest("the end").await.is_empty());
    start.elapsed()
}

#[tokio::test]
async fn the_pause_between_two_requests_has_a_time_of_its_own() {
    let longer = [("READ_TIMEOUT_SEC", "1"), ("IDLE_TIMEOUT_SEC", "3")];
    let shorter = [("READ_TIMEOUT_SEC", "60"), ("IDLE_TIMEOUT_SEC", "1")];
    let none = [("READ_TIMEOUT_SEC", "2")];
    let (longer, shorter, none) =
        tokio::join!(idle_for(&longer), idle_for(&shorter), idle_for(&none));
    assert!(longer >= Duration::from_secs(3), "{longer:?}");
    assert!(shorter >= Duration::from_secs(1), "{shorter:?}");
    assert!(none >= Duration::from_secs(2), "{none:?}");
}

/// On a busy machine requests may come late; but they go on coming, so none waits for two seconds.
#[tokio::test]
async fn a_connection_that_is_used_lives_longer_than_any_pause_may() {
    let broker = Broker::start(&[("READ_TIMEOUT_SEC", "2")]);
    let mut rest = Rest::open(&broker).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
    }
}

#[tokio::test]
async fn a_head_that_has_begun_must_come_in_time() {
    let broker = Broker::start(&[("READ_TIMEOUT_SEC", "1"), ("IDLE_TIMEOUT_SEC", "600")]);
    for requests_before in [0, 1] {
        let mut rest = Rest::open(&broker).await;
        for _ in 0..requests_before {
            rest.request("GET", "/health", &[], "").await;
        }
        rest.wire.send(b"GET /health HTTP/1.1\r\n").await;
        let refused = rest.response("the refusal").await;
        assert_eq!(refused.status, 408);
        assert_eq!(refused.json()["code"], "BAD_REQUEST");
        assert!(rest.wire.rest("the end").await.is_empty());
    }
}

#[tokio::test]
async fn a_connection_without_a_word_is_closed_without_one() {
    let broker = Broker::start(&[("READ_TIMEOUT_SEC", "1"), ("IDLE_TIMEOUT_SEC", "600")]);
    let mut rest = Rest::open(&broker).await;
    assert!(rest.wire.rest("the end").await.is_empty());
}

#[tokio::test]
async fn a_body_must_come_in_time() {
    let broker = Broker::start(&[("READ_TIMEOUT_SEC", "1")]);
    let mut rest = Rest::open(&broker).await;
    let head = request_head("POST", "/topics", &[("Content-Length", "100")]);
    rest.wire.send(head.as_bytes()).await;
    assert_eq!(rest.response("the refusal").await.status, 408);
}

#[tokio::test]
async fn a_process_that_stood_still_reads_before_it_judges() {
    let broker = Broker::start(&[("READ_TIMEOUT_SEC", "3"), ("SHARDS", "1")]);
    let mut head = Rest::open(&broker).await;
    head.wire.send(b"GET /health HTTP/1.1\r\n").await;
    let mut body = Rest::open(&broker).await;
    let begun = request_head("POST", "/topics", &[("Content-Length", "12")]);
    body.wire.send(begun.as_bytes()).await;
    let mut idle = Rest::open(&broker).await;
    idle.request("GET", "/health", &[], "").await;
    until_read(&broker).await;
    broker.signal(Signal::STOP);
    head.wire.send(b"Host: a\r\n\r\n").await;
    body.wire.send(br#"{"name":"z"}"#).await;
    let next = request_head("GET", "/health", &[]);
    idle.wire.send(next.as_bytes()).await;
    // Time must pass: that is what the process is not to hold against its clients.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    broker.signal(Signal::CONT);
    assert_eq!(head.response("the answer").await.status, 200);
    assert_eq!(body.response("the answer").await.status, 201);
    assert_eq!(idle.response("the answer").await.status, 200);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_process_ends() {
    let mut broker = Broker::start(&[("SHARDS", "1"), ("SHUTDOWN_TIMEOUT_SEC", "60")]);
    let mut body = Rest::open(&broker).await;
    let begun = request_head("POST", "/topics", &[("Content-Length", "12")]);
    body.wire.send((begun + r#"{"name"#).as_bytes()).await;
    let mut first_head = Rest::open(&broker).await;
    let upgrade = request_head("GET", "/ws", &UPGRADE_HEADERS);
    let (half, other_half) = upgrade.split_at(upgrade.len() / 2);
    first_head.wire.send(half.as_bytes()).await;
    let mut later_head = Rest::open(&broker).await;
    later_head.request("GET", "/health", &[], "").await;
    later_head.wire.send(half.as_bytes()).await;
    let mut idle = Rest::open(&broker).await;
    idle.request("GET", "/health", &[], "").await;
    until_read(&broker).await;

    broker.signal(Signal::TERM);
    eventually("the drain", async || {
        broker.get("/ready").await.status == 503
    })
    .await;
    assert!(idle.wire.rest("the end").await.is_empty());
    body.wire.send(br#"":"z"}"#).await;
    let answer = body.response("the answer").await;
    assert!(matches!(answer.status, 201 | 503), "{}", answer.status);
    for rest in [&mut first_head, &mut later_head] {
        rest.wire.send(other_half.as_bytes()).await;
        let refused = rest.response("the refusal").await;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.json()["error"], "server is shutting down");
        assert_eq!(refused.header("connection"), Some("close"));
    }
    assert_eq!(broker.wait_exit(PATIENCE).await.0, 0);
}

#[tokio::test]
async fn a_request_that_came_before_the_signal_was_felt_is_answered() {
    let mut broker = Broker::start(&[]);
    let mut later = Rest::open(&broker).await;
    later.request("GET", "/health", &[], "").await;
    let mut first = Rest::open(&broker).await;
    until_read(&broker).await;
    broker.signal(Signal::STOP);
    for rest in [&mut later, &mut first] {
        let request = request_head("GET", "/topics", &[]);
        rest.wire.send(request.as_bytes()).await;
    }
    broker.signal(Signal::TERM);
    broker.signal(Signal::CONT);
    for rest in [&mut later, &mut first] {
        assert_eq!(rest.response("the answer").await.status, 200);
    }
    assert_eq!(broker.wait_exit(PATIENCE).await.0, 0);
}

#[tokio::test]
async fn a_request_that_never_ends_holds_the_end_up_no_longer_than_allowed() {
    let mut broker = Broker::start(&[("SHARDS", "1"), ("SHUTDOWN_TIMEOUT_SEC", "1")]);
    let mut rest = Rest::open(&broker).await;
    let begun = request_head("POST", "/topics", &[("Content-Length", "12")]);
    rest.wire.send(begun.as_bytes()).await;
    until_read(&broker).await;
    broker.signal(Signal::TERM);
    let (code, took) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 0);
    assert!(took >= Duration::from_millis(900), "{took:?}");
}
