//! Heads and bodies of REST, through a socket of the real server: each answer is HTTP with a body of
//! JSON or metrics, and the next client is served.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use shardcast_fuzz::{ask, connect, is_healthy};

fuzz_target!(|input: (&[u8], bool)| {
    let (bytes, is_body) = input;
    let request = if is_body {
        let length = bytes.len();
        let head = format!(
            "POST /topics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), bytes].concat()
    } else {
        bytes.to_vec()
    };
    let answer = ask(connect(), &request);
    if !answer.is_empty() {
        assert!(answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
    }
    if is_body {
        let answer = String::from_utf8(answer).expect("answers are UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body is answered");
        let body: Value = serde_json::from_str(body).expect("with JSON");
        let is_refused = !head.starts_with("HTTP/1.1 201");
        assert_eq!(is_refused, body.get("error").is_some(), "{answer}");
        assert!(!head.starts_with("HTTP/1.1 500"), "{answer}");
    }
    assert!(is_healthy());
});
