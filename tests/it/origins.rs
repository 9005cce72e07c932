//! Pages of other origins: what they may ask, and what browsers are told about it.

use crate::harness::broker::{Broker, run_to_end};
use crate::harness::client::Client;
use crate::harness::http::Response;

const GOOD: (&str, &str) = ("Origin", "https://good.example");
const EVIL: (&str, &str) = ("Origin", "https://evil.example");
const NAME: &str = r#"{"name":"orders"}"#;

fn choosy() -> Broker {
    Broker::start(&[
        (
            "ALLOWED_ORIGINS",
            "https://good.example:443, http://localhost:80",
        ),
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "key-one"),
    ])
}

const KEY: (&str, &str) = ("X-API-Key", "key-one");

fn readable_by(answer: &Response) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

#[tokio::test]
async fn a_page_that_is_not_allowed_may_do_nothing() {
    let broker = choosy();
    for (method, path, body) in [
        ("GET", "/topics", ""),
        ("POST", "/topics", NAME),
        ("DELETE", "/topics/orders", ""),
        ("OPTIONS", "/topics", ""),
        ("GET", "/stats", ""),
        ("GET", "/metrics", ""),
        ("GET", "/", ""),
        ("GET", "/ws", ""),
        ("GET", "/nowhere", ""),
    ] {
        let refused = broker.request(method, path, &[EVIL, KEY], body).await;
        assert_eq!(refused.status, 403, "{method} {path}");
        assert_eq!(refused.json()["code"], "UNAUTHORIZED");
        assert_eq!(readable_by(&refused), None);
    }
    let refused = broker.upgrade("/ws", &[EVIL, KEY]).await;
    assert_eq!(refused.status, 403);
    assert_eq!(broker.health("topics").await, 0);
}

#[tokio::test]
async fn health_and_ready_answer_everybody() {
    let broker = choosy();
    for path in ["/health", "/ready"] {
        let answer = broker.request("GET", path, &[EVIL], "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(readable_by(&answer), None, "but no page of that origin");
    }
}

#[tokio::test]
async fn one_wrong_origin_of_two_is_wrong() {
    let broker = choosy();
    let refused = broker
        .request("GET", "/topics", &[GOOD, EVIL, KEY], "")
        .await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn an_allowed_page_may_read_answers_and_refusals() {
    let broker = choosy();
    let created = broker.request("POST", "/topics", &[GOOD, KEY], NAME).await;
    assert_eq!(created.status, 201);
    for (method, path, key, status) in [
        ("GET", "/topics", Some(KEY), 200),
        ("GET", "/stats", Some(KEY), 200),
        ("GET", "/health", None, 200),
        ("GET", "/topics", None, 401),
        ("PUT", "/topics", Some(KEY), 405),
        ("GET", "/nowhere", Some(KEY), 404),
    ] {
        let headers: Vec<_> = [GOOD].into_iter().chain(key).collect();
        let answer = broker.request(method, path, &headers, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(readable_by(&answer), Some(GOOD.1), "{method} {path}");
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let other = [("Origin", "http://localhost"), KEY];
    let answer = broker.request("GET", "/topics", &other, "").await;
    assert_eq!(readable_by(&answer), Some("http://localhost"));
    let program = broker.request("GET", "/topics", &[KEY], "").await;
    assert_eq!(readable_by(&program), None);
    assert_eq!(program.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn a_preflight_is_told_what_the_route_takes() {
    let broker = choosy();
    for (path, method, allowed) in [
        ("/topics/orders", "DELETE", "GET, HEAD, DELETE"),
        ("/topics", "POST", "GET, HEAD, POST"),
    ] {
        let headers = [
            GOOD,
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", "x-api-key,content-type"),
        ];
        let answer = broker.request("OPTIONS", path, &headers, "").await;
        assert_eq!(answer.pair(), (204, ""));
        assert_eq!(readable_by(&answer), Some(GOOD.1));
        let methods = answer.header("access-control-allow-methods");
        assert_eq!(methods, Some(allowed));
        let headers = answer.header("access-control-allow-headers");
        assert_eq!(
            headers,
            Some("X-API-Key, Authorization, Content-Type, Last-Event-ID")
        );
    }
}

#[tokio::test]
async fn without_the_setting_every_page_may() {
    let broker = Broker::start(&[]);
    let answer = broker.request("POST", "/topics", &[EVIL], NAME).await;
    assert_eq!(answer.status, 201);
    assert_eq!(readable_by(&answer), Some("*"));
    assert_eq!(broker.get("/topics").await.header("vary"), None);
}

#[tokio::test]
async fn an_allowed_page_gets_its_websocket() {
    let broker = Broker::start(&[("ALLOWED_ORIGINS", "https://good.example:443")]);
    let headers = [("origin", "https://good.example")];
    let mut client = Client::connect_with(&broker, "/ws", &headers).await;
    let pong = client.ask(serde_json::json!({"type": "ping"})).await;
    assert_eq!(pong["type"], "pong");
}

#[test]
fn an_entry_that_no_browser_could_send_stops_the_start() {
    for entry in [
        "https://bücher.example",
        "https://a.example?x",
        "https://user@a.example",
        "https://a.example/path",
        "wss://a.example",
        "a.example",
    ] {
        let refusal = run_to_end(&[("ALLOWED_ORIGINS", entry)], &[]);
        assert_eq!(refusal.code, 2, "{entry}");
        assert!(
            refusal.stderr.contains("ALLOWED_ORIGINS"),
            "{}",
            refusal.stderr
        );
        assert!(refusal.stderr.contains("ASCII"), "{}", refusal.stderr);
    }
}
