//! Tickets: what a key or token buys, for clients that cannot set a header on a WebSocket.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::Response;
use crate::harness::json::{keys, number};
use crate::harness::sse::EventStream;

const KEY: [(&str, &str); 1] = [("X-API-Key", "secret")];

fn guarded(further: &[(&str, &str)]) -> Broker {
    Broker::start(&[&[("AUTH_ENABLED", "true"), ("API_KEYS", "secret")], further].concat())
}

async fn buy(broker: &Broker) -> String {
    let sold = broker.request("POST", "/tickets", &KEY, "").await;
    assert_eq!(sold.status, 201, "{}", sold.body);
    assert_eq!(keys(&sold.body), "ticket expires_in_sec");
    assert_eq!(number(&sold.json(), "expires_in_sec"), 30);
    sold.json()["ticket"].as_str().expect("a string").to_owned()
}

fn with(ticket: &str) -> String {
    format!("/ws?client_id=tab&ticket={ticket}")
}

fn assert_refused(refused: &Response) {
    let body: Value =
        json!({"error": {"code": "UNAUTHORIZED", "message": "Invalid, used or expired ticket"}});
    assert_eq!((refused.status, refused.json()), (401, body));
}

#[tokio::test]
async fn a_ticket_opens_one_connection() {
    let broker = guarded(&[]);
    let ticket = buy(&broker).await;
    let mut client = Client::connect_with(&broker, &with(&ticket), &[]).await;
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    assert_refused(&broker.upgrade(&with(&ticket), &[]).await);
}

#[tokio::test]
async fn a_ticket_that_is_none_is_refused_also_beside_a_right_key() {
    let broker = guarded(&[]);
    let none = "0".repeat(64);
    for ticket in ["", "x", &none] {
        assert_refused(&broker.upgrade(&with(ticket), &[]).await);
        assert_refused(&broker.upgrade(&with(ticket), &KEY).await);
    }
}

#[tokio::test]
async fn only_a_key_buys_one() {
    let broker = guarded(&[]);
    assert_eq!(
        broker.request("POST", "/tickets", &[], "").await.status,
        401
    );
    let wrong = [("X-API-Key", "wrong")];
    assert_eq!(
        broker.request("POST", "/tickets", &wrong, "").await.status,
        401
    );
    let wrong_method = broker.request("GET", "/tickets", &KEY, "").await;
    assert_eq!(
        (wrong_method.status, wrong_method.header("allow")),
        (405, Some("POST"))
    );
}

#[tokio::test]
async fn a_page_may_ask_with_either_header() {
    let broker = guarded(&[("ALLOWED_ORIGINS", "https://a.example")]);
    let asked = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "POST"),
    ];
    let preflight = broker.request("OPTIONS", "/tickets", &asked, "").await;
    let allowed = preflight.header("access-control-allow-headers");
    assert!(
        allowed.is_some_and(|names| names.contains("Authorization") && names.contains("X-API-Key"))
    );
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("POST")
    );
}

#[tokio::test]
async fn so_many_are_out_and_no_more() {
    let broker = guarded(&[("TICKETS_MAX", "2")]);
    for _ in 0..2 {
        buy(&broker).await;
    }
    let refused = broker.request("POST", "/tickets", &KEY, "").await;
    assert_eq!(
        (refused.status, refused.json()["code"].clone()),
        (503, "LIMIT_EXCEEDED".into())
    );
}

#[tokio::test]
async fn tickets_never_show() {
    let broker = guarded(&[("LOG_LEVEL", "trace")]);
    let ticket = buy(&broker).await;
    let client = Client::connect_with(&broker, &with(&ticket), &[]).await;
    assert_refused(&broker.upgrade(&with(&ticket), &[]).await);
    client.close().await;
    let shown = [broker.log(), broker.get("/metrics").await.body];
    assert!(!shown.concat().contains(&ticket));
}

#[tokio::test]
async fn a_ticket_does_nothing_but_open_what_it_is_for() {
    let broker = guarded(&[]);
    for topic in ["x", "x/events"] {
        let body = json!({"name": topic}).to_string();
        let created = broker.request("POST", "/topics", &KEY, &body).await;
        assert_eq!(created.status, 201, "{}", created.body);
    }
    let ticket = buy(&broker).await;
    for (method, path) in [
        ("DELETE", "/topics/x"),
        ("DELETE", "/topics/x/events"),
        ("GET", "/topics"),
        ("GET", "/topics/x/messages"),
        ("POST", "/tickets"),
    ] {
        let path = format!("{path}?ticket={ticket}");
        let refused = broker.request(method, &path, &[], "").await;
        assert_eq!(refused.status, 401, "{method} {path}: {}", refused.body);
    }
    // It has not been used up.
    let path = format!("/topics/x/events?ticket={ticket}");
    EventStream::open(&broker, &path, &[]).await;
}

#[tokio::test]
async fn an_upgrade_that_comes_to_nothing_for_another_reason_uses_no_ticket_up() {
    let broker = guarded(&[("MAX_CONNECTIONS", "1")]);
    let ticket = buy(&broker).await;
    let held = Client::connect_with(&broker, "/ws", &[("x-api-key", KEY[0].1)]).await;
    let full = broker.upgrade(&with(&ticket), &[]).await;
    assert_eq!(full.status, 503, "{}", full.body);
    let plain = broker.get(&with(&ticket)).await;
    assert_eq!(plain.status, 426);
    held.close().await;
    eventually("a seat", async || {
        broker.upgrade(&with(&ticket), &[]).await.status == 101
    })
    .await;
    // Now it is.
    eventually("its end", async || {
        broker.upgrade(&with(&ticket), &[]).await.status == 401
    })
    .await;
}
