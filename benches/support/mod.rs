//! A shard with one topic and its subscribers, in memory: what several benches measure.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use shardcast::broker::ConnectionId;
use shardcast::broker::inbox::{Bell, Inbox};
use shardcast::broker::request::{Item, Publishes, Replay, Request};
use shardcast::broker::ring::{Next, Ring};
use shardcast::broker::shard::{Shard, ShardLimits};
use shardcast::metrics::ShardCounters;
use shardcast::protocol::time::Timestamp;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Messages that are published together: what a client with a window of 32 leads to.
pub(crate) const BATCH: usize = 32;

const TOPIC: &str = "orders";
const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A shard on its own, and the ends of its subscribers.
pub(crate) struct Rig {
    shard: Shard,
    inbox: Arc<Inbox>,
    publisher: ConnectionId,
    connections: RefCell<Vec<Option<Rc<Conn>>>>,
    ready: RefCell<Vec<Rc<Conn>>>,
    payload: String,
    ts: Timestamp,
}

struct Conn {
    id: ConnectionId,
    ring: RefCell<Ring>,
    ready: Cell<bool>,
}

fn find(connections: &RefCell<Vec<Option<Rc<Conn>>>>, id: ConnectionId) -> Option<Rc<Conn>> {
    let connections = connections.borrow();
    let connection = connections.get(id.slot())?.as_ref()?;
    (connection.id == id).then(|| Rc::clone(connection))
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
            publisher: ConnectionId::new(0, 1 << 20, 1),
            connections: RefCell::default(),
            ready: RefCell::default(),
            payload: format!("\"{}\"", "x".repeat(payload_bytes.saturating_sub(2))),
            ts: Timestamp::from_unix_ms(1_756_116_000_000),
        };
        rig.subscribe(subscribers);
        rig
    }

    /// Adds `count` subscribers in one turn. Returns how many acks came.
    pub(crate) fn subscribe(&mut self, count: usize) -> usize {
        for _ in 0..count {
            let slot = self.connections.borrow().len();
            let id = ConnectionId::new(0, slot as u32, 1);
            self.connections.borrow_mut().push(Some(Rc::new(Conn {
                id,
                ring: RefCell::default(),
                ready: Cell::new(false),
            })));
            let request = Request::Subscribe {
                subscriber: id,
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
        let mut publishes = Publishes::new(self.publisher);
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
        let (connections, ready) = (&self.connections, &self.ready);
        self.shard.turn(self.ts, &mut |_, delivery| {
            for item in delivery.items {
                match item {
                    Item::Reply(reply) => {
                        replies += 1;
                        black_box(&reply);
                    }
                    Item::Events { run, to } => {
                        for id in to.iter() {
                            let Some(connection) = find(connections, id) else {
                                continue;
                            };
                            black_box(connection.ring.borrow_mut().push(&run, 100));
                            if !connection.ready.replace(true) {
                                ready.borrow_mut().push(Rc::clone(&connection));
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
        for connection in std::mem::take(&mut *self.ready.borrow_mut()) {
            connection.ready.set(false);
            let mut ring = connection.ring.borrow_mut();
            while let Some(next) = ring.take() {
                if let Next::Events { run, skip, .. } = next {
                    events += run.events() - skip;
                    black_box(run.frames());
                }
            }
        }
        events
    }
}
