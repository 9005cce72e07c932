//! What does a run cost on a ring: taken at once, full and dropping, and one that widens?
#![allow(missing_docs, reason = "criterion makes the public items")]

mod support;

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shardcast::broker::ring::{Next, Ring, RingLimits};
use shardcast::broker::run::Run;
use shardcast::protocol::time::Moment;

const PUSHES: usize = 1000;

const LIMITS: RingLimits = RingLimits {
    events_max: 100,
    bytes_max: 2 << 20,
};

fn run() -> Arc<Run> {
    Arc::new(Run::new(
        vec![b'x'; 290],
        &[290],
        1,
        Moment::default(),
        support::topic(),
    ))
}

/// Events taken off until the ring is empty.
fn drain(ring: &mut Ring) -> usize {
    let mut events = 0;
    while let Next::Events { run, skip, .. } = ring.take() {
        events += run.events() - skip;
    }
    events
}

fn rings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(PUSHES as u64));
    let run = run();
    group.bench_function("push and take", |bencher| {
        let mut ring = Ring::default();
        bencher.iter(|| {
            let taken: usize = (0..PUSHES)
                .map(|_| {
                    ring.push(&run, LIMITS);
                    drain(&mut ring)
                })
                .sum();
            assert_eq!(taken, PUSHES);
        });
    });
    group.bench_function("push to a full one", |bencher| {
        let mut ring = Ring::default();
        (0..LIMITS.events_max).for_each(|_| assert_eq!(ring.push(&run, LIMITS), 0));
        bencher.iter(|| {
            let dropped: u64 = (0..PUSHES).map(|_| ring.push(&run, LIMITS)).sum();
            assert_eq!(dropped, PUSHES as u64);
        });
    });
    group.bench_function("fill a new one and empty it", |bencher| {
        bencher.iter(|| {
            let taken: usize = (0..PUSHES / LIMITS.events_max)
                .map(|_| {
                    let mut ring = Ring::default();
                    for _ in 0..LIMITS.events_max {
                        ring.push(&run, LIMITS);
                    }
                    drain(&mut ring)
                })
                .sum();
            assert_eq!(taken, PUSHES);
        });
    });
    group.finish();
}

criterion_group!(benches, rings);
criterion_main!(benches);
