//! What holds for every command: `request_id`, unknown fields, and input that is no command at all.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::member;

#[tokio::test]
async fn ping_is_answered_with_its_request_id() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    let pong = client
        .ask(json!({"type": "ping", "request_id": "r1"}))
        .await;
    assert_eq!(
        (&pong["type"], &pong["request_id"]),
        (&json!("pong"), &json!("r1"))
    );
    let pong = client.ask(json!({"type": "ping"})).await;
    assert_eq!(pong.get("request_id"), None);
}

#[tokio::test]
async fn request_id_is_echoed_in_the_very_letters() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for id in [
        r#""""#,
        r#""a\u00e9é""#,
        r#""\"\\\/\b\n""#,
        r#""\ud83d\ude00 😀""#,
    ] {
        let pong = client
            .ask_raw(&format!(r#"{{"type":"ping","request_id":{id}}}"#))
            .await;
        assert_eq!(member(&pong, "request_id"), id);
    }
}

#[tokio::test]
async fn request_id_may_have_1024_bytes_and_not_more() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for longest in ["x".repeat(1024), "é".repeat(512)] {
        let pong = client
            .ask(json!({"type": "ping", "request_id": longest}))
            .await;
        assert_eq!(pong["request_id"], longest);
    }
    let too_long = json!({"type": "ping", "request_id": "x".repeat(1025)});
    client
        .expect_refusal(&too_long.to_string(), "BAD_REQUEST")
        .await;
}

#[tokio::test]
async fn request_id_must_be_a_string() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for id in ["7", "[]", "{}", "true"] {
        let text = format!(r#"{{"type":"ping","request_id":{id}}}"#);
        client.expect_refusal(&text, "BAD_REQUEST").await;
    }
}

#[tokio::test]
async fn errors_echo_the_request_id() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for command in [
        json!({"type": "subscribe", "topic": "nowhere", "request_id": "r1"}),
        json!({"type": "subscribe", "request_id": "r1"}),
        json!({"type": "publish", "topic": "nowhere", "request_id": "r1"}),
        json!({"type": "dance", "request_id": "r1"}),
    ] {
        let error = client.ask(command).await;
        assert_eq!(
            (&error["type"], &error["request_id"]),
            (&json!("error"), &json!("r1"))
        );
    }
}

#[tokio::test]
async fn what_is_no_command_is_a_bad_request_and_the_connection_lives_on() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for text in [
        "",
        " ",
        "{",
        "}",
        "[]",
        "[{}]",
        "null",
        "\"ping\"",
        "7",
        "{}",
        "ping",
        r#"{"type":null}"#,
        r#"{"type":7}"#,
        r#"{"type":"dance"}"#,
        r#"{"type":"PING"}"#,
        r#"{"type":"ping"} x"#,
        r#"{"type":"ping"}{"type":"ping"}"#,
        r#"{"type":"ping",}"#,
        r#"{"type":"ping""#,
        r"{'type':'ping'}",
        r#"{"kind":"ping"}"#,
        "{\"type\":\"ping\",\"request_id\":\"\n\"}",
        "{\"type\":\"ping\"}\0",
    ] {
        client.expect_refusal(text, "BAD_REQUEST").await;
    }
}

#[tokio::test]
async fn an_unknown_type_is_named() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for kind in ["dance", "", "PING", "é"] {
        let command = json!({"type": kind}).to_string();
        let text = client.expect_refusal(&command, "BAD_REQUEST").await;
        let beginning = format!("Unknown message type: '{kind}'");
        assert!(text.starts_with(&beginning), "{text}");
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for text in [
        r#"{"type":"ping","x":1}"#,
        r#"{"x":{"y":[1,{"type":"publish"}],"z":null},"type":"ping"}"#,
        r#"{"topic":"orders","type":"ping","message":{"id":"not a uuid"}}"#,
        r#"{"x":1e400,"y":"\ud800","type":"ping","":-0.0}"#,
    ] {
        client.send_text(text).await;
        assert_eq!(client.recv().await["type"], "pong", "{text}");
    }
}

#[tokio::test]
async fn white_space_order_and_escapes_of_a_command_do_not_matter() {
    let broker = Broker::start(&[]);
    broker.create_topic("café").await;
    let mut client = Client::connect(&broker).await;
    for text in [
        " \r\n\t{ \"type\" : \"subscribe\" , \"topic\" : \"caf\\u00e9\" } \n",
        r#"{"topic":"café","type":"subscribe"}"#,
        r#"{"\u0074ype":"subscr\u0069be","topic":"caf\u00E9"}"#,
    ] {
        client.send_text(text).await;
        let ack = client.recv().await;
        assert_eq!(
            (&ack["type"], &ack["topic"]),
            (&json!("ack"), &json!("café")),
            "{text}"
        );
    }
    assert_eq!(broker.subscribers_of("café").await, 1);
}
