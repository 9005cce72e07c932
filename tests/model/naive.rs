//! The broker that a person would write in an afternoon: lists, and one message at a time.
//!
//! It has one rule in common with the real one that is not obvious: the publishes of one turn are
//! sorted by topic, in the order in which the topics come up, until another request is between.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

/// One accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) topic: String,
    pub(crate) seq: u64,
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) ts: String,
}

impl Event {
    /// As a client reads it.
    pub(crate) fn json(&self) -> Value {
        let payload: Value = serde_json::from_str(&self.payload).expect("payloads are JSON");
        json!({"type": "event", "topic": self.topic, "message": {"id": self.id, "payload": payload},
            "ts": self.ts, "seq": self.seq})
    }
}

/// Which earlier events a subscriber wants. An epoch is the number of a creation.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Nothing,
    Last(u64),
    Since { epoch: u64, seq: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) topic: String,
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) request_id: String,
    pub(crate) ack: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Publish {
        who: usize,
        items: Vec<Item>,
    },
    Subscribe {
        who: usize,
        topic: String,
        wanted: Wanted,
        request_id: String,
    },
    Unsubscribe {
        who: usize,
        topic: String,
        request_id: String,
    },
    Leave {
        who: usize,
        /// Which topics, by name and epoch.
        topics: Vec<(String, String)>,
    },
    Create {
        topic: String,
    },
    Delete {
        topic: String,
    },
    /// A piece of a replay, which is all there at once here.
    Fetch,
}

/// The answer to a request that came without a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Created,
    Exists,
    LimitReached,
    Deleted(bool),
}

/// A reply that a connection must get.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) reply: Value,
    /// The number of the creation whose epoch the reply must have.
    pub(crate) epoch: Option<u64>,
    /// What must follow at once.
    pub(crate) replay: Vec<Event>,
    /// The newest sequence number of a topic whose subscription ends here.
    pub(crate) end_seq: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Topic {
    /// Which creation of all this is.
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) bytes: u64,
    kept: VecDeque<Event>,
    pub(crate) subscribers: Vec<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) ring: VecDeque<Event>,
    /// Dropped and not announced.
    pub(crate) lost: u64,
    pub(crate) offered: u64,
    pub(crate) dropped: u64,
    pub(crate) discarded: u64,
    pub(crate) is_closed: bool,
    /// Replies in their order: for each shard first the answers to publishes, then all others.
    pub(crate) expected: BTreeMap<(usize, bool), VecDeque<Expected>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) shards: usize,
    pub(crate) ring: usize,
    pub(crate) history: usize,
    pub(crate) run: usize,
    pub(crate) topics: usize,
    pub(crate) turn_topic_events: usize,
    pub(crate) turn_events: usize,
    pub(crate) turn_requests: usize,
    pub(crate) auto_create: bool,
}

#[derive(Debug)]
pub(crate) struct Naive {
    pub(crate) limits: Limits,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) inboxes: Vec<VecDeque<Command>>,
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) accepted: u64,
    epochs: u64,
    /// The number of the creation behind each epoch that the real broker has shown.
    pub(crate) shown: BTreeMap<String, u64>,
}

/// A message that waits to be accepted, or to be refused in its turn.
#[derive(Debug)]
struct Gathered {
    who: usize,
    item: Item,
    refusal: Option<Value>,
}

impl Naive {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            inboxes: (0..limits.shards).map(|_| VecDeque::new()).collect(),
            limits,
            topics: BTreeMap::new(),
            connections: Vec::new(),
            answers: VecDeque::new(),
            accepted: 0,
            epochs: 0,
            shown: BTreeMap::new(),
        }
    }

    /// Topics end in a digit, which says where they live.
    pub(crate) fn shard_of(&self, topic: &str) -> usize {
        let last = topic.bytes().last().expect("topics have names");
        usize::from(last - b'0') % self.limits.shards
    }

    /// One turn of `shard` at the time `ts`.
    pub(crate) fn turn(&mut self, shard: usize, ts: &str) {
        let mut events = 0;
        let mut gathered: Vec<Gathered> = Vec::new();
        let mut accepted: BTreeMap<(String, u64), usize> = BTreeMap::new();
        for _ in 0..self.limits.turn_requests {
            let Some(command) = self.inboxes[shard].pop_front() else {
                break;
            };
            if let Command::Publish { who, items } = command {
                events += items.len();
                for item in items {
                    let refusal = self.exists(&item.topic).err();
                    if let Some(topic) = self.topics.get(&item.topic) {
                        *accepted
                            .entry((item.topic.clone(), topic.epoch))
                            .or_default() += 1;
                    }
                    gathered.push(Gathered { who, item, refusal });
                }
                let fullest = accepted.values().max().copied().unwrap_or_default();
                if fullest >= self.limits.turn_topic_events || events >= self.limits.turn_events {
                    break;
                }
            } else {
                self.accept(shard, std::mem::take(&mut gathered), ts);
                self.handle(shard, command, ts);
            }
        }
        self.accept(shard, gathered, ts);
    }

    /// Whether `topic` is there, created if that is allowed.
    fn exists(&mut self, topic: &str) -> Result<(), Value> {
        if self.topics.contains_key(topic) {
            return Ok(());
        }
        if !self.limits.auto_create {
            return Err(
                json!({"code": "TOPIC_NOT_FOUND", "message": format!("Topic '{topic}' does not exist")}),
            );
        }
        match self.create(topic) {
            Answer::LimitReached => {
                let max = self.limits.topics;
                Err(
                    json!({"code": "LIMIT_EXCEEDED", "message": format!("No room for another topic: MAX_TOPICS is {max}")}),
                )
            }
            _ => Ok(()),
        }
    }

    fn create(&mut self, topic: &str) -> Answer {
        if self.topics.contains_key(topic) {
            return Answer::Exists;
        }
        if self.topics.len() >= self.limits.topics {
            return Answer::LimitReached;
        }
        self.epochs += 1;
        let created = Topic {
            epoch: self.epochs,
            seq: 0,
            bytes: 0,
            kept: VecDeque::new(),
            subscribers: Vec::new(),
        };
        self.topics.insert(topic.into(), created);
        Answer::Created
    }

    /// Accepts gathered messages one by one: topic by topic in the order of their first, then
    /// answers them in the order they came.
    fn accept(&mut self, shard: usize, gathered: Vec<Gathered>, ts: &str) {
        let mut order: Vec<&str> = Vec::new();
        for Gathered { item, refusal, .. } in &gathered {
            if refusal.is_none() && !order.contains(&item.topic.as_str()) {
                order.push(&item.topic);
            }
        }
        let mut outcomes = vec![(0, 0); gathered.len()];
        for topic in order {
            for (outcome, Gathered { item, .. }) in outcomes.iter_mut().zip(&gathered) {
                if item.topic == topic {
                    *outcome = self.accept_one(item, ts);
                }
            }
        }
        for (gathered, (seq, matched)) in gathered.into_iter().zip(outcomes) {
            let Gathered { who, item, refusal } = gathered;
            let reply = if let Some(error) = refusal {
                json!({"type": "error", "request_id": item.request_id, "error": error, "ts": ts})
            } else if item.ack {
                json!({"type": "ack", "request_id": item.request_id, "topic": item.topic,
                    "status": "ok", "ts": ts, "seq": seq, "matched": matched})
            } else {
                continue;
            };
            self.expect(who, shard, false, plain(reply));
        }
    }

    fn accept_one(&mut self, item: &Item, ts: &str) -> (u64, u64) {
        let topic = self.topics.get_mut(&item.topic).expect("it exists");
        topic.seq += 1;
        topic.bytes += item.payload.len() as u64;
        self.accepted += 1;
        let event = Event {
            topic: item.topic.clone(),
            seq: topic.seq,
            id: item.id.clone(),
            payload: item.payload.clone(),
            ts: ts.into(),
        };
        topic.kept.push_back(event.clone());
        if topic.kept.len() > self.limits.history {
            topic.kept.pop_front();
        }
        let mut matched = 0;
        for who in &topic.subscribers {
            let connection = &mut self.connections[*who];
            connection.offered += 1;
            matched += 1;
            if connection.is_closed {
                connection.discarded += 1;
                continue;
            }
            connection.ring.push_back(event.clone());
            if connection.ring.len() > self.limits.ring {
                connection.ring.pop_front();
                connection.lost += 1;
                connection.dropped += 1;
            }
        }
        (topic.seq, matched)
    }

    fn expect(&mut self, who: usize, shard: usize, is_placed: bool, expected: Expected) {
        if !self.connections[who].is_closed {
            let lanes = &mut self.connections[who].expected;
            lanes
                .entry((shard, is_placed))
                .or_default()
                .push_back(expected);
        }
    }

    fn handle(&mut self, shard: usize, command: Command, ts: &str) {
        match command {
            Command::Publish { .. } | Command::Fetch => {}
            Command::Subscribe {
                who,
                topic,
                wanted,
                request_id,
            } => {
                let expected = self.subscribe(who, &topic, &wanted, &request_id, ts);
                self.expect(who, shard, true, expected);
            }
            Command::Unsubscribe {
                who,
                topic,
                request_id,
            } => {
                let end_seq = self.topics.get_mut(&topic).and_then(|topic| {
                    let before = topic.subscribers.len();
                    topic.subscribers.retain(|of| *of != who);
                    (topic.subscribers.len() < before).then_some(topic.seq)
                });
                let reply = json!({"type": "ack", "request_id": request_id, "topic": topic,
                    "status": "ok", "ts": ts});
                let expected = Expected {
                    end_seq,
                    ..plain(reply)
                };
                self.expect(who, shard, true, expected);
            }
            Command::Leave { who, topics } => {
                for (name, epoch) in topics {
                    let creation = self.shown.get(&epoch);
                    if let Some(topic) = self.topics.get_mut(&name)
                        && Some(&topic.epoch) == creation
                    {
                        topic.subscribers.retain(|of| *of != who);
                    }
                }
            }
            Command::Create { topic } => {
                let created = self.create(&topic);
                self.answers.push_back(created);
            }
            Command::Delete { topic } => self.delete(shard, &topic, ts),
        }
    }

    fn subscribe(
        &mut self,
        who: usize,
        name: &str,
        wanted: &Wanted,
        request_id: &str,
        ts: &str,
    ) -> Expected {
        if let Err(error) = self.exists(name) {
            return plain(
                json!({"type": "error", "request_id": request_id, "error": error, "ts": ts}),
            );
        }
        let topic = self.topics.get_mut(name).expect("it exists");
        if !topic.subscribers.contains(&who) {
            topic.subscribers.push(who);
        }
        let mut reply = json!({"type": "ack", "request_id": request_id, "topic": name,
            "status": "ok", "ts": ts, "seq": topic.seq});
        let kept = || topic.kept.iter().cloned();
        let earlier = match *wanted {
            Wanted::Nothing => Vec::new(),
            Wanted::Last(n) => {
                let n = usize::try_from(n).unwrap_or(usize::MAX);
                kept().skip(topic.kept.len().saturating_sub(n)).collect()
            }
            Wanted::Since { epoch, seq } => {
                let oldest = topic.seq + 1 - topic.kept.len() as u64;
                let recovered = epoch == topic.epoch && seq <= topic.seq && seq + 1 >= oldest;
                reply["recovered"] = recovered.into();
                kept()
                    .filter(|event| !recovered || event.seq > seq)
                    .collect()
            }
        };
        Expected {
            epoch: Some(topic.epoch),
            replay: earlier,
            ..plain(reply)
        }
    }

    fn delete(&mut self, shard: usize, name: &str, ts: &str) {
        let Some(topic) = self.topics.remove(name) else {
            self.answers.push_back(Answer::Deleted(false));
            return;
        };
        for who in topic.subscribers {
            let reply = json!({"type": "info", "topic": name, "msg": "topic_deleted", "ts": ts});
            let expected = Expected {
                end_seq: Some(topic.seq),
                ..plain(reply)
            };
            self.expect(who, shard, true, expected);
        }
        self.answers.push_back(Answer::Deleted(true));
    }
}

fn plain(reply: Value) -> Expected {
    Expected {
        reply,
        epoch: None,
        replay: Vec::new(),
        end_seq: None,
    }
}
