//! A payload is any JSON value and reaches subscribers byte for byte, live and from the history.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::{member, message_id, publish_text};

/// The deepest payload that is taken.
const DEPTH_MAX: usize = 128;

async fn broker() -> Broker {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    broker
}

/// Publishes each payload, and compares the letters of the event, live and replayed.
async fn assert_verbatim(payloads: &[&str]) {
    let broker = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    for payload in payloads {
        publisher.send_text(&publish_text("orders", payload)).await;
        let ack = publisher.recv().await;
        assert_eq!(ack["type"], "ack", "{payload}: {ack}");
        let event = subscriber.recv_raw().await;
        assert_eq!(&member(&member(&event, "message"), "payload"), payload);
        let mut late = Client::connect(&broker).await;
        late.subscribe_with("orders", serde_json::json!({"last_n": 1}))
            .await;
        assert_eq!(late.recv_raw().await, event);
    }
}

async fn assert_refused(payloads: &[&str]) {
    let broker = broker().await;
    let mut publisher = Client::connect(&broker).await;
    for payload in payloads {
        publisher
            .expect_refusal(&publish_text("orders", payload), "BAD_REQUEST")
            .await;
    }
}

fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
    [&open.repeat(levels), inner, &close.repeat(levels)].concat()
}

#[tokio::test]
async fn every_kind_of_value_is_a_payload() {
    assert_verbatim(&["null", "true", "false", "0", r#""""#, "[]", "{}"]).await;
}

#[tokio::test]
async fn numbers_keep_their_spelling() {
    let thirty_digits = "123456789012345678901234567890";
    assert_verbatim(&[
        "1.0",
        "1.10",
        "-0",
        "-0.0",
        "1e400",
        "1E+2",
        "1e-0",
        "0.1e1",
        "9007199254740993",
        thirty_digits,
        "3.141592653589793238462643383279",
    ])
    .await;
}

#[tokio::test]
async fn strings_keep_their_escapes() {
    assert_verbatim(&[
        r#""\u00e9""#,
        r#""é""#,
        r#""\u00E9""#,
        r#""\ud83d\ude00""#,
        r#""😀""#,
        r#""\/ /""#,
        r#""\"\\\b\f\n\r\t""#,
        r#""\u0000""#,
        "\"\u{7f}\u{2028}\"",
    ])
    .await;
}

#[tokio::test]
async fn half_a_surrogate_pair_is_not_the_brokers_business() {
    assert_verbatim(&[r#""\ud800""#, r#""\udc00\ud800""#, r#"{"\ud800":1}"#]).await;
}

#[tokio::test]
async fn objects_keep_their_order_and_their_duplicates() {
    assert_verbatim(&[
        r#"{"z":1,"a":2,"m":3}"#,
        r#"{"a":1,"a":2,"a":1}"#,
        r#"{"":1,"payload":2,"id":3}"#,
    ])
    .await;
}

#[tokio::test]
async fn inner_white_space_is_kept() {
    assert_verbatim(&["{ \"a\" :\t[ 1 ,\r\n 2 ] }", "[ ]", "{\n}"]).await;
}

#[tokio::test]
async fn what_looks_like_the_frame_of_an_event_is_kept() {
    assert_verbatim(&[
        r#""}}{\"type\":\"event\"}""#,
        r#"{"type":"event","topic":"trades","seq":7,"ts":null}"#,
        r#"{"message":{"id":"x","payload":{"message":{}}}}"#,
    ])
    .await;
}

#[tokio::test]
async fn a_payload_close_to_the_limit_is_kept() {
    let long = format!("\"{}\"", "x".repeat(65_000));
    let wide = format!("[{}1]", "1,".repeat(32_000));
    assert_verbatim(&[&long, &wide]).await;
}

#[tokio::test]
async fn nesting_up_to_the_limit_is_kept() {
    let arrays = nested("[", "", "]", DEPTH_MAX);
    let objects = nested(r#"{"a":"#, "1", "}", DEPTH_MAX);
    assert_verbatim(&[&arrays, &objects]).await;
}

#[tokio::test]
async fn nesting_over_the_limit_is_a_bad_request() {
    let arrays = nested("[", "", "]", DEPTH_MAX + 1);
    let objects = nested(r#"{"a":"#, "1", "}", DEPTH_MAX + 1);
    let deepest = nested("[", "", "]", 30_000);
    let unclosed = "[".repeat(60_000);
    assert_refused(&[&arrays, &objects, &deepest, &unclosed]).await;
}

#[tokio::test]
async fn ignored_fields_nest_however_deep() {
    let broker = broker().await;
    let mut client = Client::connect(&broker).await;
    let id = message_id();
    for deep in [
        nested("[", "", "]", 30_000),
        nested(r#"{"a":"#, "[]", "}", 10_000),
    ] {
        client
            .send_text(&format!(r#"{{"type":"ping","x":{deep}}}"#))
            .await;
        assert_eq!(client.recv().await["type"], "pong");
        let message = format!(r#"{{"x":{deep},"id":"{id}","payload":1}}"#);
        client
            .send_text(&format!(
                r#"{{"type":"publish","topic":"orders","message":{message}}}"#
            ))
            .await;
        assert_eq!(client.recv().await["type"], "ack");
    }
    let unclosed = format!(r#"{{"type":"ping","x":{}"#, "[".repeat(60_000));
    client.expect_refusal(&unclosed, "BAD_REQUEST").await;
}

#[tokio::test]
async fn a_missing_payload_is_null() {
    let broker = broker().await;
    let mut client = Client::subscribed(&broker, "orders").await;
    for fields in ["", r#","x":1"#, r#","payload":null"#] {
        let id = message_id();
        let message = format!(r#"{{"id":"{id}"{fields}}}"#);
        client
            .send_text(&format!(
                r#"{{"type":"publish","topic":"orders","message":{message}}}"#
            ))
            .await;
        let event = client.recv_raw().await;
        let expected = format!(r#"{{"id":"{id}","payload":null}}"#);
        assert_eq!(member(&event, "message"), expected);
        assert_eq!(client.recv().await["type"], "ack");
    }
}

#[tokio::test]
async fn a_payload_that_is_not_json_is_a_bad_request() {
    assert_refused(&[
        "",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "-",
        "0x1",
        "NaN",
        "Infinity",
        "nul",
        "True",
        "'a'",
        "[1,]",
        "[,1]",
        "[1 2]",
        r#"{"a":1,}"#,
        r"{a:1}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#""\x""#,
        r#""\u12g4""#,
        "\"\n\"",
        "\"\t\"",
        "1//",
        "[1",
    ])
    .await;
}
