//! A shard with one topic and its subscribers, in memory: what several benches measure.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use shardcast::broker::inbox::{Bell, Inbox};
use shardcast::broker::outbox::{
    Address, ConnectionId, OutboxReceiver, OutboxSender, Taken, outbox,
};
use shardcast::broker::request::{Publishes, Replay, Request};
use shardcast::broker::shard::{Shard, ShardLimits};
use shardcast::metrics::ShardCounters;
use shardcast::protocol::frame::Timestamp;

/// Messages that are published together: what a client with a window of 32 leads to.
pub(crate) const BATCH: usize = 32;

const TOPIC: &str = "orders";
const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A shard on its own, and the ends of its subscribers.
pub(crate) struct Rig {
    shard: Shard,
    inbox: Arc<Inbox>,
    publisher: OutboxSender,
    subscribers: Vec<OutboxReceiver>,
    payload: String,
    ts: Timestamp,
}

fn connection(id: u64) -> (OutboxSender, OutboxReceiver) {
    outbox(ConnectionId(id), Address { home: 0, slot: 0 }, 100, false)
}

impl Rig {
    /// `subscribers` rings of 100 events and payloads of `payload_bytes`.
    pub(crate) fn new(subscribers: usize, payload_bytes: usize) -> Self {
        let inbox = Arc::new(Inbox::new(65_536, Arc::new(Bell::default())));
        let limits = ShardLimits {
            history_events_max: 100,
            run_events_max: BATCH,
            turn_topic_events_max: 50,
            turn_events_max: 1024,
            turn_requests_max: 65_536,
            topics_max: 10,
            auto_create: true,
        };
        let shard = Shard::new(
            0,
            1,
            Arc::clone(&inbox),
            limits,
            Arc::new(ShardCounters::default()),
            Arc::new(AtomicUsize::new(0)),
        );
        let mut rig = Self {
            shard,
            inbox,
            publisher: connection(0).0,
            subscribers: Vec::new(),
            payload: format!("\"{}\"", "x".repeat(payload_bytes.saturating_sub(2))),
            ts: Timestamp::from_unix_ms(1_756_116_000_000),
        };
        rig.subscribe(subscribers);
        rig
    }

    /// Adds `count` subscribers in one turn. Returns how many acks came.
    pub(crate) fn subscribe(&mut self, count: usize) -> usize {
        for _ in 0..count {
            let (sender, receiver) = connection(self.subscribers.len() as u64 + 1);
            self.subscribers.push(receiver);
            let request = Request::Subscribe {
                subscriber: sender,
                topic: TOPIC.into(),
                replay: Replay::None,
                request_id: None,
            };
            self.inbox.push(request).expect("the inbox has room");
        }
        self.turn()
    }

    /// Publishes `messages`, and has the shard accept them. Returns the replies.
    pub(crate) fn publish(&mut self, messages: usize) -> usize {
        let mut publishes = Publishes::new(self.publisher.clone());
        for _ in 0..messages {
            publishes.push(TOPIC, ID, &self.payload, "\"r-1\"", true);
        }
        self.inbox
            .push(Request::Publish(publishes))
            .expect("the inbox has room");
        self.turn()
    }

    fn turn(&mut self) -> usize {
        let mut replies = 0;
        self.shard.turn(self.ts, &mut |_, delivery| {
            replies += delivery.replies.len();
            black_box(&delivery);
        });
        replies
    }

    /// Empties every ring, as the flusher does. Returns the events taken.
    pub(crate) fn drain(&self) -> usize {
        let mut events = 0;
        for subscriber in &self.subscribers {
            subscriber.unmark();
            while let Some(taken) = subscriber.take() {
                let Taken { run, skip, .. } = taken;
                events += run.events() - skip;
                black_box(run.frames());
            }
        }
        events
    }
}
