//! What does one delivery cost in the broker, from the inbox to the emptied ring, for 1 to 1,000 subscribers?
#![allow(missing_docs, reason = "criterion makes the public items")]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{BATCH, Rig};

fn fanout(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout");
    for (name, batch) in [("batch_of_32", BATCH), ("one_message", 1)] {
        for subscribers in [1, 10, 100, 1000] {
            let mut rig = Rig::new(subscribers, 128);
            group.throughput(Throughput::Elements((batch * subscribers) as u64));
            group.bench_function(BenchmarkId::new(name, subscribers), |bencher| {
                bencher.iter(|| {
                    rig.publish(batch);
                    assert_eq!(rig.drain(), batch * subscribers);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fanout);
criterion_main!(benches);
