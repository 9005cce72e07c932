//! How fast is an accepted message encoded into its event frame, for 128 B, 1 KiB and 4 KiB?
#![allow(missing_docs, reason = "criterion makes the public items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast::protocol::time::Timestamp;
use shardcast::protocol::websocket::frame::EventTemplate;

const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

fn encode(criterion: &mut Criterion) {
    let template = EventTemplate::new("orders");
    let ts = Timestamp::from_unix_ms(1_756_116_000_000);
    let mut group = criterion.benchmark_group("encode");
    for payload_bytes in [128, 1024, 4096] {
        let payload = format!("\"{}\"", "x".repeat(payload_bytes - 2));
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(payload_bytes), |bencher| {
            let mut out = Vec::with_capacity(8192);
            bencher.iter(|| {
                out.clear();
                template.encode(
                    &mut out,
                    black_box(ID),
                    black_box(&payload),
                    ts,
                    black_box(123_456),
                );
                assert_eq!(out.len(), template.encoded_len(ID, &payload, 123_456));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
