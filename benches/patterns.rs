//! What does a pattern cost one shard where there are 100,000 topics and 1,000 patterns: to subscribe to one that means
//! 100 of them, to create a topic that one of them means, and one that none does?

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use shardcast::broker::inbox::{Bell, Inbox};
use shardcast::broker::request::{Leaving, Past, PatternRequest, Request, Wish};
use shardcast::broker::shard::{Shard, ShardLimits};
use shardcast::broker::{ConnectionId, Shared};
use shardcast::pattern::Pattern;
use shardcast::protocol::time::Timestamp;
use tokio::sync::oneshot;

const TOPICS: usize = 100_000;
const PATTERNS: usize = 1000;

/// A shard with the topics `t.N.M`, N of as many as there are patterns.
struct Rig {
    shard: Shard,
    inbox: Arc<Inbox>,
    turn_longest: Duration,
}

impl Rig {
    fn new() -> Self {
        let inbox = Arc::new(Inbox::new(1 << 16, Arc::new(Bell::default())));
        let limits = ShardLimits {
            history_events_max: 100,
            history_bytes_max: usize::MAX,
            run_events_max: 32,
            turn_topic_events_max: 50,
            turn_events_max: 1024,
            turn_bytes_max: 512 * 1024,
            turn_requests_max: 1024,
            topics_max: usize::MAX,
            auto_create: false,
        };
        let shard = Shard::new(0, 1, Arc::clone(&inbox), limits, Shared::default());
        let mut rig = Self {
            shard,
            inbox,
            turn_longest: Duration::ZERO,
        };
        for number in 0..TOPICS {
            rig.create(format!("t.{}.{number}", number % PATTERNS));
        }
        rig
    }

    fn create(&mut self, name: String) {
        let (reply, _) = oneshot::channel();
        let name = name.into();
        self.ask(Request::Create { name, reply });
    }

    fn delete(&mut self, name: String) {
        let (reply, _) = oneshot::channel();
        let name = name.into();
        self.ask(Request::Delete { name, reply });
    }

    fn wish(&mut self, number: usize, pattern: &str, wish: Wish) {
        let slot = u32::try_from(number).expect("few");
        self.ask(Request::Pattern(Box::new(PatternRequest {
            subscriber: ConnectionId::new(0, slot, 1),
            pattern: Arc::new(Pattern::parse(pattern).expect("a pattern")),
            wish,
        })));
    }

    fn join(&mut self, number: usize, pattern: &str) {
        let wish = Wish::Join {
            past: Past::None,
            wants_positions: true,
        };
        self.wish(number, pattern, wish);
    }

    /// Hands a request in, and turns until nothing is left to do.
    fn ask(&mut self, request: Request) {
        self.inbox.push(request).expect("there is room");
        while self.shard.has_work() {
            let began = Instant::now();
            let ts = Timestamp::from_unix_ms(0);
            self.shard.turn(ts, &mut |_, delivery| {
                black_box(delivery.items.len());
            });
            self.turn_longest = self.turn_longest.max(began.elapsed());
        }
    }
}

#[expect(clippy::print_stdout, reason = "criterion has no place for a maximum")]
fn patterns(criterion: &mut Criterion) {
    let mut rig = Rig::new();
    let mut group = criterion.benchmark_group("patterns");
    let mut created = 0;
    group.bench_function("create a topic, no patterns", |bencher| {
        bencher.iter(|| {
            created += 1;
            rig.create(format!("new.{created}"));
            rig.delete(format!("new.{created}"));
        });
    });
    for number in 0..PATTERNS {
        rig.join(number, &format!("t.{number}.*"));
    }
    group.bench_function("create a topic that none means", |bencher| {
        bencher.iter(|| {
            created += 1;
            rig.create(format!("new.{created}"));
            rig.delete(format!("new.{created}"));
        });
    });
    group.bench_function("create a topic that one means", |bencher| {
        bencher.iter(|| {
            created += 1;
            rig.create(format!("t.7.new{created}"));
            rig.delete(format!("t.7.new{created}"));
        });
    });
    for (name, pattern) in [
        ("subscribe and leave: 100 topics that begin alike", "t.7.*"),
        ("subscribe and leave: 1 topic that ends so", "*.*.77777"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                rig.join(PATTERNS, pattern);
                rig.wish(PATTERNS, pattern, Wish::Leave(Leaving::Asked));
            });
        });
    }
    rig.turn_longest = Duration::ZERO;
    let began = Instant::now();
    rig.join(PATTERNS, ">");
    let (took, longest) = (began.elapsed(), rig.turn_longest);
    println!("subscribe to all {TOPICS}: {took:?}, no turn longer than {longest:?}");
    for number in 0..PATTERNS {
        rig.join(number, &format!("*.*.x{number}"));
    }
    group.bench_function(
        "create a topic, held against 1,000 that mean it not",
        |bencher| {
            bencher.iter(|| {
                created += 1;
                rig.create(format!("new.{created}"));
                rig.delete(format!("new.{created}"));
            });
        },
    );
    group.finish();
}

criterion_group!(benches, patterns);
criterion_main!(benches);
