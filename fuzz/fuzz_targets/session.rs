//! A WebSocket of the real server: texts, or raw bytes behind the handshake. What comes back are
//! whole frames without a mask, and the next client is served.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use shardcast_fuzz::{ask, connect, is_healthy};

#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Text(&'a str),
    Raw(&'a [u8]),
    Subscribe(u8, bool),
    Publish(u8),
    Ping,
}

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A text frame with a mask of zeros.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0x81);
    match u16::try_from(text.len()) {
        Ok(few @ ..126) => out.push(0x80 | u8::try_from(few).expect("it is below 126")),
        Ok(more) => {
            out.push(0x80 | 126);
            out.extend(more.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend((text.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(text.as_bytes());
}

fn send(out: &mut Vec<u8>, part: &Part<'_>) {
    let id = "550e8400-e29b-41d4-a716-446655440000";
    match part {
        Part::Text(command) => text(out, command),
        Part::Raw(bytes) => out.extend(*bytes),
        Part::Subscribe(topic, all) => {
            let last = if *all { 10 } else { 0 };
            let command = format!(
                r#"{{"type":"subscribe","topic":"t{}","last_n":{last}}}"#,
                topic % 4
            );
            text(out, &command);
        }
        Part::Publish(topic) => {
            let message = format!(r#"{{"id":"{id}","payload":[1,{{"a":null}}]}}"#);
            let command = format!(
                r#"{{"type":"publish","topic":"t{}","message":{message}}}"#,
                topic % 4
            );
            text(out, &command);
        }
        Part::Ping => text(out, r#"{"type":"ping","request_id":"p"}"#),
    }
}

/// Whether `bytes` are whole frames as a server sends them.
fn check_frames(mut bytes: &[u8]) {
    while let [first, second, rest @ ..] = bytes {
        assert!(matches!(first, 0x81 | 0x88 | 0x89 | 0x8A), "{first:x}");
        let (length, rest) = match second {
            126 => {
                let (length, rest) = rest.split_first_chunk().expect("a length");
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => panic!("nothing so long was sent"),
            few => (usize::from(*few), rest),
        };
        let (payload, rest) = rest.split_at(length);
        if *first == 0x81 {
            serde_json::from_slice::<IgnoredAny>(payload).expect("texts are JSON");
        }
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame");
}

fuzz_target!(|parts: Vec<Part<'_>>| {
    let mut bytes = HANDSHAKE.as_bytes().to_vec();
    parts.iter().for_each(|part| send(&mut bytes, part));
    let answer = ask(connect(), &bytes);
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    assert!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        answer.escape_ascii()
    );
    check_frames(&answer[end + 4..]);
    assert!(is_healthy());
});
