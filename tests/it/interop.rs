//! The examples of the contract, through a second WebSocket library.

use std::future::Future;

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::broker::{Broker, UPGRADE_HEADERS};
use crate::harness::within;

const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

struct Other(FragmentCollector<TokioIo<Upgraded>>);

impl Other {
    async fn connect(broker: &Broker) -> Self {
        let stream = TcpStream::connect(broker.address()).await;
        let mut request = Request::get("/ws?client_id=s1").header("Host", "shardcast");
        for (name, value) in UPGRADE_HEADERS {
            request = request.header(name, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .expect("a legal request");
        let stream = stream.expect("the broker listens");
        let handshake = fastwebsockets::handshake::client(&Spawn, request, stream);
        let (socket, _) = within("the upgrade", handshake).await.expect("an upgrade");
        Self(FragmentCollector::new(socket))
    }

    async fn send(&mut self, text: &str) {
        let frame = Frame::text(Payload::Borrowed(text.as_bytes()));
        within("room to send", self.0.write_frame(frame))
            .await
            .expect("the connection is open");
    }

    async fn recv(&mut self) -> Value {
        let frame = within("a message", self.0.read_frame()).await;
        let frame = frame.expect("the connection is open");
        assert_eq!(frame.opcode, OpCode::Text);
        serde_json::from_slice(&frame.payload).expect("messages are JSON")
    }

    async fn ask(&mut self, command: Value) -> Value {
        self.send(&command.to_string()).await;
        self.recv().await
    }
}

/// What a message says, apart from when.
fn timeless(mut message: Value) -> Value {
    let fields = message.as_object_mut().expect("an object");
    assert!(fields.remove("ts").is_some());
    fields.remove("epoch");
    message
}

#[tokio::test]
async fn the_life_of_a_subscriber_as_the_contract_tells_it() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut subscriber = Other::connect(&broker).await;
    let subscribe = json!({"type": "subscribe", "topic": "orders", "client_id": "s1", "last_n": 5, "request_id": "1"});
    let ack = timeless(subscriber.ask(subscribe).await);
    let expected =
        json!({"type": "ack", "request_id": "1", "topic": "orders", "status": "ok", "seq": 0});
    assert_eq!(ack, expected);
    let mut publisher = Other::connect(&broker).await;
    let message = json!({"id": ID, "payload": {"any": "JSON value"}});
    let publish =
        json!({"type": "publish", "topic": "orders", "message": message, "request_id": "2"});
    let ack = timeless(publisher.ask(publish).await);
    let expected = json!({"type": "ack", "request_id": "2", "topic": "orders", "status": "ok", "seq": 1, "matched": 1});
    assert_eq!(ack, expected);
    let event = timeless(subscriber.recv().await);
    let expected = json!({"type": "event", "topic": "orders", "message": message, "seq": 1});
    assert_eq!(event, expected);
    let unsubscribe =
        json!({"type": "unsubscribe", "topic": "orders", "client_id": "s1", "request_id": "3"});
    let ack = timeless(subscriber.ask(unsubscribe).await);
    let expected = json!({"type": "ack", "request_id": "3", "topic": "orders", "status": "ok"});
    assert_eq!(ack, expected);
}

#[tokio::test]
async fn ping_and_error_as_the_contract_tells_them() {
    let broker = Broker::start(&[]);
    let mut client = Other::connect(&broker).await;
    let pong = client.ask(json!({"type": "ping", "request_id": "1"})).await;
    assert_eq!(timeless(pong), json!({"type": "pong", "request_id": "1"}));
    let subscribe = json!({"type": "subscribe", "topic": "orders", "request_id": "2"});
    let error = client.ask(subscribe).await;
    let told = json!({"code": "TOPIC_NOT_FOUND", "message": "Topic 'orders' does not exist"});
    let expected = json!({"type": "error", "request_id": "2", "error": told});
    assert_eq!(timeless(error), expected);
}

#[tokio::test]
async fn a_close_is_answered() {
    let broker = Broker::start(&[]);
    let mut client = Other::connect(&broker).await;
    within(
        "room to send",
        client.0.write_frame(Frame::close(1000, b"")),
    )
    .await
    .expect("the connection is open");
    let answer = within("the answer", client.0.read_frame()).await;
    let answer = answer.expect("a close frame");
    assert_eq!(answer.opcode, OpCode::Close);
    assert_eq!(answer.payload.first_chunk(), Some(&1000_u16.to_be_bytes()));
}

#[tokio::test]
async fn long_messages_arrive_whole() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut subscriber = Other::connect(&broker).await;
    subscriber
        .ask(json!({"type": "subscribe", "topic": "orders"}))
        .await;
    let mut publisher = Other::connect(&broker).await;
    for length in [1, 50, 100, 125, 126, 1000, 60_000] {
        let payload = "x".repeat(length);
        let message = json!({"id": ID, "payload": payload});
        let publish = json!({"type": "publish", "topic": "orders", "message": message});
        assert_eq!(publisher.ask(publish).await["type"], "ack");
        let event = subscriber.recv().await;
        assert_eq!(event["message"]["payload"], payload);
    }
}
