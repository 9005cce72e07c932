//! What does a push on a ring cost: taken at once, full and dropping, and with two threads pushing on one ring?
#![allow(missing_docs, reason = "criterion makes the public items")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shardcast::broker::outbox::{
    Address, ConnectionId, OutboxReceiver, OutboxSender, Pushed, Taken, outbox,
};
use shardcast::broker::run::{Run, Stamp};

const PUSHES: usize = 1000;

fn ring() -> (OutboxSender, OutboxReceiver) {
    outbox(ConnectionId(1), Address { home: 0, slot: 0 }, 100, false)
}

fn run() -> Arc<Run> {
    let stamp = Stamp {
        shard: 0,
        serial: 1,
    };
    Arc::new(Run::new(vec![b'x'; 290], &[290], Arc::default(), stamp))
}

fn lost(receiver: &OutboxReceiver) -> (usize, u64) {
    let (mut got, mut lost) = (0, receiver.take_lost());
    while let Some(taken) = receiver.take() {
        let Taken {
            run,
            skip,
            lost: more,
        } = taken;
        got += run.events() - skip;
        lost += more;
    }
    (got, lost)
}

fn push(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(PUSHES as u64));
    let event = run();

    let (sender, receiver) = ring();
    group.bench_function("push_and_take", |bencher| {
        bencher.iter(|| {
            for _ in 0..PUSHES {
                assert!(matches!(
                    sender.push(&event),
                    Pushed::Queued { dropped: 0, .. }
                ));
                assert!(receiver.take().is_some());
            }
        });
    });

    let (sender, receiver) = ring();
    group.bench_function("push_into_a_full_ring", |bencher| {
        bencher.iter(|| {
            for _ in 0..PUSHES {
                sender.push(&event);
            }
            let (got, lost) = lost(&receiver);
            assert_eq!(got as u64 + lost, PUSHES as u64);
        });
    });

    let (sender, receiver) = ring();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = sender.clone();
        let (event, stop) = (&event, &stop);
        let rival = scope.spawn(move || {
            let mut pushed = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                other.push(event);
                pushed += 1;
            }
            pushed
        });
        let mut pushed = 0_u64;
        group.bench_function("push_into_a_full_ring_against_a_rival", |bencher| {
            bencher.iter(|| {
                for _ in 0..PUSHES {
                    sender.push(event);
                }
                pushed += PUSHES as u64;
            });
        });
        stop.store(true, Ordering::Relaxed);
        pushed += rival.join().expect("the rival does not panic");
        let (got, lost) = lost(&receiver);
        assert_eq!(got as u64 + lost, pushed);
    });
    group.finish();
}

criterion_group!(benches, push);
criterion_main!(benches);
