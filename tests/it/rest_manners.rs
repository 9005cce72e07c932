//! What HTTP expects of a server beside its routes: hosts, slashes, methods, and words for every refusal.

use serde_json::json;

use crate::harness::broker::{Broker, UPGRADE_HEADERS};
use crate::harness::eventually;
use crate::harness::http::{Response, Rest, request_head};

/// The answer to bytes on a connection of their own.
async fn answer_to(broker: &Broker, bytes: &[u8]) -> Response {
    let mut rest = Rest::open(broker).await;
    rest.wire.offer(bytes).await;
    rest.response("an answer").await
}

/// An error in JSON, with words and a code, behind which the connection ends.
fn assert_refused(answer: &Response, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let body = answer.json();
    assert!(body["error"].as_str().is_some_and(|text| text.len() > 3));
    assert!(body["code"].is_string(), "{body}");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn every_request_names_one_host() {
    let broker = Broker::start(&[]);
    for path in ["/health", "/topics", "/ws", "/nowhere", "/ready"] {
        for hosts in ["", "Host: a\r\nHost: a\r\n"] {
            let request = format!("GET {path} HTTP/1.1\r\n{hosts}\r\n");
            let refused = answer_to(&broker, request.as_bytes()).await;
            assert_eq!(refused.status, 400, "{request}");
            assert_eq!(refused.json()["code"], "BAD_REQUEST");
        }
    }
    let empty = answer_to(&broker, b"GET /health HTTP/1.1\r\nHost:\r\n\r\n").await;
    assert_eq!(empty.status, 200, "an empty Host is legal");
}

#[tokio::test]
async fn http_1_0_needs_no_host() {
    let broker = Broker::start(&[]);
    let mut rest = Rest::open(&broker).await;
    rest.wire.send(b"GET /health HTTP/1.0\r\n\r\n").await;
    let answer = rest.wire.rest("the answer").await;
    assert!(answer.starts_with(b"HTTP/1.0 200"));
}

#[tokio::test]
async fn a_websocket_key_is_16_bytes() {
    let broker = Broker::start(&[]);
    let good = "dGhlIHNhbXBsZSBub25jZQ==";
    let long = "A".repeat(5000);
    for keys in [
        &[][..],
        &[""],
        &["x"],
        &["dGhlIHNhbXBsZSBub25jZQ"],
        &["dGhlIHNhbXBsZSBub25jZ==="],
        &["dGhlIHNhbXBsZSBub25 ZQ=="],
        &["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],
        &[&long],
        &[good, good],
    ] {
        let mut headers = UPGRADE_HEADERS[..3].to_vec();
        headers.extend(keys.iter().map(|key| ("Sec-WebSocket-Key", *key)));
        let refused = broker.request("GET", "/ws", &headers, "").await;
        assert_eq!(refused.status, 400, "{keys:?}");
        assert_eq!(refused.json()["code"], "BAD_REQUEST");
    }
}

#[tokio::test]
async fn an_upgrade_by_http_1_0_is_refused_and_the_log_says_what_to_set() {
    let broker = Broker::start(&[]);
    let request = request_head("GET", "/ws", &UPGRADE_HEADERS).replace("HTTP/1.1", "HTTP/1.0");
    for _ in 0..3 {
        let mut rest = Rest::open(&broker).await;
        rest.wire.send(request.as_bytes()).await;
        let answer = rest.wire.rest("the refusal").await;
        let answer = String::from_utf8(answer).expect("JSON is UTF-8");
        assert!(answer.starts_with("HTTP/1.0 426"), "{answer}");
        assert!(answer.contains(r#""error":"#), "{answer}");
    }
    eventually("a line in the log", async || {
        broker.log().contains("proxy_http_version 1.1")
    })
    .await;
    assert_eq!(broker.log().matches("proxy_http_version").count(), 1);
}

#[tokio::test]
async fn head_does_not_upgrade() {
    let broker = Broker::start(&[]);
    let head = broker.request("HEAD", "/ws", &UPGRADE_HEADERS, "").await;
    assert_eq!(head.status, 426);
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_refused() {
    let broker = Broker::start(&[]);
    for (header, body) in [
        ("Content-Length: 2", "{}"),
        ("Content-Length: 2", ""),
        ("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "0\r\n\r\n"),
    ] {
        let mut rest = Rest::open(&broker).await;
        let mut request = request_head("GET", "/ws", &UPGRADE_HEADERS);
        request.truncate(request.len() - 2);
        let request = format!("{request}{header}\r\n\r\n{body}");
        rest.wire.send(request.as_bytes()).await;
        if body.is_empty() {
            rest.wire.send(b"{}").await;
        }
        let refused = rest.response("the refusal").await;
        assert_eq!(refused.status, 400, "{header} {body:?}");
        let text = "a request for a WebSocket has no body";
        assert_eq!(refused.json()["error"], text);
        rest.wire.rest("the end of a refused upgrade").await;
    }
    let mut rest = Rest::open(&broker).await;
    let mut request = request_head("GET", "/ws", &UPGRADE_HEADERS);
    request.truncate(request.len() - 2);
    let request = format!("{request}Content-Length: 0\r\n\r\n");
    rest.wire.send(request.as_bytes()).await;
    assert_eq!(rest.response_head("the upgrade").await.status, 101);
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_difference() {
    let broker = Broker::start(&[]);
    for path in ["/health/", "/ready/", "/stats/", "/metrics/", "/topics/"] {
        assert_eq!(broker.get(path).await.status, 200, "{path}");
    }
    let body = json!({"name": "orders"}).to_string();
    let created = broker.request("POST", "/topics/", &[], &body).await;
    assert_eq!(created.status, 201);
    let deleted = broker.request("DELETE", "/topics/orders/", &[], "").await;
    assert_eq!(deleted.json()["topic"], "orders");
    let mut rest = Rest::open(&broker).await;
    let upgrade = request_head("GET", "/ws/", &UPGRADE_HEADERS);
    rest.wire.send(upgrade.as_bytes()).await;
    assert_eq!(rest.response_head("the upgrade").await.status, 101);
    assert_eq!(broker.get("/health//").await.status, 404);
}

#[tokio::test]
async fn a_topic_whose_name_ends_in_a_slash_comes_first() {
    let broker = Broker::start(&[]);
    broker.create_topic("a").await;
    broker.create_topic("a/").await;
    for expected in ["a/", "a"] {
        let deleted = broker.request("DELETE", "/topics/a/", &[], "").await;
        assert_eq!(deleted.json()["topic"], expected);
    }
    let gone = broker.request("DELETE", "/topics/a/", &[], "").await;
    assert_eq!(gone.status, 404);
    broker.create_topic("a").await;
    let encoded = broker.request("DELETE", "/topics/a%2F", &[], "").await;
    assert_eq!(encoded.status, 404, "an encoded slash is meant");
}

#[tokio::test]
async fn head_is_there_where_get_is() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut rest = Rest::open(&broker).await;
    for path in ["/", "/health", "/ready", "/metrics", "/stats", "/topics"] {
        let head = rest.request("HEAD", path, &[], "").await;
        assert_eq!(head.status, 200, "{path}");
        assert!(head.header("content-type").is_some());
    }
    assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn options_tell_what_a_path_takes() {
    let broker = Broker::start(&[("AUTH_ENABLED", "true"), ("API_KEYS", "key-one")]);
    let mut rest = Rest::open(&broker).await;
    for (path, allowed) in [
        ("/topics", "GET, HEAD, POST"),
        ("/topics/orders", "GET, HEAD, DELETE"),
        ("/health", "GET, HEAD"),
        ("/ws", "GET, HEAD"),
    ] {
        let answer = rest.request("OPTIONS", path, &[], "").await;
        assert_eq!(answer.pair(), (204, ""), "{path}");
        assert_eq!(answer.header("allow"), Some(allowed));
    }
}

#[tokio::test]
async fn what_is_not_http_is_told_so_in_json() {
    let broker = Broker::start(&[]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/3.0\r\n\r\n",
        b"GET /he\x00alth HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHo st: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        assert_refused(&answer_to(&broker, bytes).await, 400);
    }
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_refused(&answer_to(&broker, http2).await, 505);
}

#[tokio::test]
async fn a_head_is_bounded() {
    let broker = Broker::start(&[("HTTP_HEAD_MAX", "8192")]);
    let junk = "x".repeat(8192);
    let long_header = format!("GET /health HTTP/1.1\r\nHost: a\r\nX: {junk}\r\n\r\n");
    assert_refused(&answer_to(&broker, long_header.as_bytes()).await, 431);
    let endless = format!(
        "GET /health HTTP/1.1\r\nHost: a\r\n{}",
        "x: y\r\n".repeat(100_000)
    );
    assert_refused(&answer_to(&broker, endless.as_bytes()).await, 431);
    let many = format!(
        "GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    assert_refused(&answer_to(&broker, many.as_bytes()).await, 431);
    let long_path = format!("GET /{junk} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_refused(&answer_to(&broker, long_path.as_bytes()).await, 414);
    let fits = "x".repeat(8000);
    let answer = broker.request("GET", "/health", &[("X", &fits)], "").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_refusal_comes_behind_the_answers_before_it() {
    let broker = Broker::start(&[]);
    let mut rest = Rest::open(&broker).await;
    assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
    rest.wire.offer(b"nonsense\r\n\r\n").await;
    assert_refused(&rest.response("the refusal").await, 400);
    assert!(rest.wire.rest("the end").await.is_empty());
}

#[tokio::test]
async fn unfinished_heads_pin_little_memory() {
    let broker = Broker::start(&[]);
    let before = broker.resident_kib();
    let junk = format!("x: {}\r\n", "a".repeat(4000)).repeat(4);
    let head = format!("GET /health HTTP/1.1\r\nHost: a\r\n{junk}");
    let mut connections = Vec::new();
    for _ in 0..200 {
        let mut rest = Rest::open(&broker).await;
        rest.wire.offer(&head.as_bytes()[..16_000]).await;
        connections.push(rest);
    }
    assert_eq!(broker.get("/health").await.status, 200);
    let grown = broker.resident_kib().saturating_sub(before) / 200;
    // 16 KiB of head, what hyper reserves behind it, and the pages of the allocator; without a bound
    // it was half a megabyte.
    assert!(grown < 100, "{grown} KiB for each");
}

#[tokio::test]
async fn a_key_may_be_any_text_and_a_blank_one_is_none() {
    let settings = [("AUTH_ENABLED", "true"), ("API_KEYS", "schlüssel")];
    let broker = Broker::start(&settings);
    let right = [("X-API-Key", "schlüssel")];
    assert_eq!(
        broker.request("GET", "/topics", &right, "").await.status,
        200
    );
    for (key, code) in [
        ("", "MISSING_API_KEY"),
        ("  ", "MISSING_API_KEY"),
        ("schlussel", "INVALID_API_KEY"),
        ("schlüsse", "INVALID_API_KEY"),
    ] {
        let refused = broker
            .request("GET", "/topics", &[("X-API-Key", key)], "")
            .await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.json()["error"]["code"], code, "{key:?}");
    }
    let mut rest = Rest::open(&broker).await;
    let headers = [&UPGRADE_HEADERS[..], &right].concat();
    let upgrade = request_head("GET", "/ws", &headers);
    rest.wire.send(upgrade.as_bytes()).await;
    assert_eq!(rest.response_head("the upgrade").await.status, 101);
}
