//! A well-behaved client over tokio-tungstenite, which nobody here wrote.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

use crate::harness::broker::Broker;
use crate::harness::json::{message_id, number, publish_text};
use crate::harness::{pair, within};

/// A subscriber, a publisher, or both.
pub(crate) struct Client {
    socket: WebSocketStream<Pipe>,
    /// Who is at the other end, as far as that is known.
    there: Option<SocketAddr>,
}

/// Whatever WebSocket is spoken over.
pub(crate) type Pipe = Box<dyn Stream>;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Client {
    /// Connects, if somebody listens there and agrees to the upgrade.
    pub(crate) async fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let stream: Pipe = Box::new(stream);
        let handshake = tokio_tungstenite::client_async("ws://localhost/ws", stream);
        let (socket, _) = within("the upgrade", handshake).await.ok()?;
        let there = Some(address);
        Some(Self { socket, there })
    }

    /// The next message, unless the connection ends.
    pub(crate) async fn try_recv(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Some(parse(&text)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// Sends a text and takes the next message that is no heartbeat for its answer, unless the connection ends.
    pub(crate) async fn try_ask(&mut self, text: &str) -> Option<Value> {
        if !self.try_send(text).await {
            return None;
        }
        loop {
            let answer = within("an answer", self.try_recv()).await?;
            if answer["type"] != "info" {
                return Some(answer);
            }
        }
    }

    /// Connects without a client id.
    pub(crate) async fn connect(broker: &Broker) -> Self {
        Self::connect_with(broker, "/ws", &[]).await
    }

    /// Connects under a label.
    pub(crate) async fn connect_as(broker: &Broker, client_id: &str) -> Self {
        Self::connect_with(broker, &format!("/ws?client_id={client_id}"), &[]).await
    }

    /// Connects with a path and headers of its own.
    pub(crate) async fn connect_with(
        broker: &Broker,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Self {
        let address = broker.address();
        let stream = TcpStream::connect(address)
            .await
            .expect("the broker listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        let mut client = Self::connect_over(Box::new(stream), path, headers).await;
        client.there = Some(address);
        client
    }

    /// Connects over a stream that is there already.
    pub(crate) async fn connect_over(
        stream: Pipe,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Self {
        let mut request = format!("ws://localhost{path}")
            .into_client_request()
            .expect("the tests write legal paths");
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("the tests write legal headers");
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, value);
        }
        let small = Some(WebSocketConfig::default().read_buffer_size(8 * 1024));
        let handshake = tokio_tungstenite::client_async_with_config(request, stream, small);
        let upgraded = within("the upgrade", handshake).await;
        let (socket, _) = upgraded.expect("the broker agrees to the upgrade");
        let there = None;
        Self { socket, there }
    }

    /// Connects and subscribes.
    pub(crate) async fn subscribed(broker: &Broker, topic: &str) -> Self {
        let mut client = Self::connect(broker).await;
        client.subscribe(topic).await;
        client
    }

    /// Sends a command.
    pub(crate) async fn send(&mut self, command: Value) {
        self.send_text(&command.to_string()).await;
    }

    /// Sends a text message, whatever is in it.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends any message.
    pub(crate) async fn send_message(&mut self, message: Message) {
        self.level().await;
        within("room to send", self.socket.send(message))
            .await
            .expect("the connection is open");
    }

    /// Sends text messages in one write.
    pub(crate) async fn send_at_once(&mut self, texts: &[String]) {
        self.level().await;
        for text in texts {
            let message = Message::text(text.as_str());
            self.socket.feed(message).await.expect("the broker reads");
        }
        self.socket.flush().await.expect("the broker reads");
    }

    /// Sends a text message, unless the connection has ended.
    pub(crate) async fn try_send(&mut self, text: &str) -> bool {
        self.level().await;
        within("room to send", self.socket.send(Message::text(text)))
            .await
            .is_ok()
    }

    /// Waits until the other end knows what was acked elsewhere.
    fn level(&self) -> impl Future<Output = ()> + use<> {
        let there = self.there;
        async move {
            if let Some(there) = there {
                pair::level(there).await;
            }
        }
    }

    /// The next message as it came.
    pub(crate) async fn recv_raw(&mut self) -> String {
        self.recv_or_end("a message")
            .await
            .expect("a message, not the end of the connection")
    }

    /// The next message, parsed.
    pub(crate) async fn recv(&mut self) -> Value {
        parse(&self.recv_raw().await)
    }

    /// The next message, or `None` if the connection closes.
    pub(crate) async fn recv_or_end(&mut self, what: &str) -> Option<String> {
        loop {
            match within(what, self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return None,
                Some(other) => panic!("waited for {what}, got {other:?}"),
            }
        }
    }

    /// Reads up to the close frame, then to the end of the connection; says the code and what came before.
    pub(crate) async fn expect_close(&mut self) -> (u16, Vec<Value>) {
        let mut before = Vec::new();
        let code = loop {
            match within("a close frame", self.socket.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => break frame.code.into(),
                Some(Ok(Message::Text(text))) => before.push(parse(&text)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?} instead of a close frame with a code"),
            }
        };
        while within("the end of the connection", self.socket.next())
            .await
            .is_some_and(|message| message.is_ok())
        {}
        (code, before)
    }

    /// Says goodbye and waits until the broker has hung up.
    pub(crate) async fn close(mut self) {
        within("room to send", self.socket.close(None))
            .await
            .expect("the connection is open");
        while within("the broker's goodbye", self.socket.next())
            .await
            .is_some_and(|message| message.is_ok())
        {}
    }

    /// Sends a command and takes the next message for its answer: for a client with no events under way.
    pub(crate) async fn ask(&mut self, command: Value) -> Value {
        self.send(command).await;
        self.recv().await
    }

    /// Like [`Self::ask`], but in the very letters.
    pub(crate) async fn ask_raw(&mut self, text: &str) -> String {
        self.send_text(text).await;
        self.recv_raw().await
    }

    /// Subscribes to live events and gives the ack.
    pub(crate) async fn subscribe(&mut self, topic: &str) -> Value {
        self.subscribe_with(topic, json!({})).await
    }

    /// Subscribes with further fields and gives the ack.
    pub(crate) async fn subscribe_with(&mut self, topic: &str, further: Value) -> Value {
        let mut command = json!({"type": "subscribe", "topic": topic});
        let fields = command.as_object_mut().expect("it is one");
        fields.extend(further.as_object().expect("fields").clone());
        let ack = self.ask(command).await;
        assert_ack(&ack);
        ack
    }

    /// Unsubscribes; gives what came before the ack.
    pub(crate) async fn unsubscribe(&mut self, topic: &str) -> Vec<Value> {
        self.send(json!({"type": "unsubscribe", "topic": topic}))
            .await;
        let mut before = Vec::new();
        loop {
            let message = self.recv().await;
            if message["type"] == "ack" {
                return before;
            }
            before.push(message);
        }
    }

    /// Publishes and gives the ack: for a client with no events under way.
    pub(crate) async fn publish(&mut self, topic: &str, payload: impl Into<Value>) -> Value {
        let ack = parse(&self.ask_raw(&publish(topic, payload)).await);
        assert_ack(&ack);
        ack
    }

    /// Publishes one message for each payload, `window` of them unanswered at a time, and gives the acks.
    pub(crate) async fn publish_all<P: Into<Value>>(
        &mut self,
        topic: &str,
        payloads: impl IntoIterator<Item = P>,
        window: usize,
    ) -> Vec<Value> {
        let mut payloads = payloads.into_iter().peekable();
        let mut acks = Vec::new();
        while payloads.peek().is_some() {
            let batch: Vec<_> = payloads.by_ref().take(window).collect();
            let expected = acks.len() + batch.len();
            self.level().await;
            for payload in batch {
                let message = Message::text(publish(topic, payload));
                self.socket.feed(message).await.expect("the broker reads");
            }
            self.socket.flush().await.expect("the broker reads");
            while acks.len() < expected {
                let ack = self.recv().await;
                assert_ack(&ack);
                acks.push(ack);
            }
        }
        acks
    }

    /// The next message, which must be an event of this topic.
    pub(crate) async fn expect_event(&mut self, topic: &str) -> Value {
        let event = self.recv().await;
        assert_eq!(event["type"], "event", "{event}");
        assert_eq!(event["topic"], topic, "{event}");
        event
    }

    /// The `seq` of each of the next events, up to and with `last`.
    pub(crate) async fn expect_seqs_to(&mut self, topic: &str, last: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last() != Some(&last) {
            seqs.push(number(&self.expect_event(topic).await, "seq"));
        }
        seqs
    }

    /// The next message, which must be an error with this code; gives its text.
    pub(crate) async fn expect_error(&mut self, code: &str) -> String {
        let error = self.recv().await;
        assert_eq!(error["type"], "error", "{error}");
        assert_eq!(error["error"]["code"], code, "{error}");
        let text = error["error"]["message"].as_str();
        text.unwrap_or_else(|| panic!("no text in {error}"))
            .to_owned()
    }

    /// Sends something that must fail with this code, and shows that the connection lives on.
    pub(crate) async fn expect_refusal(&mut self, text: &str, code: &str) -> String {
        self.send_text(text).await;
        let explanation = self.expect_error(code).await;
        let pong = self.ask(json!({"type": "ping"})).await;
        assert_eq!(pong["type"], "pong", "after {text}");
        explanation
    }

    /// All that was already under way to this client. A pong may overtake an event that waits beside it, but three
    /// round trips, one after the other, leave nothing behind.
    pub(crate) async fn settle(&mut self) -> Vec<Value> {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let request = message_id();
            self.send(json!({"type": "ping", "request_id": request}))
                .await;
            loop {
                let message = self.recv().await;
                if message["type"] == "pong" && message["request_id"] == request.as_str() {
                    break;
                }
                seen.push(message);
            }
        }
        seen
    }
}

/// The text of a `publish`.
pub(crate) fn publish(topic: &str, payload: impl Into<Value>) -> String {
    publish_text(topic, &payload.into().to_string())
}

/// Fails unless it is an ack.
pub(crate) fn assert_ack(message: &Value) {
    assert_eq!(message["type"], "ack", "{message}");
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
