//! Everything that can be the first message on a WebSocket, and everything that might pass for a key in it.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{HexDigest, NAMED, Scene, TOPICS, assert_tells_nothing};
use crate::harness::client::Client;
use crate::harness::json::publish_text;
use crate::harness::keys::{ROOT, connect};
use crate::harness::raw::{FIN, PING, PONG, RawSocket, masked};

/// What is sent first, and the code of the error that is the only answer to it.
fn first_messages() -> Vec<(Message, &'static str)> {
    let text = |value: Value| Message::text(value.to_string());
    let mut all = vec![
        (text(json!({"type": "ping"})), "UNAUTHORIZED"),
        (Message::text(publish_text(TOPICS[0], "1")), "UNAUTHORIZED"),
        (Message::text(publish_text(TOPICS[1], "1")), "UNAUTHORIZED"),
        (
            Message::binary(publish_text(TOPICS[0], "1")),
            "UNAUTHORIZED",
        ),
        (Message::text(""), "UNAUTHORIZED"),
        (Message::text("{"), "UNAUTHORIZED"),
        (Message::text("[]"), "UNAUTHORIZED"),
        (
            Message::text(r#"{"type":"AUTH","api_key":"root-key"}"#),
            "UNAUTHORIZED",
        ),
        (
            Message::text(r#"{"type":"nonsense","api_key":"root-key"}"#),
            "UNAUTHORIZED",
        ),
        (Message::text(r#"{"api_key":"root-key"}"#), "UNAUTHORIZED"),
        (text(json!({"type": "auth"})), "UNAUTHORIZED"),
        (text(json!({"type": "auth", "key": ROOT.1})), "UNAUTHORIZED"),
        (
            text(json!({"type": "auth", "api_key": {"key": ROOT.1}})),
            "UNAUTHORIZED",
        ),
        (
            text(json!({"type": "auth", "api_key": [ROOT.1]})),
            "UNAUTHORIZED",
        ),
        (text(json!({"type": "auth", "api_key": 1})), "UNAUTHORIZED"),
        (
            text(json!({"type": "auth", "api_key": true})),
            "UNAUTHORIZED",
        ),
        (
            text(json!({"type": "auth", "api_key": null})),
            "UNAUTHORIZED",
        ),
        (
            text(json!({"type": "auth", "token": ROOT.1})),
            "INVALID_TOKEN",
        ),
        (
            text(json!({"type": "auth", "token": "eyJhbGciOiJub25lIn0.e30."})),
            "INVALID_TOKEN",
        ),
    ];
    for kind in ["subscribe", "unsubscribe"] {
        for topic in TOPICS.into_iter().chain([">", "*"]) {
            all.push((
                text(json!({"type": kind, "topic": topic, "last_n": 9})),
                "UNAUTHORIZED",
            ));
        }
    }
    for key in [
        "x",
        "root-ke",
        "root-key-",
        "ROOT-KEY",
        " root-key",
        "root-key\n",
        "root-key\0",
        "root-key,insider-key",
        "root\u{2010}key",
        NAMED.1,
        &format!("{:x}", HexDigest(NAMED.0)),
        &"root-key".repeat(1000),
    ] {
        all.push((
            text(json!({"type": "auth", "api_key": key})),
            "INVALID_API_KEY",
        ));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_on_a_websocket_gets_one_refusal_and_the_end() {
    let scene = Scene::set().await;
    for (message, code) in first_messages() {
        let mut stranger = Client::connect(&scene.broker).await;
        stranger.send_message(message.clone()).await;
        // What comes behind it is not even read.
        stranger.try_send(&publish_text(TOPICS[0], "2")).await;
        let (close, told) = stranger.expect_close().await;
        assert_eq!(close, 1008, "{message:?}");
        assert_eq!(told.len(), 1, "{message:?}: {told:?}");
        assert_eq!(told[0]["error"]["code"], code, "{message:?}");
        assert_tells_nothing(&told[0].to_string(), &format!("{message:?}"));
    }
    scene.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_says_nothing_hears_nothing_but_pongs() {
    let scene = Scene::set().await;
    let mut stranger = RawSocket::connect(&scene.broker).await;
    let ack = connect(&scene.broker, ROOT.1)
        .await
        .publish(TOPICS[0], 1)
        .await;
    assert_eq!(ack["matched"], 1);
    stranger.send(&masked(FIN | PING, b"anybody?")).await;
    let frame = stranger.recv_frame().await.expect("a pong");
    assert_eq!((frame.opcode, &frame.payload[..]), (PONG, &b"anybody?"[..]));
}
