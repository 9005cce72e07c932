//! A server that says what a test wants to hear, made with tungstenite: neither our decoder nor fastwebsockets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use shardcast_client::tls::Trust;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::config::client::ClientSettings;

/// What the server does about a command.
pub(super) enum Answer {
    Text(String),
    Ping(&'static str),
    Close(u16, &'static str),
    /// No close frame, no farewell.
    Vanish,
}

type Log<T> = Arc<Mutex<Vec<T>>>;

/// A listener that serves until the test's runtime ends.
pub(super) struct TestServer {
    url: String,
    commands: Log<Value>,
    pongs: Log<String>,
    requests: Log<(String, Option<String>)>,
}

impl TestServer {
    /// Serves every connection with `answer`, which says what each command is answered with.
    pub(super) async fn start(
        answer: impl FnMut(&Value) -> Vec<Answer> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("ws://{}/ws", listener.local_addr().expect("bound"));
        let server = Self {
            url,
            commands: Log::default(),
            pongs: Log::default(),
            requests: Log::default(),
        };
        let (commands, pongs, requests) = (
            server.commands.clone(),
            server.pongs.clone(),
            server.requests.clone(),
        );
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(
                    socket,
                    answer.clone(),
                    commands.clone(),
                    pongs.clone(),
                    requests.clone(),
                ));
            }
        });
        server
    }

    /// How a client reaches this server.
    pub(super) fn settings(&self) -> ClientSettings {
        ClientSettings {
            url: self.url.clone(),
            client_id: None,
            api_key: None,
            trust: Trust::default(),
            silence_max: Duration::from_secs(90),
        }
    }

    /// Every command so far.
    pub(super) fn commands(&self) -> Vec<Value> {
        all(&self.commands)
    }

    /// The payload of every pong so far.
    pub(super) fn pongs(&self) -> Vec<String> {
        all(&self.pongs)
    }

    /// Target and API key of every upgrade so far.
    pub(super) fn requests(&self) -> Vec<(String, Option<String>)> {
        all(&self.requests)
    }
}

/// Plays the contract for any topic but `missing`: publishers get acks, and their own events where subscribed.
pub(super) fn contract() -> impl FnMut(&Value) -> Vec<Answer> + Clone {
    let (mut seq, mut subscribed) = (0, false);
    move |command| {
        let (id, topic) = (&command["request_id"], &command["topic"]);
        let error = |code: &str| {
            format!(
                r#"{{"type":"error","request_id":{id},"error":{{"code":"{code}","message":"about {code}"}},"ts":"x"}}"#
            )
        };
        let ack = |more: &str| {
            format!(
                r#"{{"type":"ack","request_id":{id},"topic":{topic},"status":"ok","ts":"x"{more}}}"#
            )
        };
        let texts = match command["type"].as_str() {
            _ if topic == "missing" => vec![error("TOPIC_NOT_FOUND")],
            Some("ping") => vec![format!(r#"{{"type":"pong","request_id":{id},"ts":"x"}}"#)],
            Some("subscribe") => {
                subscribed = true;
                vec![ack(&format!(r#","epoch":"9f","seq":{seq}"#))]
            }
            Some("unsubscribe") => {
                subscribed = false;
                vec![ack("")]
            }
            Some("publish") => {
                seq += 1;
                let message = &command["message"];
                let event = format!(
                    r#"{{"type":"event","topic":{topic},"message":{message},"ts":"x","seq":{seq}}}"#
                );
                let ack = ack(&format!(
                    r#","seq":{seq},"matched":{}"#,
                    u8::from(subscribed)
                ));
                [ack]
                    .into_iter()
                    .chain(subscribed.then_some(event))
                    .collect()
            }
            _ => vec![error("BAD_REQUEST")],
        };
        texts.into_iter().map(Answer::Text).collect()
    }
}

#[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
async fn serve(
    socket: TcpStream,
    mut answer: impl FnMut(&Value) -> Vec<Answer>,
    commands: Log<Value>,
    pongs: Log<String>,
    requests: Log<(String, Option<String>)>,
) {
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let key = request
            .headers()
            .get("X-API-Key")
            .map(|key| key.to_str().expect("text").to_owned());
        push(&requests, (request.uri().to_string(), key));
        Ok(response)
    };
    let Ok(socket) = accept_hdr_async(socket, note).await else {
        return;
    };
    let (mut sink, mut stream) = socket.split();
    while let Some(Ok(message)) = stream.next().await {
        let text = match message {
            Message::Text(text) => text,
            Message::Pong(payload) => {
                push(&pongs, String::from_utf8_lossy(&payload).into_owned());
                continue;
            }
            _ => continue,
        };
        let command: Value = serde_json::from_str(&text).expect("clients send JSON");
        push(&commands, command.clone());
        for answer in answer(&command) {
            let message = match answer {
                Answer::Text(text) => Message::text(text),
                Answer::Vanish => return,
                Answer::Ping(payload) => Message::Ping(payload.into()),
                Answer::Close(code, reason) => Message::Close(Some(CloseFrame {
                    code: code.into(),
                    reason: reason.into(),
                })),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
    }
}

fn push<T>(log: &Log<T>, entry: T) {
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(entry);
}

fn all<T: Clone>(log: &Log<T>) -> Vec<T> {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
