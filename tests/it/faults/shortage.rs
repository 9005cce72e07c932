//! No descriptor is left: who is there stays, and files that cannot be opened change nothing until they can.

use serde_json::json;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::descriptors::{descriptors_of, starve};
use crate::harness::eventually;
use crate::harness::keys::{KeyFile, ROOT, assert_ended, connect, create, key};
use crate::harness::raw::RawSocket;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_keys_that_cannot_be_opened_is_read_once_it_can() {
    let guest = key(
        "guest-key",
        "subscribe = [\"orders\"]\npublish = [\"orders\"]",
    );
    let file = KeyFile::new(&guest);
    let broker = file.broker(&[]);
    create(&broker, &["orders"]).await;
    let mut client = connect(&broker, "guest-key").await;
    client.subscribe("orders").await;
    let mut root = connect(&broker, ROOT.1).await;
    let descriptors = descriptors_of(&broker);

    let starved = starve(&broker).await;
    file.replace(&key("other-key", "observe = true"));
    eventually("a line that says what cannot be read", async || {
        broker
            .log()
            .lines()
            .any(|line| line.contains("API_KEYS_FILE=") && line.contains("what was read before"))
    })
    .await;
    // Who is there stays and is served; whoever comes is cut, and not left hanging.
    root.publish("orders", 1).await;
    assert_eq!(client.expect_event("orders").await["seq"], 1);
    for _ in 0..3 {
        let mut socket = RawSocket::dial(&broker).await;
        assert!(socket.wire.rest("a close").await.is_empty());
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");

    starved.feed(&broker);
    assert_ended(&mut client, "UNAUTHORIZED", "Key 'guest' was withdrawn").await;
    let mut other = eventually_connected(&broker).await;
    assert_eq!(other.ask(json!({"type": "ping"})).await["type"], "pong");
    drop(other);
    eventually("as many descriptors as before", async || {
        descriptors_of(&broker) <= descriptors
    })
    .await;
}

/// A connection of the key that came with the file that could not be read.
async fn eventually_connected(broker: &Broker) -> Client {
    eventually("an acceptor that has paused enough", async || {
        let mut socket = RawSocket::dial(broker).await;
        socket.is_open(b"GET /health HTTP/1.0\r\n\r\n").await
            && !socket.wire.rest("an answer or the end").await.is_empty()
    })
    .await;
    connect(broker, "other-key").await
}
