//! REST: each row of the table, the errors around it, and the counts that it reports.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::{Response, Rest, request_head};
use crate::harness::json::{keys, member, number, padded};

const KEY: (&str, &str) = ("X-API-Key", "key-one");

fn guarded(further: &[(&str, &str)]) -> Broker {
    let settings = [("AUTH_ENABLED", "true"), ("API_KEYS", "key-one,key-two")];
    Broker::start(&[&settings, further].concat())
}

async fn post(broker: &Broker, body: &str) -> Response {
    broker.request("POST", "/topics", &[], body).await
}

/// An error of the broker's own: a helpful text and a code.
fn assert_explained(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{}", response.body);
    let body = response.json();
    assert!(
        body["error"].as_str().is_some_and(|text| text.len() > 3),
        "{body}"
    );
    assert!(
        body["code"].as_str().is_some_and(|code| !code.is_empty()),
        "{body}"
    );
    assert_eq!(keys(&response.body), "error code");
}

#[tokio::test]
async fn a_topic_is_created_once() {
    let broker = Broker::start(&[]);
    let created = broker.post_topic("orders").await;
    assert_eq!(
        created.pair(),
        (201, r#"{"status":"created","topic":"orders"}"#)
    );
    assert_eq!(created.header("content-type"), Some("application/json"));
    let again = broker.post_topic("orders").await;
    assert_explained(&again, 409);
    assert_eq!(
        again.json(),
        json!({"error": "topic already exists", "code": "TOPIC_EXISTS"})
    );
}

#[tokio::test]
async fn a_name_is_required() {
    let broker = Broker::start(&[]);
    for body in ["{}", r#"{"name":""}"#, r#"{"topic":"orders"}"#] {
        let refused = post(&broker, body).await;
        assert_explained(&refused, 400);
        let expected = json!({"error": "name is required", "code": "BAD_REQUEST"});
        assert_eq!(refused.json(), expected, "{body}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_a_bad_request() {
    let broker = Broker::start(&[]);
    for body in [
        "{",
        "orders",
        "[]",
        "null",
        r#"{"name":7}"#,
        r#"{"name":"a"} x"#,
        "{\"name\":\"\u{1}\"}",
    ] {
        assert_explained(&post(&broker, body).await, 400);
    }
    assert_explained(&post(&broker, "").await, 400);
    assert_eq!(broker.health("topics").await, 0);
}

#[tokio::test]
async fn unknown_fields_of_a_body_are_ignored() {
    let broker = Broker::start(&[]);
    let created = post(&broker, r#"{"x":[1],"name":"orders","y":null}"#).await;
    assert_eq!(created.status, 201);
}

#[tokio::test]
async fn illegal_names_are_refused() {
    let broker = Broker::start(&[]);
    let too_long = "x".repeat(256);
    let too_many_bytes = "é".repeat(128);
    for name in [
        "a*",
        "*",
        ">",
        "a.>",
        "a\nb",
        "\0",
        "\u{7f}",
        &too_long,
        &too_many_bytes,
    ] {
        assert_explained(&broker.post_topic(name).await, 400);
    }
    assert_eq!(broker.health("topics").await, 0);
}

#[tokio::test]
async fn names_may_be_long_and_unusual() {
    let broker = Broker::start(&[]);
    let longest = "x".repeat(255);
    for name in [
        "a", " ", "a b", "a/b", "a.b", "ключ", "😀", "a?b#c%20", "\"\\", ".", "..", &longest,
    ] {
        let created = broker.post_topic(name).await;
        assert_eq!(created.status, 201, "{name}: {}", created.body);
        assert_eq!(created.json()["topic"], name);
    }
    assert_eq!(broker.health("topics").await, 12);
}

#[tokio::test]
async fn a_topic_is_deleted_once() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let deleted = broker.request("DELETE", "/topics/orders", &[], "").await;
    assert_eq!(
        deleted.pair(),
        (200, r#"{"status":"deleted","topic":"orders"}"#)
    );
    let again = broker.request("DELETE", "/topics/orders", &[], "").await;
    assert_explained(&again, 404);
    assert_eq!(
        again.json(),
        json!({"error": "topic not found", "code": "TOPIC_NOT_FOUND"})
    );
    assert_eq!(
        broker.get("/topics").await.pair(),
        (200, r#"{"topics":[]}"#)
    );
}

#[tokio::test]
async fn names_in_paths_are_percent_decoded() {
    let broker = Broker::start(&[]);
    for (name, path) in [
        ("a/b c", "a%2Fb%20c"),
        ("é😀", "%C3%A9%f0%9f%98%80"),
        ("a+b", "a+b"),
        ("100%", "100%25"),
        ("a?b", "a%3Fb"),
        ("%41", "%2541"),
    ] {
        broker.create_topic(name).await;
        let path = format!("/topics/{path}");
        let deleted = broker.request("DELETE", &path, &[], "").await;
        assert_eq!(deleted.status, 200, "{path}: {}", deleted.body);
        assert_eq!(deleted.json()["topic"], name);
    }
}

#[tokio::test]
async fn a_path_that_does_not_decode_names_no_topic() {
    let broker = Broker::start(&[]);
    for path in ["/topics/%ff", "/topics/%zz", "/topics/%4", "/topics/%00"] {
        let refused = broker.request("DELETE", path, &[], "").await;
        assert!(
            matches!(refused.status, 400 | 404),
            "{path}: {}",
            refused.status
        );
        assert_explained(&refused, refused.status);
    }
}

#[tokio::test]
async fn topics_are_listed_with_their_subscribers() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::subscribed(&broker, "orders").await);
    }
    let expected = r#"{"topics":[{"name":"orders","subscribers":3}]}"#;
    assert_eq!(broker.get("/topics").await.pair(), (200, expected));
    broker.create_topic("trades").await;
    assert_eq!(broker.subscribers_of("trades").await, 0);
    clients[0].unsubscribe("orders").await;
    assert_eq!(broker.subscribers_of("orders").await, 2);
}

#[tokio::test]
async fn health_counts_connections_with_a_subscription() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    broker.create_topic("trades").await;
    let health = broker.get("/health").await;
    assert_eq!(keys(&health.body), "uptime_sec topics subscribers");
    let mut client = Client::connect(&broker).await;
    assert_eq!(broker.health("subscribers").await, 0);
    client.subscribe("orders").await;
    client.subscribe("trades").await;
    assert_eq!(broker.health("subscribers").await, 1);
    client.unsubscribe("orders").await;
    assert_eq!(broker.health("subscribers").await, 1);
    client.unsubscribe("trades").await;
    assert_eq!(broker.health("subscribers").await, 0);
    assert_eq!(broker.health("topics").await, 2);
    assert!(number(&broker.get("/health").await.json(), "uptime_sec") < 60);
}

#[tokio::test]
async fn counts_return_to_zero_when_clients_vanish() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::subscribed(&broker, "orders").await);
    }
    assert_eq!(broker.health("subscribers").await, 20);
    drop(clients);
    eventually("no subscriber", async || {
        broker.health("subscribers").await == 0 && broker.subscribers_of("orders").await == 0
    })
    .await;
}

#[tokio::test]
async fn deleting_a_topic_uncounts_its_subscribers() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut client = Client::subscribed(&broker, "orders").await;
    broker.delete_topic("orders").await;
    assert_eq!(client.recv().await["msg"], "topic_deleted");
    eventually("no subscriber", async || {
        broker.health("subscribers").await == 0
    })
    .await;
}

#[tokio::test]
async fn stats_count_messages_and_bytes() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders", 1..=3, 1).await;
    subscriber.expect_seqs_to("orders", 3).await;
    let stats = broker.get("/stats").await;
    assert_eq!(keys(&stats.body), "topics totals");
    let topic = member(&member(&stats.body, "topics"), "orders");
    assert_eq!(
        keys(&topic),
        "messages subscribers dropped bytes_in bytes_out seq"
    );
    let stats = stats.json();
    let topic = &stats["topics"]["orders"];
    let counts = ["messages", "subscribers", "dropped", "seq"].map(|key| number(topic, key));
    assert_eq!(counts, [3, 1, 0, 3]);
    assert!(number(topic, "bytes_in") > 0);
    eventually("bytes out", async || {
        let stats = broker.get("/stats").await.json();
        number(&stats["topics"]["orders"], "bytes_out") > 0
    })
    .await;
}

#[tokio::test]
async fn the_root_tells_where_everything_is() {
    let broker = Broker::start(&[]);
    let root = broker.get("/").await;
    assert_eq!(root.status, 200);
    assert_eq!(keys(&root.body), "service version endpoints");
    let expected = r#"{"websocket":"/ws","topics":"/topics","health":"/health","stats":"/stats"}"#;
    assert_eq!(member(&root.body, "endpoints"), expected);
    assert_eq!(root.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn ready_and_metrics_answer() {
    let broker = Broker::start(&[]);
    assert_eq!(broker.get("/ready").await.status, 200);
    assert_eq!(broker.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let broker = Broker::start(&[]);
    for path in [
        "/nowhere",
        "/topic",
        "/topicsx",
        "/ws/x",
        "/health/x",
        "/WS",
    ] {
        assert_explained(&broker.get(path).await, 404);
    }
}

#[tokio::test]
async fn a_query_does_not_change_the_path() {
    let broker = Broker::start(&[]);
    assert_eq!(broker.get("/health?x=1").await.status, 200);
    assert_eq!(broker.get("/topics?").await.status, 200);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let broker = Broker::start(&[]);
    for (method, path, allowed) in [
        ("PUT", "/topics", vec!["GET", "POST"]),
        ("DELETE", "/topics", vec!["GET", "POST"]),
        ("PUT", "/topics/orders", vec!["DELETE", "GET"]),
        ("POST", "/health", vec!["GET"]),
        ("DELETE", "/stats", vec!["GET"]),
        ("POST", "/ready", vec!["GET"]),
        ("POST", "/ws", vec!["GET"]),
        ("PATCH", "/", vec!["GET"]),
    ] {
        let refused = broker.request(method, path, &[], "").await;
        assert_explained(&refused, 405);
        let allow = refused.header("allow").expect("an Allow header");
        let mut methods: Vec<_> = allow.split(',').map(str::trim).collect();
        methods.retain(|method| *method != "HEAD");
        methods.sort_unstable();
        assert_eq!(methods, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_may_have_64_kib_and_not_more() {
    let broker = Broker::start(&[]);
    let largest = padded(r#"{"name":"orders"}"#, 65_536);
    assert_eq!(post(&broker, &largest).await.status, 201);
    let too_large = post(&broker, &format!("{largest} ")).await;
    assert_explained(&too_large, 413);
    assert_eq!(too_large.json()["code"], "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let broker = Broker::start(&[]);
    let mut rest = Rest::open(&broker).await;
    let head = "POST /topics HTTP/1.1\r\nHost: shardcast\r\nTransfer-Encoding: chunked\r\n\r\n";
    rest.wire.send(head.as_bytes()).await;
    let chunk = format!("1000\r\n{}\r\n", padded("", 4096));
    rest.wire.offer(chunk.repeat(20).as_bytes()).await;
    rest.wire.offer(b"0\r\n\r\n").await;
    assert_explained(&rest.response("the refusal").await, 413);
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let broker = Broker::start(&[]);
    let mut rest = Rest::open(&broker).await;
    for name in ["a", "b", "c"] {
        let body = json!({"name": name}).to_string();
        let created = rest.request("POST", "/topics", &[], &body).await;
        assert_eq!(created.status, 201);
        assert_eq!(rest.request("GET", "/nowhere", &[], "").await.status, 404);
        assert_eq!(rest.request("POST", "/topics", &[], "{").await.status, 400);
    }
    let health = rest.request("GET", "/health", &[], "").await;
    assert_eq!(health.json()["topics"], 3);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let broker = Broker::start(&[]);
    let mut rest = Rest::open(&broker).await;
    let paths = ["/health", "/nowhere", "/topics"];
    let requests = paths.map(|path| request_head("GET", path, &[]));
    rest.wire.send(requests.concat().as_bytes()).await;
    for status in [200, 404, 200] {
        assert_eq!(rest.response("an answer").await.status, status);
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let broker = Broker::start(&[]);
    let mut rest = Rest::open(&broker).await;
    rest.wire
        .offer(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        .await;
    let answer = rest.wire.rest("the end of what is not HTTP").await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_unauthorized() {
    let broker = guarded(&[]);
    let missing = r#"{"error":{"code":"MISSING_API_KEY","message":"Missing X-API-Key header"}}"#;
    let wrong = r#"{"error":{"code":"INVALID_API_KEY","message":"Invalid or expired API key"}}"#;
    for (method, path, body) in [
        ("GET", "/topics", ""),
        ("POST", "/topics", r#"{"name":"orders"}"#),
        ("DELETE", "/topics/orders", ""),
        ("GET", "/stats", ""),
    ] {
        let refused = broker.request(method, path, &[], body).await;
        assert_eq!(refused.pair(), (401, missing), "{method} {path}");
        assert_eq!(refused.header("content-type"), Some("application/json"));
        for key in ["key", "key-one,key-two", "KEY-ONE"] {
            let refused = broker
                .request(method, path, &[("X-API-Key", key)], body)
                .await;
            assert_eq!(refused.pair(), (401, wrong), "{method} {path}");
        }
    }
    assert_eq!(broker.health("topics").await, 0);
}

#[tokio::test]
async fn a_right_key_opens_every_call() {
    let broker = guarded(&[]);
    let name = r#"{"name":"orders"}"#;
    assert_eq!(
        broker.request("POST", "/topics", &[KEY], name).await.status,
        201
    );
    let second = [("x-api-key", "key-two")];
    assert_eq!(
        broker.request("GET", "/topics", &second, "").await.status,
        200
    );
    assert_eq!(
        broker.request("GET", "/stats", &[KEY], "").await.status,
        200
    );
    let path = "/topics/orders";
    assert_eq!(broker.request("DELETE", path, &[KEY], "").await.status, 200);
}

#[tokio::test]
async fn health_ready_metrics_and_root_need_no_key() {
    let broker = guarded(&[]);
    for path in ["/health", "/ready", "/metrics", "/"] {
        assert_eq!(broker.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn metrics_can_be_put_behind_the_key() {
    let broker = guarded(&[("METRICS_AUTH", "true")]);
    assert_eq!(broker.get("/metrics").await.status, 401);
    assert_eq!(
        broker.request("GET", "/metrics", &[KEY], "").await.status,
        200
    );
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_key_is_not_asked_for_where_auth_is_off() {
    let broker = Broker::start(&[("API_KEYS", "key-one")]);
    assert_eq!(broker.get("/topics").await.status, 200);
    let wrong = [("X-API-Key", "wrong")];
    assert_eq!(
        broker.request("GET", "/stats", &wrong, "").await.status,
        200
    );
}

#[tokio::test]
async fn stats_total_what_the_topics_count() {
    let broker = Broker::start(&[("SHARDS", "4")]);
    let mut publisher = Client::connect(&broker).await;
    for topic in ["a", "b", "c", "d", "e"] {
        broker.create_topic(topic).await;
        publisher.publish_all(topic, 0..10, 10).await;
    }
    let stats = broker.get("/stats").await.json();
    let of_topics = |stats: &Value| -> u64 {
        let topics = stats["topics"].as_object().expect("an object");
        topics.values().map(|topic| number(topic, "messages")).sum()
    };
    assert_eq!(of_topics(&stats), 50);
    assert_eq!(stats["totals"]["messages"], 50, "{stats}");
}
