//! How many instructions does each step of a message take? Run under callgrind by `.ci/instructions`.
//!
//! `instructions STEP TIMES` does one step so often; without arguments each step is done once. The
//! script runs each step with two counts and takes the difference, so that the start does not
//! count.
#![allow(missing_docs, reason = "a bench has no public items")]

mod support;

use std::hint::black_box;

use shardcast::protocol::command;
use shardcast::protocol::time::Timestamp;
use shardcast::protocol::websocket::decoder::Decoder;
use shardcast::protocol::websocket::frame::EventTemplate;
use support::{BATCH, Rig};

const ID: &str = "550e8400-e29b-41d4-a716-446655440000";
/// Its name, and what does it so often.
type Step = (&'static str, fn(usize));

const STEPS: [Step; 5] = [
    ("decode_290_bytes", decode),
    ("parse_128_bytes", parse),
    ("encode_128_bytes", encode),
    ("publish_1_to_100_rings", publish_one),
    ("publish_32_to_100_rings", publish_batch),
];

fn payload() -> String {
    format!("\"{}\"", "x".repeat(126))
}

fn text() -> String {
    let payload = payload();
    format!(
        r#"{{"type":"publish","topic":"orders","message":{{"id":"{ID}","payload":{payload}}},"request_id":"r-1"}}"#
    )
}

fn decode(times: usize) {
    let mut frame = vec![0x81, 0xFE, 1, 34, 0, 0, 0, 0];
    frame.extend([b'x'; 290]);
    let mut decoder = Decoder::new();
    for _ in 0..times {
        // The mask is zero, so that unmasking leaves the frame as it was.
        let step = decoder
            .decode(black_box(&mut frame), 65_536)
            .expect("a valid frame");
        assert!(step.message.is_some());
    }
}

fn parse(times: usize) {
    let text = text();
    for _ in 0..times {
        assert!(command::parse(black_box(&text), 128).is_ok());
    }
}

fn encode(times: usize) {
    let (template, payload) = (EventTemplate::new("orders"), payload());
    let ts = Timestamp::from_unix_ms(1_756_116_000_000);
    let mut out = Vec::with_capacity(1024);
    for _ in 0..times {
        out.clear();
        template.encode(&mut out, black_box(ID), black_box(&payload), ts, 123_456);
        black_box(&out);
    }
}

fn publish_one(times: usize) {
    publish(times, 1);
}

fn publish_batch(times: usize) {
    publish(times, BATCH);
}

/// From the inbox to 100 emptied rings.
fn publish(times: usize, batch: usize) {
    let mut rig = Rig::new(100, 128);
    for _ in 0..times {
        rig.publish(batch);
        assert_eq!(rig.drain(), batch * 100);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let step = arguments.next().unwrap_or_default();
    let times = arguments.next().and_then(|times| times.parse().ok());
    match (STEPS.iter().find(|(name, _)| *name == step), times) {
        (Some((_, run)), Some(times)) => run(times),
        _ => STEPS.iter().for_each(|(_, run)| run(1)),
    }
}
