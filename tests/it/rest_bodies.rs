//! Bodies that nobody wanted: the answer arrives, and the connection lives on where it can.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::http::{Response, Rest, request_head};

fn guarded() -> Broker {
    Broker::start(&[
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "key-one"),
        ("SHARDS", "1"),
    ])
}

const KEY: (&str, &str) = ("X-API-Key", "key-one");

/// The head in one segment and the body in another, as most clients send them.
async fn in_two_segments(
    broker: &Broker,
    rest: &mut Rest,
    method: &str,
    path: &str,
    key: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let length = body.len().to_string();
    let headers = [&[("Content-Length", length.as_str())], key].concat();
    let head = request_head(method, path, &headers);
    rest.wire.send(head.as_bytes()).await;
    // Its one core has read the head once another connection has been served.
    assert_eq!(broker.get("/health").await.status, 200);
    rest.wire.offer(body).await;
    rest.response(&format!("the answer to {method} {path}"))
        .await
}

#[tokio::test]
async fn an_unwanted_body_ends_no_connection() {
    let broker = guarded();
    for size in [2, 1000, 10_000, 60_000, 256 * 1024] {
        let mut rest = Rest::open(&broker).await;
        let body = vec![b'x'; size];
        for (method, path, key, status) in [
            ("POST", "/topics", None, 401),
            ("GET", "/nowhere", Some(KEY), 404),
            ("PUT", "/topics", Some(KEY), 405),
            ("DELETE", "/topics/none", Some(KEY), 404),
            ("GET", "/health", None, 200),
            ("GET", "/topics", Some(KEY), 200),
            ("OPTIONS", "/topics", None, 204),
        ] {
            let key: Vec<_> = key.into_iter().collect();
            let answer = in_two_segments(&broker, &mut rest, method, path, &key, &body).await;
            assert_eq!(answer.status, status, "{method} {path} with {size} bytes");
            assert_eq!(answer.header("connection"), None);
        }
        assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
    }
}

#[tokio::test]
async fn what_a_body_was_sent_with_is_carried_out() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    broker.create_topic("orders").await;
    let mut rest = Rest::open(&broker).await;
    let path = "/topics/orders";
    let deleted = in_two_segments(&broker, &mut rest, "DELETE", path, &[], b"{}").await;
    assert_eq!(deleted.status, 200);
    let health = rest.request("GET", "/health", &[], "").await;
    assert_eq!(health.json()["topics"], 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_next_request_served() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    let mut rest = Rest::open(&broker).await;
    let body = vec![b'x'; 100_000];
    let refused = in_two_segments(&broker, &mut rest, "POST", "/topics", &[], &body).await;
    assert_eq!(refused.json()["code"], "MESSAGE_TOO_LARGE");
    let created = rest
        .request("POST", "/topics", &[], r#"{"name":"a"}"#)
        .await;
    assert_eq!(created.status, 201);
}

#[tokio::test]
async fn an_unwanted_body_in_chunks_is_read_to_its_end() {
    let broker = guarded();
    let mut rest = Rest::open(&broker).await;
    let head = request_head("POST", "/topics", &[("Transfer-Encoding", "chunked")]);
    rest.wire.send(head.as_bytes()).await;
    for _ in 0..20 {
        let chunk = [b"1000\r\n", &[b'x'; 4096][..], b"\r\n"].concat();
        rest.wire.send(&chunk).await;
    }
    rest.wire.send(b"0\r\n\r\n").await;
    assert_eq!(rest.response("the refusal").await.status, 401);
    assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn the_answer_to_a_huge_body_arrives() {
    let broker = guarded();
    for (method, path, key, status) in [
        ("POST", "/topics", None, 401),
        ("POST", "/topics", Some(KEY), 413),
        ("PUT", "/topics", Some(KEY), 405),
        ("GET", "/nowhere", Some(KEY), 404),
    ] {
        let mut rest = Rest::open(&broker).await;
        let key: Vec<_> = key.into_iter().collect();
        // Offered to the end before the answer is looked at: a reset would have destroyed it.
        let body = vec![b'x'; 5_000_000];
        let answer = in_two_segments(&broker, &mut rest, method, path, &key, &body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.json()["error"].is_string() || answer.json()["error"].is_object());
        assert!(rest.wire.rest("the end").await.is_empty());
    }
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_answered_before_it_has() {
    let broker = guarded();
    let headers = [("Content-Length", "100"), ("Expect", "100-continue")];
    let mut rest = Rest::open(&broker).await;
    let head = request_head("POST", "/topics", &headers);
    rest.wire.send(head.as_bytes()).await;
    let refused = rest.response("the refusal").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("connection"), Some("close"));

    let body = json!({"name": "orders"}).to_string();
    let length = body.len().to_string();
    let headers = [KEY, ("Content-Length", &length), ("Expect", "100-continue")];
    let mut rest = Rest::open(&broker).await;
    let head = request_head("POST", "/topics", &headers);
    rest.wire.send(head.as_bytes()).await;
    assert_eq!(rest.response_head("leave to send").await.status, 100);
    rest.wire.send(body.as_bytes()).await;
    assert_eq!(rest.response("the answer").await.status, 201);
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_answered() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    let post = |name: &str| {
        let body = json!({ "name": name }).to_string();
        let length = body.len().to_string();
        request_head("POST", "/topics", &[("Content-Length", &length)]) + &body
    };
    for round in 0..20 {
        let name = format!("t{round}");
        for (request, status) in [
            (post(&name), 201),
            (request_head("GET", "/topics", &[]), 200),
            (request_head("GET", "/stats", &[]), 200),
            (request_head("GET", "/health", &[]), 200),
            (request_head("GET", "/ws", &[]), 426),
            (request_head("DELETE", &format!("/topics/{name}"), &[]), 200),
        ] {
            let mut rest = Rest::open(&broker).await;
            rest.wire.send(request.as_bytes()).await;
            rest.wire.shut_down().await;
            assert_eq!(rest.response("an answer").await.status, status, "{request}");
            assert!(rest.wire.rest("the end").await.is_empty());
        }
    }
}

#[tokio::test]
async fn half_a_head_is_a_bad_request() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    let mut rest = Rest::open(&broker).await;
    rest.wire.send(b"GET /health HTTP/1.1\r\nHos").await;
    rest.wire.shut_down().await;
    let refused = rest.response("the refusal").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["code"], "BAD_REQUEST");
}

#[tokio::test]
async fn broken_chunks_are_a_bad_request() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    let mut rest = Rest::open(&broker).await;
    let head = request_head("POST", "/topics", &[("Transfer-Encoding", "chunked")]);
    rest.wire.send((head + "zz\r\n").as_bytes()).await;
    let refused = rest.response("the refusal").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("connection"), Some("close"));
}

#[tokio::test]
async fn half_a_body_is_a_bad_request() {
    let broker = Broker::start(&[("SHARDS", "1")]);
    let mut rest = Rest::open(&broker).await;
    let head = request_head("POST", "/topics", &[("Content-Length", "100")]);
    rest.wire.send((head + r#"{"name":"#).as_bytes()).await;
    rest.wire.shut_down().await;
    let refused = rest.response("the refusal").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"], "the body could not be read");
    assert_eq!(broker.health("topics").await, 0);
}
