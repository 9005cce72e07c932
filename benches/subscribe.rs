//! How long do 10,000 subscribes to one topic take, and the first event for all, at once and in turns of 10?
#![allow(missing_docs, reason = "criterion makes the public items")]

mod support;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use support::Rig;

const SUBSCRIBERS: usize = 10_000;

fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscribe");
    group.sample_size(10);
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    for (name, at_once) in [("at_once", SUBSCRIBERS), ("in_turns_of_10", 10)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || Rig::new(0, 128),
                |rig| {
                    let mut acks = 0;
                    for _ in 0..SUBSCRIBERS / at_once {
                        acks += rig.subscribe(at_once);
                    }
                    assert_eq!(acks, SUBSCRIBERS);
                    rig.publish(1);
                    assert_eq!(rig.drain(), SUBSCRIBERS);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, subscribe);
criterion_main!(benches);
