//! Is the command parser (`serde_json` with raw spans) faster on a publish than `simd-json`?
//!
//! `simd-json` changes its input and keeps no spans of it, so a broker on it would copy each message first
//! (counted here) and still have to find the payload's raw bytes and check the fields (not counted): its
//! figures are a lower bound. Its buffers are reused, which is the best that it can do.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast::protocol::command::{self, Command};

const PAYLOAD_DEPTH_MAX: usize = 64;

fn parse(criterion: &mut Criterion) {
    for (spelling, note) in [
        ("plain", "shipped today, on time and in one piece"),
        (
            "escaped",
            r#"\nexp\u00e9di\u00e9\t\"aujourd'hui\"\n\u00e0 l'heure\n"#,
        ),
    ] {
        let mut group = criterion.benchmark_group(format!("parse_publish/{spelling}"));
        for payload_bytes in [128, 1024, 4096] {
            let payload = payload(payload_bytes, note);
            let text = publish(&payload);
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new("command", payload_bytes), |bencher| {
                bencher.iter(|| assert_eq!(payload_len(black_box(&text)), payload.len()));
            });
            group.bench_function(BenchmarkId::new("simd_tape", payload_bytes), |bencher| {
                let mut copy = Vec::new();
                let mut buffers = simd_json::Buffers::new(text.len());
                bencher.iter(|| {
                    copy.clear();
                    copy.extend_from_slice(black_box(text.as_bytes()));
                    let tape = simd_json::to_tape_with_buffers(&mut copy, &mut buffers);
                    assert!(tape.expect("the command is valid JSON").0.len() > 10);
                });
            });
        }
        group.finish();
    }
}

fn payload_len(text: &str) -> usize {
    match command::parse(text, PAYLOAD_DEPTH_MAX) {
        Ok(Command::Publish(publish)) => publish.payload.len(),
        other => unreachable!("{other:?}"),
    }
}

/// A list of orders, padded to exactly `bytes`.
fn payload(bytes: usize, note: &str) -> String {
    let mut payload = String::from(r#"{"orders":["#);
    for number in 0.. {
        let order = format!(
            r#"{{"n":{number},"price":{}.25,"paid":true,"note":"{note}"}},"#,
            number * 7
        );
        if payload.len() + order.len() + r#"0],"pad":""}"#.len() > bytes {
            break;
        }
        payload += &order;
    }
    payload += r#"0],"pad":""#;
    let pad = bytes - payload.len() - 2;
    write!(payload, "{}\"}}", "x".repeat(pad)).expect("a String takes all text");
    payload
}

fn publish(payload: &str) -> String {
    format!(
        r#"{{"type":"publish","topic":"orders","message":{{"id":"550e8400-e29b-41d4-a716-446655440000","payload":{payload}}},"request_id":"r-1"}}"#
    )
}

criterion_group!(benches, parse);
criterion_main!(benches);
