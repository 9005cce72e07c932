//! What a client makes of what a broker says, on a connection that the test plays: the sessions that all clients
//! share. `tests/contract/README.md` says how they are read.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use shardcast_client::{
    Client, ClientState, Item, Limits, Options, Position, Publish, Reason, Secret, Since,
    Subscribe, SubscriptionState,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::harness::{PATIENCE, quick, until, within};

const SESSIONS: &str = include_str!("../../../../tests/contract/sessions.json");

/// For what must not come, and for what was sent before a cut to arrive.
const QUIET: Duration = Duration::from_millis(50);

type Told = Arc<Mutex<Vec<Value>>>;

/// A server that does what the steps say, and keeps what the caller is told.
struct Stage {
    client: Client,
    may_open: Arc<Semaphore>,
    opened: mpsc::UnboundedReceiver<WebSocketStream<TcpStream>>,
    socket: Option<WebSocketStream<TcpStream>>,
    request_ids: Vec<String>,
    told: Told,
}

impl Stage {
    async fn new(options: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let may_open = Arc::new(Semaphore::new(0));
        let (open, opened) = mpsc::unbounded_channel();
        let opening = Arc::clone(&may_open);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                opening.acquire().await.expect("it stays").forget();
                let socket = accept_async(socket).await.expect("a client");
                open.send(socket).ok();
            }
        });
        let client = Client::connect(Options {
            key: options["key"].as_str().map(Secret::from),
            limits: Limits {
                open_timeout: Some(Duration::ZERO),
                connect_timeout: PATIENCE,
                heartbeat: PATIENCE,
                close_timeout: QUIET,
                ..quick()
            },
            ..Options::new(format!("ws://127.0.0.1:{port}/ws"))
        });
        let client = client.await.expect("it does not wait");
        let told = Told::default();
        let (telling, mut states) = (Arc::clone(&told), client.state());
        tokio::spawn(async move {
            let failed = states.wait_for(|state| *state == ClientState::Failed).await;
            if failed.is_ok() {
                tell(&telling, json!({"state": "failed"}));
            }
        });
        Self {
            client,
            may_open,
            opened,
            socket: None,
            request_ids: Vec::new(),
            told,
        }
    }

    async fn play(&mut self, name: &Value, kind: &str, value: &Value) {
        let text = value.as_str().unwrap_or_default();
        match kind {
            "call" => {
                self.call(value);
                // What follows may be another call, and frames go out in the order of the calls.
                tokio::task::yield_now().await;
            }
            "open" => {
                self.may_open.add_permits(1);
                self.socket = within("a connection", self.opened.recv()).await;
            }
            "client" => {
                let heard = within("a frame", self.socket().next()).await;
                let heard = heard.expect("no end").expect("a frame");
                let heard = heard.into_text().expect("a text");
                let (frame, request_id) = heard.rsplit_once(r#","request_id":""#).expect(&heard);
                let request_id = request_id.strip_suffix(r#""}"#).expect("the last key");
                self.request_ids.push(request_id.to_owned());
                assert_eq!(format!("{frame}}}"), text, "{name}");
            }
            "server" => {
                let mut ids = self.request_ids.iter().rev();
                let mut text = text.to_owned();
                for mark in [r#""?""#, r#""?2""#] {
                    if let Some(id) = ids.next() {
                        text = text.replace(mark, &format!("\"{id}\""));
                    }
                }
                self.socket()
                    .send(Message::text(text))
                    .await
                    .expect("it is there");
            }
            "cut" => {
                // A reset may overtake what was sent before it, and the steps mean it to have arrived.
                tokio::time::sleep(QUIET).await;
                self.socket = None;
            }
            "close" => {
                let code = value.as_u64().and_then(|code| u16::try_from(code).ok());
                let frame = CloseFrame {
                    code: code.expect("a code").into(),
                    reason: "".into(),
                };
                self.socket().close(Some(frame)).await.expect("it is there");
                while let Some(Ok(_)) = within("the end", self.socket().next()).await {}
            }
            "tells" => self.check(name, value.as_array().expect("a list")).await,
            other => panic!("unknown step {other}"),
        }
    }

    fn socket(&mut self) -> &mut WebSocketStream<TcpStream> {
        self.socket.as_mut().expect("it was opened")
    }

    async fn check(&mut self, name: &Value, wanted: &[Value]) {
        let told = Arc::clone(&self.told);
        until("what is to be told", async || {
            told.lock().expect("nobody panics in it").len() >= wanted.len()
        })
        .await;
        tokio::time::sleep(QUIET).await;
        let told = std::mem::take(&mut *told.lock().expect("nobody panics in it"));
        assert_eq!(told.len(), wanted.len(), "{name}: {told:?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert_eq!(only(told, wanted), *wanted, "{name}");
        }
    }

    fn call(&self, call: &Value) {
        let (client, told) = (self.client.clone(), Arc::clone(&self.told));
        if let Some(topic) = call["subscribe"].as_str() {
            let subscription = client.subscribe(topic, wish(call)).expect("a good call");
            tokio::spawn(consume(subscription, told));
            return;
        }
        let topic = call["publish"].as_str().expect("a publish").to_owned();
        let how = Publish {
            id: call["id"].as_str().map(|id| id.parse().expect("a UUID")),
            once: call["once"].as_bool().expect("one of two"),
        };
        let payload = call["payload"].clone();
        tokio::spawn(async move {
            let told_of = match client.publish(&topic, &payload, how).await {
                Ok(receipt) => json!({"receipt": {
                    "id": receipt.id, "seq": receipt.seq, "matched": receipt.matched,
                    "duplicate": receipt.duplicate,
                }}),
                Err(error) => json!({"refused": {"code": error.code}}),
            };
            tell(&told, told_of);
        });
    }
}

fn tell(told: &Told, what: Value) {
    told.lock().expect("nobody panics in it").push(what);
}

fn wish(call: &Value) -> Subscribe {
    let position = |value: &Value| Position {
        epoch: value["epoch"].as_str().expect("text").into(),
        seq: value["seq"].as_u64().expect("a number"),
    };
    let since = call["since"].as_object().map(|since| {
        if call["since"]["epoch"].is_string() {
            return Since::Topic(position(&call["since"]));
        }
        let all = since
            .iter()
            .map(|(topic, at)| (topic.as_str().into(), position(at)));
        Since::Topics(all.collect::<BTreeMap<_, _>>())
    });
    let rate = call["maxRate"]
        .as_u64()
        .and_then(|rate| u16::try_from(rate).ok());
    Subscribe {
        last: call["last"].as_u64().unwrap_or_default(),
        since,
        latest: call["policy"] == "latest",
        max_rate: rate.and_then(NonZeroU16::new),
        ..Subscribe::default()
    }
}

async fn consume(mut subscription: shardcast_client::Subscription, told: Told) {
    let (mut states, telling) = (subscription.state(), Arc::clone(&told));
    let topic = subscription.topic().to_owned();
    tokio::spawn(async move {
        while states.changed().await.is_ok() {
            if *states.borrow_and_update() == SubscriptionState::Waiting {
                tell(&telling, json!({"waiting": {"topic": topic}}));
            }
        }
    });
    while let Some(item) = subscription.next().await {
        let what = match item {
            Ok(Item::Event(event)) => json!({"event": {
                "topic": &*event.topic, "epoch": &*event.epoch, "seq": event.seq,
                "payload": event.json::<Value>().expect("JSON"), "skipped": event.skipped,
            }}),
            Ok(Item::Gap(gap)) => json!({"gap": {
                "topic": &*gap.topic, "epoch": &*gap.epoch, "from": gap.first, "to": gap.last,
                "lost": gap.count, "reason": match gap.reason {
                    Reason::Slow => "slow",
                    Reason::History => "history",
                    Reason::Epoch => "epoch",
                },
            }}),
            Err(error) => json!({"refused": {"code": error.code}}),
        };
        tell(&told, what);
    }
}

/// `told`, without the keys that nobody has asked about.
fn only(told: &Value, wanted: &Value) -> Value {
    match (told, wanted) {
        (Value::Object(told), Value::Object(wanted)) => {
            let told = told
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), only(value, wanted.get(key)?))));
            Value::Object(told.collect())
        }
        _ => told.clone(),
    }
}

#[tokio::test]
async fn sessions_go_as_they_go_everywhere() {
    let sessions: Value = serde_json::from_str(SESSIONS).expect("JSON");
    let sessions = sessions["sessions"].as_array().expect("a list");
    assert!(sessions.len() > 30, "{}", sessions.len());
    for session in sessions {
        let name = &session["name"];
        let mut stage = Stage::new(&session["options"]).await;
        for step in session["steps"].as_array().expect("a list") {
            let mut step = step.as_object().expect("an object").iter();
            let (kind, value) = step.next().expect("one key");
            stage.play(name, kind, value).await;
        }
        stage.client.close().await;
    }
}
