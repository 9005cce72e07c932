//! A shard with subscribers, without threads or sockets.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use shardcast::broker::delivery::Item;
use shardcast::broker::directory::TopicEntry;
use shardcast::broker::inbox::{Bell, Inbox};
use shardcast::broker::request::{Publishes, Replay, Request};
use shardcast::broker::ring::{Next, Ring, RingLimits};
use shardcast::broker::shard::{Shard, ShardLimits};
use shardcast::broker::{ConnectionId, Shared};
use shardcast::protocol::native;
use shardcast::protocol::policy::Policy;
use shardcast::protocol::time::{Moment, Timestamp};

/// Messages that are published together: what a client with a window of 32 leads to.
pub(crate) const BATCH: usize = 32;

const TOPIC: &str = "orders";
const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

const LIMITS: RingLimits = RingLimits {
    events_max: 100,
    bytes_max: 2 << 20,
};

/// A topic that belongs to nobody.
pub(crate) fn topic() -> Arc<TopicEntry> {
    let mut rig = Rig::new(0, 1);
    rig.publish(1);
    let directory = rig.shared.directory.snapshot();
    Arc::clone(directory.iter().next().expect("it has been made"))
}

/// One topic, its subscribers, and a publisher.
pub(crate) struct Rig {
    shard: Shard,
    shared: Shared,
    inbox: Arc<Inbox>,
    publisher: ConnectionId,
    connections: RefCell<Vec<Option<Rc<Conn>>>>,
    ready: RefCell<Vec<Rc<Conn>>>,
    payload: String,
    ts: Timestamp,
    answers: Vec<u8>,
}

struct Conn {
    id: ConnectionId,
    ring: RefCell<Ring>,
    is_ready: Cell<bool>,
}

impl Rig {
    /// `subscribers` of one topic, and a publisher of payloads of `payload_bytes`.
    pub(crate) fn new(subscribers: usize, payload_bytes: usize) -> Self {
        let inbox = Arc::new(Inbox::new(1 << 16, Arc::new(Bell::default())));
        let limits = ShardLimits {
            history_events_max: 100,
            history_bytes_max: usize::MAX,
            run_events_max: BATCH,
            turn_topic_events_max: usize::MAX,
            turn_events_max: usize::MAX,
            turn_bytes_max: usize::MAX,
            turn_requests_max: usize::MAX,
            topics_max: 1,
            auto_create: true,
        };
        let shared = Shared::default();
        let mut rig = Self {
            shard: Shard::new(0, 1, Arc::clone(&inbox), limits, shared.clone()),
            shared,
            inbox,
            publisher: ConnectionId::new(0, 1 << 20, 1),
            connections: RefCell::default(),
            ready: RefCell::default(),
            payload: format!("\"{}\"", "x".repeat(payload_bytes.saturating_sub(2))),
            ts: Timestamp::from_unix_ms(1_756_116_000_000),
            answers: Vec::new(),
        };
        assert_eq!(rig.subscribe(subscribers), subscribers);
        rig
    }

    /// Adds `count` subscribers in one turn. Returns how many acks came.
    pub(crate) fn subscribe(&mut self, count: usize) -> usize {
        for _ in 0..count {
            let slot = self.connections.borrow().len();
            let slot = u32::try_from(slot).expect("few");
            let id = ConnectionId::new(0, slot, 1);
            self.connections.borrow_mut().push(Some(Rc::new(Conn {
                id,
                ring: RefCell::default(),
                is_ready: Cell::new(false),
            })));
            let request = Request::Subscribe {
                subscriber: id,
                topic: TOPIC.into(),
                replay: Replay::None,
                policy: Policy::All,
                is_inline: true,
                request_id: None,
            };
            self.inbox.push(request).expect("the inbox has room");
        }
        self.turn()
    }

    /// Publishes `messages`, and has the shard accept them. Returns the replies.
    pub(crate) fn publish(&mut self, messages: usize) -> usize {
        let mut publishes = Publishes::new(self.publisher, Moment::default());
        for _ in 0..messages {
            publishes.push(TOPIC, ID, &self.payload, "\"r-1\"", true, false);
        }
        self.inbox
            .push(Request::Publish(publishes))
            .expect("the inbox has room");
        self.turn()
    }

    fn turn(&mut self) -> usize {
        let mut replies = 0;
        let (connections, ready) = (&self.connections, &self.ready);
        let answers = &mut self.answers;
        self.shard.turn(self.ts, &mut |_, delivery| {
            for item in delivery.items {
                match item {
                    Item::Reply(reply) => {
                        replies += 1;
                        answers.clear();
                        let ts = reply.ts;
                        reply
                            .said
                            .answers(|answer| native::encode(answers, answer, ts));
                        black_box(&answers);
                    }
                    Item::Events { run, to } => {
                        let connections = connections.borrow();
                        for id in to.iter() {
                            let Some(Some(connection)) = connections.get(id.slot()) else {
                                continue;
                            };
                            if connection.id != *id {
                                continue;
                            }
                            black_box(connection.ring.borrow_mut().push(&run, LIMITS));
                            if !connection.is_ready.replace(true) {
                                ready.borrow_mut().push(Rc::clone(connection));
                            }
                        }
                    }
                }
            }
        });
        replies
    }

    /// Empties every ring, as the flusher does. Returns the events taken.
    pub(crate) fn drain(&self) -> usize {
        let mut events = 0;
        for connection in self.ready.borrow_mut().drain(..) {
            connection.is_ready.set(false);
            let mut ring = connection.ring.borrow_mut();
            while let Next::Events { run, skip, .. } = ring.take() {
                events += run.events() - skip;
                black_box(run.frames());
            }
        }
        events
    }
}
