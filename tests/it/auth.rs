//! Authentication on the socket: who gets in, and that everybody else is told why before the door closes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::{keys, publish_text};
use crate::harness::raw::{self, FIN, PING, PONG, RawSocket};

const KEY: (&str, &str) = ("x-api-key", "key-two");

fn guarded(further: &[(&str, &str)]) -> Broker {
    let settings = [("AUTH_ENABLED", "true"), ("API_KEYS", "key-one,key-two")];
    Broker::start(&[&settings, further].concat())
}

fn auth(key: &str) -> Value {
    json!({"type": "auth", "api_key": key})
}

async fn create_topic(broker: &Broker) {
    let body = r#"{"name":"orders"}"#;
    let created = broker.request("POST", "/topics", &[KEY], body).await;
    assert_eq!(created.status, 201);
}

/// The only thing that may come is this error, and then close 1008.
async fn assert_turned_away(mut client: Client, code: &str, text: Option<&str>) {
    let (close, before) = client.expect_close().await;
    assert_eq!(close, 1008);
    let [error] = &before[..] else {
        panic!("more or less than one error: {before:?}");
    };
    assert_eq!(error["error"]["code"], code, "{error}");
    assert!(
        text.is_none_or(|text| error["error"]["message"] == text),
        "{error}"
    );
}

#[tokio::test]
async fn every_configured_key_opens_the_door() {
    let broker = guarded(&[]);
    for key in ["key-one", "key-two"] {
        let mut client = Client::connect(&broker).await;
        let ack = client.ask_raw(&auth(key).to_string()).await;
        assert_eq!(keys(&ack), "type status ts");
        assert!(ack.starts_with(r#"{"type":"ack","status":"authenticated","#));
        assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_so_and_turned_away() {
    let broker = guarded(&[]);
    let text = Some("Invalid or expired API key");
    for key in [
        "wrong",
        "",
        "key-on",
        "key-one,key-two",
        "key-onee",
        " key-one",
    ] {
        let mut client = Client::connect(&broker).await;
        client.send(auth(key)).await;
        assert_turned_away(client, "INVALID_API_KEY", text).await;
    }
}

#[tokio::test]
async fn the_error_of_a_wrong_key_echoes_its_request_id() {
    let broker = guarded(&[]);
    let mut client = Client::connect(&broker).await;
    let command = json!({"type": "auth", "api_key": "wrong", "request_id": "r1"});
    assert_eq!(client.ask(command).await["request_id"], "r1");
}

#[tokio::test]
async fn another_command_first_is_unauthorized() {
    let broker = guarded(&[]);
    create_topic(&broker).await;
    for command in [
        r#"{"type":"ping"}"#,
        r#"{"type":"subscribe","topic":"orders"}"#,
        r#"{"type":"unsubscribe","topic":"orders"}"#,
        &publish_text("orders", "1"),
    ] {
        let mut client = Client::connect(&broker).await;
        client.send_text(command).await;
        assert_turned_away(client, "UNAUTHORIZED", None).await;
    }
}

#[tokio::test]
async fn silence_is_unauthorized_when_the_time_is_up() {
    let broker = guarded(&[("AUTH_TIMEOUT_SEC", "1")]);
    let start = Instant::now();
    let client = Client::connect(&broker).await;
    assert_turned_away(client, "UNAUTHORIZED", Some("Authentication timeout")).await;
    let elapsed = start.elapsed();
    let allowed = Duration::from_millis(900)..Duration::from_secs(3);
    assert!(allowed.contains(&elapsed), "{elapsed:?}");
}

#[tokio::test]
async fn control_frames_do_not_put_the_deadline_off() {
    let broker = guarded(&[("AUTH_TIMEOUT_SEC", "1")]);
    let start = Instant::now();
    let mut socket = RawSocket::connect(&broker).await;
    let error = loop {
        socket.send(&raw::masked(FIN | PING, b"")).await;
        let frame = socket.recv_frame().await.expect("an error before the end");
        if frame.opcode != PONG {
            break String::from_utf8(frame.payload).expect("text is UTF-8");
        }
        let patience = Duration::from_secs(5);
        assert!(start.elapsed() < patience, "pings put the deadline off");
    };
    assert!(error.contains("Authentication timeout"), "{error}");
}

#[tokio::test]
async fn who_is_in_stays_in_when_the_time_is_up() {
    let broker = guarded(&[("AUTH_TIMEOUT_SEC", "1")]);
    let mut insider = Client::connect(&broker).await;
    insider.ask(auth("key-one")).await;
    // The stranger came later, so its deadline is the later one.
    let mut stranger = Client::connect(&broker).await;
    assert_eq!(stranger.expect_close().await.0, 1008);
    assert_eq!(insider.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn a_second_auth_is_a_bad_request() {
    let broker = guarded(&[]);
    let mut client = Client::connect(&broker).await;
    client.ask(auth("key-one")).await;
    for key in ["key-one", "wrong"] {
        let text = auth(key).to_string();
        let explanation = client.expect_refusal(&text, "BAD_REQUEST").await;
        assert_eq!(explanation, "Already authenticated");
    }
}

#[tokio::test]
async fn a_valid_header_on_the_upgrade_authenticates() {
    let broker = guarded(&[]);
    let mut client = Client::connect_with(&broker, "/ws", &[KEY]).await;
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn the_first_auth_behind_a_valid_header_is_acked_and_the_second_is_not() {
    let broker = guarded(&[]);
    let mut client = Client::connect_with(&broker, "/ws", &[KEY]).await;
    let ack = client.ask_raw(&auth("key-one").to_string()).await;
    assert_eq!(keys(&ack), "type status ts");
    for key in ["key-one", "wrong"] {
        let text = auth(key).to_string();
        let explanation = client.expect_refusal(&text, "BAD_REQUEST").await;
        assert_eq!(explanation, "Already authenticated");
    }
}

#[tokio::test]
async fn a_wrong_key_behind_a_valid_header_is_turned_away() {
    let broker = guarded(&[]);
    let mut client = Client::connect_with(&broker, "/ws", &[KEY]).await;
    client.send(auth("wrong")).await;
    assert_turned_away(
        client,
        "INVALID_API_KEY",
        Some("Invalid or expired API key"),
    )
    .await;
}

#[tokio::test]
async fn an_auth_behind_a_valid_header_is_answered_in_its_place() {
    let broker = guarded(&[]);
    create_topic(&broker).await;
    let request = format!("GET /ws HTTP/1.1\r\n{}: {}\r\n", KEY.0, KEY.1);
    let request = raw::upgrade_request("/ws").replace("GET /ws HTTP/1.1\r\n", &request);
    let mut socket = RawSocket::dial(&broker).await;
    socket.send(request.as_bytes()).await;
    assert_eq!(socket.upgrade_response().await.status, 101);
    let publish = raw::text(&publish_text("orders", "1"));
    let right = raw::text(&auth("key-one").to_string());
    socket
        .send(&[publish.clone(), right.clone(), publish, right].concat())
        .await;
    assert_eq!(socket.recv().await["seq"], 1);
    assert_eq!(socket.recv().await["status"], "authenticated");
    assert_eq!(socket.recv().await["seq"], 2);
    assert_eq!(socket.recv().await["error"]["code"], "BAD_REQUEST");
}

#[tokio::test]
async fn an_auth_without_a_usable_key_is_told_what_is_missing() {
    let broker = guarded(&[]);
    for command in [
        r#"{"type":"auth"}"#,
        r#"{"type":"auth","api_key":null}"#,
        r#"{"type":"auth","api_key":7}"#,
        r#"{"type":"auth","api_key":["key-one"]}"#,
        r#"{"type":"auth","api_key":"\ud800"}"#,
    ] {
        let mut client = Client::connect(&broker).await;
        client.send_text(command).await;
        assert_turned_away(client, "UNAUTHORIZED", Some("api_key is required")).await;
    }
}

#[tokio::test]
async fn an_auth_with_an_illegal_request_id_is_told_so() {
    let broker = guarded(&[]);
    let mut client = Client::connect(&broker).await;
    client
        .send(json!({"type": "auth", "api_key": "key-one", "request_id": 7}))
        .await;
    let (close, before) = client.expect_close().await;
    let [error] = &before[..] else {
        panic!("more or less than one error: {before:?}");
    };
    assert_eq!(
        (close, &error["error"]["code"]),
        (1008, &json!("UNAUTHORIZED"))
    );
    let text = error["error"]["message"].as_str().expect("a text");
    assert!(text.contains("request_id"), "{text}");
}

#[tokio::test]
async fn a_wrong_header_on_the_upgrade_authenticates_nothing() {
    let broker = guarded(&[]);
    let wrong = [("x-api-key", "wrong")];
    match broker.upgrade("/ws", &wrong).await.status {
        101 => {
            let mut client = Client::connect_with(&broker, "/ws", &wrong).await;
            client.send(json!({"type": "ping"})).await;
            assert_turned_away(client, "UNAUTHORIZED", None).await;
        }
        status => assert_eq!(status, 401),
    }
}

#[tokio::test]
async fn nothing_behind_a_wrong_key_is_carried_out() {
    let broker = guarded(&[]);
    create_topic(&broker).await;
    let mut socket = RawSocket::connect(&broker).await;
    let wrong = raw::text(&auth("wrong").to_string());
    let publish = raw::text(&publish_text("orders", "1"));
    socket.wire.offer(&[wrong, publish].concat()).await;
    assert_eq!(socket.recv().await["error"]["code"], "INVALID_API_KEY");
    assert_eq!(socket.expect_close().await, Some(1008));
    let stats = broker.request("GET", "/stats", &[KEY], "").await.json();
    assert_eq!(stats["topics"]["orders"]["messages"], 0);
}

#[tokio::test]
async fn commands_pipelined_behind_a_right_key_are_carried_out() {
    let broker = guarded(&[]);
    create_topic(&broker).await;
    let mut socket = RawSocket::connect(&broker).await;
    let right = raw::text(&auth("key-one").to_string());
    let publish = raw::text(&publish_text("orders", "1"));
    socket.send(&[right, publish].concat()).await;
    assert_eq!(socket.recv().await["status"], "authenticated");
    assert_eq!(socket.recv().await["seq"], 1);
}

#[tokio::test]
async fn auth_is_acked_where_nobody_asks_for_it() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    for _ in 0..2 {
        let ack = client.ask(auth("anything")).await;
        assert_eq!(ack["status"], "authenticated");
    }
    let without = r#"{"type":"auth"}"#;
    let explanation = client.expect_refusal(without, "BAD_REQUEST").await;
    assert_eq!(explanation, "api_key is required");
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}
