//! A small server of the contract that tells one lie, if it is asked to.
//!
//! Threads and blocking sockets, a lock around everything: slow, plain, and not written like any part of the generator. It
//! tells its lie to the first subscriber of a topic, at one message, once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// When the lie is told.
const AT: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    DropSilently,
    DropAndTell,
    DropAndMiscount,
    Repeat,
    Swap,
    Misdeliver,
    Rewrite,
    HangUp,
    CallSlow,
    Remember,
    Pause,
    WrongAccept,
}

#[derive(Default)]
struct Topic {
    seq: u64,
    last: Option<String>,
    subscribers: Vec<(u64, TcpStream)>,
    held_back: Option<String>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    subscribed: u64,
    accepted: u64,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming().flatten()) {
                let state = shared.clone();
                // A connection that breaks ends its thread, and that is all.
                thread::spawn(move || drop(serve(number, stream, &state, lie)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn topics_left(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.topics.len()
    }
}

fn serve(number: u64, stream: TcpStream, state: &Mutex<State>, lie: Lie) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut length, mut upgrade) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let lower = header.trim().to_lowercase();
        upgrade |= lower == "upgrade: websocket";
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().unwrap_or(0);
        }
        if lower.is_empty() {
            break;
        }
    }
    if upgrade {
        return converse(number, reader, stream, state, lie);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (status, answer) = rest(method, path, &body, state);
    let answer = answer.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    )
}

fn rest(method: &str, path: &str, body: &[u8], state: &Mutex<State>) -> (u16, Value) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match (method, path) {
        ("POST", "/topics") => {
            let name = body["name"].as_str().unwrap_or_default().to_owned();
            state.topics.insert(name, Topic::default());
            (201, json!({"status": "created"}))
        }
        ("DELETE", path) => {
            let removed = state.topics.remove(path.trim_start_matches("/topics/"));
            (if removed.is_some() { 200 } else { 404 }, json!({}))
        }
        ("GET", "/health") => (
            200,
            json!({"topics": state.topics.len(), "subscribers": state.subscribed}),
        ),
        ("GET", "/topics") => (200, json!({"topics": []})),
        ("GET", "/stats") => (
            200,
            json!({"topics": {}, "totals": {"accepted": state.accepted}}),
        ),
        _ => (404, json!({})),
    }
}

fn converse(
    number: u64,
    mut reader: BufReader<TcpStream>,
    mut stream: TcpStream,
    state: &Mutex<State>,
    lie: Lie,
) -> std::io::Result<()> {
    // What RFC 6455 answers to the key of its own example, which is the one that the generator sends.
    let accept = if lie == Lie::WrongAccept {
        "nonsense"
    } else {
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    };
    write!(
        stream,
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let mut topics = Vec::new();
    while let Ok(Some(text)) = read_message(&mut reader) {
        let command: Value = serde_json::from_str(&text).unwrap_or_default();
        let name = command["topic"].as_str().unwrap_or_default().to_owned();
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = state.topics.get_mut(&name) else {
            continue;
        };
        if command["type"] == "subscribe" {
            send(
                &mut stream,
                &format!(
                    r#"{{"type":"ack","topic":"{name}","status":"ok","seq":{}}}"#,
                    topic.seq
                ),
            )?;
            if command["last_n"] == 1
                && let Some(last) = &topic.last
            {
                send(&mut stream, last)?;
            }
            topic.subscribers.push((number, stream.try_clone()?));
            state.subscribed += 1;
            topics.push(name);
            continue;
        }
        topic.seq += 1;
        if lie == Lie::Pause && topic.seq == AT {
            thread::sleep(Duration::from_millis(200));
        }
        let message = text
            .split_once(r#""message":"#)
            .map_or("", |(_, rest)| &rest[..rest.len() - 1]);
        let event = |topic_name: &str, seq: u64| {
            format!(
                r#"{{"type":"event","topic":"{topic_name}","message":{message},"ts":"x","seq":{seq}}}"#
            )
        };
        topic.deliver(
            &event(&name, topic.seq),
            &event("elsewhere", topic.seq),
            lie,
        );
        let seq = topic.seq;
        state.accepted += 1;
        send(
            &mut stream,
            &format!(r#"{{"type":"ack","topic":"{name}","status":"ok","seq":{seq},"matched":1}}"#),
        )?;
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    for name in topics {
        if lie != Lie::Remember {
            state.subscribed -= 1;
        }
        if let Some(topic) = state.topics.get_mut(&name) {
            topic.subscribers.retain(|(other, _)| *other != number);
        }
    }
    Ok(())
}

impl Topic {
    fn deliver(&mut self, event: &str, foreign: &str, lie: Lie) {
        self.last = Some(event.to_owned());
        for (index, (_, stream)) in self.subscribers.iter_mut().enumerate() {
            let texts = if index == 0 {
                told(lie, self.seq, event, foreign, &mut self.held_back)
            } else {
                vec![event.to_owned()]
            };
            for text in texts {
                // A subscriber that is gone is taken out by its own thread.
                drop(send(stream, &text));
            }
            if index == 0 && lie == Lie::CallSlow && self.seq == AT {
                // A close frame with 1013, and no reason.
                drop(stream.write_all(&[0x88, 2, 0x03, 0xf5]));
            }
            if index == 0 && lie == Lie::HangUp && self.seq == AT {
                drop(stream.shutdown(std::net::Shutdown::Both));
            }
        }
    }
}

/// What the first subscriber gets instead of the event.
fn told(
    lie: Lie,
    seq: u64,
    event: &str,
    foreign: &str,
    held_back: &mut Option<String>,
) -> Vec<String> {
    let notice = |dropped: u64| {
        format!(
            r#"{{"type":"error","error":{{"code":"SLOW_CONSUMER","message":"x"}},"dropped":{dropped}}}"#
        )
    };
    let event = event.to_owned();
    match (lie, seq) {
        (Lie::DropSilently | Lie::DropAndTell | Lie::DropAndMiscount, AT | 21) => Vec::new(),
        (Lie::DropAndTell, 22) => vec![notice(2), event],
        (Lie::DropAndMiscount, 22) => vec![notice(3), event],
        (Lie::Repeat, AT) => vec![event.clone(), event],
        (Lie::Swap, AT) => {
            *held_back = Some(event);
            Vec::new()
        }
        (Lie::Swap, 21) => vec![event, held_back.take().unwrap_or_default()],
        (Lie::Misdeliver, AT) => vec![foreign.to_owned(), event],
        (Lie::Rewrite, AT) => vec![event.replacen("xx", "x", 1)],
        _ => vec![event],
    }
}

fn send(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let length = u16::try_from(text.len()).expect("short texts only");
    let mut frame = vec![0x81];
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(short),
        _ => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    stream.write_all(&frame)
}

/// `None` for a close frame.
fn read_message(reader: &mut impl Read) -> std::io::Result<Option<String>> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    if head[0] & 0x0f == 8 {
        return Ok(None);
    }
    let mut length = u64::from(head[1] & 0x7f);
    if length == 126 {
        let mut long = [0; 2];
        reader.read_exact(&mut long)?;
        length = u16::from_be_bytes(long).into();
    }
    let mut mask = [0; 4];
    reader.read_exact(&mut mask)?;
    let mut payload = Vec::new();
    reader.take(length).read_to_end(&mut payload)?;
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok(Some(String::from_utf8_lossy(&payload).into_owned()))
}
