//! (5, 6, 7, 8) One shard: requests in, replies and marks out.
//!
//! A shard owns its topics outright. It works in *turns*: take what waits in the inbox, handle it,
//! hand one [`Delivery`] to each thread that has something to send. Publishes are gathered by
//! topic and accepted together, so that consecutive messages become one run; any other request
//! first completes the publishes before it, so that everything happens in the order of the inbox.
//!
//! A shard must not panic: there is no indexing, no unwrap and no arithmetic here that can.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::AHashMap;
use tokio::sync::oneshot;

use super::inbox::Inbox;
use super::outbox::{ConnectionId, OutboxSender};
use super::request::{Created, Delivery, Membership, Order, Publishes, Replay, Reply, Request};
use super::run::Stamp;
use super::topic::{Accepted, Topic};
use crate::metrics::ShardCounters;
use crate::protocol::codes::ErrorCode;
use crate::protocol::frame::Timestamp;
use crate::protocol::names::{RequestId, check_topic_name};
use crate::protocol::reply;

/// The limits that a shard keeps.
#[derive(Debug, Clone)]
pub struct ShardLimits {
    /// Events kept for each topic.
    pub history_events_max: usize,
    /// Events in one run, at least 1 and at most what a ring holds.
    pub run_events_max: usize,
    /// A turn ends when one topic has accepted so many events, so that rings are flushed before
    /// they are full.
    pub turn_topic_events_max: usize,
    /// A turn ends when all topics together have accepted so many events.
    pub turn_events_max: usize,
    /// A turn ends after so many requests.
    pub turn_requests_max: usize,
    /// Topics in all shards.
    pub topics_max: usize,
    /// Create a topic at its first publish or subscribe.
    pub auto_create: bool,
}

/// What became of one message of a batch.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Waiting,
    Accepted { topic: usize, accepted: Accepted },
    NoTopic,
    TooManyTopics,
}

/// A batch whose messages are being accepted.
#[derive(Debug)]
struct Batch {
    publishes: Publishes,
    outcomes: Vec<Outcome>,
}

/// A topic and the messages that wait to be accepted by it: (batch, item).
#[derive(Debug)]
struct Slot {
    topic: Topic,
    waiting: Vec<(usize, usize)>,
    /// The last turn in which the topic got messages, and how many.
    turn: u64,
    turn_events: usize,
}

/// One shard. See the module.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    inbox: Arc<Inbox>,
    limits: ShardLimits,
    counters: Arc<ShardCounters>,
    /// Topics in all shards.
    topics_total: Arc<AtomicUsize>,
    names: AHashMap<Arc<str>, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Slots with waiting messages, in the order of their first.
    touched: Vec<usize>,
    batches: Vec<Batch>,
    /// What became of one topic's waiting messages; here so that its memory is used again.
    accepted: Vec<Accepted>,
    turns: u64,
    /// One for each thread.
    deliveries: Vec<Delivery>,
    epochs: u64,
    /// The newest run.
    newest: Stamp,
}

impl Shard {
    /// Shard `index` of as many as there are threads.
    pub fn new(
        index: usize,
        threads: usize,
        inbox: Arc<Inbox>,
        limits: ShardLimits,
        counters: Arc<ShardCounters>,
        topics_total: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            index,
            inbox,
            limits,
            counters,
            topics_total,
            names: AHashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            batches: Vec::new(),
            accepted: Vec::new(),
            turns: 0,
            deliveries: (0..threads)
                .map(|_| Delivery {
                    shard: index,
                    ..Delivery::default()
                })
                .collect(),
            epochs: 0,
            newest: Stamp {
                shard: index,
                serial: 0,
            },
        }
    }

    /// Whether a request waits.
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// One turn at the time `ts`. Hands each thread's delivery to `deliver`, by the thread's
    /// index. May hand over several for one thread, in their order.
    pub fn turn(&mut self, ts: Timestamp, deliver: &mut impl FnMut(usize, Delivery)) {
        self.turns = self.turns.wrapping_add(1);
        let mut accepting = 0;
        for _ in 0..self.limits.turn_requests_max {
            let Some(request) = self.inbox.pop() else {
                break;
            };
            if let Request::Publish(publishes) = request {
                accepting += publishes.items.len();
                let fullest = self.gather(publishes);
                if fullest >= self.limits.turn_topic_events_max
                    || accepting >= self.limits.turn_events_max
                {
                    break;
                }
            } else {
                self.accept_waiting(ts, deliver);
                self.handle(request, ts, deliver);
            }
        }
        self.accept_waiting(ts, deliver);
        self.hand_over(deliver);
        self.inbox.wake_refused();
    }

    fn hand_over(&mut self, deliver: &mut impl FnMut(usize, Delivery)) {
        for (thread, delivery) in self.deliveries.iter_mut().enumerate() {
            if !delivery.is_empty() {
                let empty = Delivery {
                    shard: self.index,
                    ..Delivery::default()
                };
                deliver(thread, std::mem::replace(delivery, empty));
            }
        }
    }

    fn reply(&mut self, reply: Reply) {
        if let Some(delivery) = self.deliveries.get_mut(reply.to.address().home as usize) {
            delivery.replies.push(reply);
        }
    }

    /// Sorts a batch's messages to their topics. Returns how many the fullest of them has got in
    /// this turn.
    fn gather(&mut self, publishes: Publishes) -> usize {
        let batch = self.batches.len();
        let mut fullest = 0;
        let mut outcomes = Vec::with_capacity(publishes.items.len());
        for (index, item) in publishes.items.iter().enumerate() {
            let outcome = match self.find_or_create(publishes.topic(item)) {
                Ok(place) => {
                    if let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) {
                        if slot.waiting.is_empty() {
                            self.touched.push(place);
                        }
                        slot.waiting.push((batch, index));
                        if slot.turn != self.turns {
                            slot.turn = self.turns;
                            slot.turn_events = 0;
                        }
                        slot.turn_events += 1;
                        fullest = fullest.max(slot.turn_events);
                    }
                    Outcome::Waiting
                }
                Err(outcome) => outcome,
            };
            outcomes.push(outcome);
        }
        self.batches.push(Batch {
            publishes,
            outcomes,
        });
        fullest
    }

    /// Accepts all gathered messages, topic by topic, then answers them, batch by batch.
    fn accept_waiting(&mut self, ts: Timestamp, deliver: &mut impl FnMut(usize, Delivery)) {
        if self.batches.is_empty() {
            return;
        }
        // A subscribe ack must be with its connection before any event that follows it is on the
        // ring: the connection's thread may be flushing that ring right now.
        if self
            .deliveries
            .iter()
            .any(|delivery| !delivery.replies.is_empty())
        {
            self.hand_over(deliver);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for place in touched.drain(..) {
            self.accept_topic(place, ts);
        }
        self.touched = touched;
        let mut batches = std::mem::take(&mut self.batches);
        for batch in batches.drain(..) {
            self.answer(batch, ts);
        }
        self.batches = batches;
    }

    fn accept_topic(&mut self, place: usize, ts: Timestamp) {
        let Self {
            slots,
            batches,
            deliveries,
            limits,
            accepted,
            newest,
            ..
        } = self;
        let Some(Slot { topic, waiting, .. }) = slots.get_mut(place).and_then(Option::as_mut)
        else {
            return;
        };
        let message = |&(batch, index): &(usize, usize)| {
            let found = batches.get(batch).and_then(|batch: &Batch| {
                let item = batch.publishes.items.get(index)?;
                Some((batch.publishes.id(item), batch.publishes.payload(item)))
            });
            found.unwrap_or_default()
        };
        accepted.clear();
        topic.publish(
            waiting.iter().map(message),
            ts,
            limits.run_events_max,
            newest,
            |outcome| accepted.push(outcome),
            |subscriber| {
                if let Some(delivery) = deliveries.get_mut(subscriber.address().home as usize) {
                    delivery.dirty.push(subscriber.clone());
                }
            },
        );
        for (&(batch, index), &accepted) in waiting.iter().zip(&*accepted) {
            if let Some(outcome) = batches
                .get_mut(batch)
                .and_then(|batch| batch.outcomes.get_mut(index))
            {
                *outcome = Outcome::Accepted {
                    topic: place,
                    accepted,
                };
            }
        }
        waiting.clear();
    }

    /// One reply with the acks and errors of a whole batch, in its order.
    fn answer(&mut self, batch: Batch, ts: Timestamp) {
        let Batch {
            publishes,
            outcomes,
        } = batch;
        let mut frames = Vec::with_capacity(outcomes.len() * 192);
        for (item, outcome) in publishes.items.iter().zip(outcomes) {
            let request_id = Some(publishes.request_id(item))
                .filter(|id| !id.is_empty())
                .map(RequestId::trusted);
            let topic = publishes.topic(item);
            match outcome {
                Outcome::Accepted {
                    topic,
                    accepted:
                        Accepted {
                            seq,
                            matched,
                            dropped,
                        },
                } => {
                    if let Some(slot) = self
                        .slots
                        .get(topic)
                        .and_then(Option::as_ref)
                        .filter(|_| item.ack)
                    {
                        let name = slot.topic.name_json();
                        reply::ack_publish(
                            &mut frames,
                            request_id,
                            name,
                            ts,
                            seq,
                            matched,
                            dropped,
                        );
                    }
                }
                Outcome::NoTopic => no_topic(&mut frames, request_id, topic, ts),
                Outcome::TooManyTopics => {
                    too_many_topics(&mut frames, request_id, self.limits.topics_max, ts);
                }
                Outcome::Waiting => {
                    let message = "The message was not accepted";
                    reply::error(&mut frames, request_id, ErrorCode::Internal, message, ts);
                }
            }
        }
        self.reply(Reply {
            frames,
            replay: Vec::new(),
            order: Order::BeforeRing,
            commands: u32::try_from(publishes.items.len()).unwrap_or(u32::MAX),
            request_bytes: publishes.text.len(),
            membership: None,
            to: publishes.publisher,
        });
    }

    fn handle(
        &mut self,
        request: Request,
        ts: Timestamp,
        deliver: &mut impl FnMut(usize, Delivery),
    ) {
        match request {
            // Turns gather publishes themselves, to see how many there are.
            Request::Publish(publishes) => {
                self.gather(publishes);
            }
            Request::Subscribe {
                subscriber,
                topic,
                replay,
                request_id,
            } => {
                self.subscribe(subscriber, &topic, &replay, request_id.as_deref(), ts);
            }
            Request::Unsubscribe {
                subscriber,
                topic,
                request_id,
            } => {
                self.unsubscribe(subscriber, &topic, request_id.as_deref(), ts);
            }
            Request::Leave { connection, topics } => self.leave(connection, &topics),
            Request::Create { name, reply } => answer(reply, self.create(&name)),
            Request::Delete { name, reply } => answer(reply, self.delete(&name, ts)),
            Request::Describe { reply } => {
                answer(
                    reply,
                    self.slots
                        .iter()
                        .flatten()
                        .map(|slot| slot.topic.stats())
                        .collect(),
                );
            }
            Request::Fence { reply } => {
                self.hand_over(deliver);
                answer(reply, ());
            }
        }
    }

    fn subscribe(
        &mut self,
        subscriber: OutboxSender,
        name: &str,
        replay: &Replay,
        request_id: Option<&str>,
        ts: Timestamp,
    ) {
        let request_id = request_id.map(RequestId::trusted);
        let found = self.find_or_create(name);
        // The ring may hold events that the replay repeats, or those of a subscription that ended
        // before: they come first.
        let mut answered = one_command(subscriber.clone(), self.newest);
        match found.map(|place| self.slots.get_mut(place).and_then(Option::as_mut)) {
            Ok(Some(Slot { topic, .. })) => {
                let (kept, recovered) = match replay {
                    Replay::None => (Vec::new(), None),
                    Replay::Last(wanted) => (topic.newest(*wanted), None),
                    Replay::Since { epoch, seq } => {
                        let (kept, recovered) = topic.since(epoch, *seq);
                        (kept, Some(recovered))
                    }
                };
                reply::ack_subscribe(
                    &mut answered.frames,
                    request_id,
                    topic.name_json(),
                    ts,
                    topic.epoch(),
                    topic.seq(),
                    recovered,
                );
                answered.replay = kept;
                if topic.subscribe(subscriber) {
                    answered.membership = Some(Membership::Joined(Arc::clone(topic.name())));
                }
            }
            Ok(None) | Err(Outcome::NoTopic) => {
                no_topic(&mut answered.frames, request_id, name, ts);
            }
            Err(_) => too_many_topics(&mut answered.frames, request_id, self.limits.topics_max, ts),
        }
        self.reply(answered);
    }

    fn unsubscribe(
        &mut self,
        subscriber: OutboxSender,
        name: &str,
        request_id: Option<&str>,
        ts: Timestamp,
    ) {
        let mut answered = one_command(subscriber, self.newest);
        let request_id = request_id.map(RequestId::trusted);
        let slot = self
            .names
            .get(name)
            .and_then(|place| self.slots.get_mut(*place))
            .and_then(Option::as_mut);
        if let Some(Slot { topic, .. }) = slot {
            if topic.unsubscribe(answered.to.id()) {
                answered.membership = Some(Membership::Left(Arc::clone(topic.name())));
            }
            reply::ack_unsubscribe(&mut answered.frames, request_id, topic.name_json(), ts);
        } else {
            reply::ack_unsubscribe(
                &mut answered.frames,
                request_id,
                &reply::json_string(name),
                ts,
            );
        }
        self.reply(answered);
    }

    fn leave(&mut self, connection: ConnectionId, topics: &[Arc<str>]) {
        for name in topics {
            let slot = self
                .names
                .get(name)
                .and_then(|place| self.slots.get_mut(*place));
            if let Some(Slot { topic, .. }) = slot.and_then(Option::as_mut) {
                topic.unsubscribe(connection);
            }
        }
    }

    fn find_or_create(&mut self, name: &str) -> Result<usize, Outcome> {
        match self.names.get(name) {
            Some(place) => Ok(*place),
            None if !self.limits.auto_create => Err(Outcome::NoTopic),
            None => match self.create(name) {
                Created::LimitReached => Err(Outcome::TooManyTopics),
                Created::Created | Created::Exists => {
                    self.names.get(name).copied().ok_or(Outcome::NoTopic)
                }
            },
        }
    }

    fn create(&mut self, name: &str) -> Created {
        if self.names.contains_key(name) || check_topic_name(name).is_err() {
            return Created::Exists;
        }
        // Relaxed: the count guards nothing but itself.
        let counted =
            self.topics_total
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| {
                    (total < self.limits.topics_max).then_some(total + 1)
                });
        if counted.is_err() {
            return Created::LimitReached;
        }
        self.epochs += 1;
        let epoch = format!(
            "{:016x}",
            ahash::RandomState::new().hash_one((self.index, self.epochs))
        );
        let name: Arc<str> = name.into();
        let topic = Topic::new(
            Arc::clone(&name),
            epoch.into_boxed_str(),
            self.limits.history_events_max,
            Arc::clone(&self.counters),
        );
        let slot = Some(Slot {
            topic,
            waiting: Vec::new(),
            turn: 0,
            turn_events: 0,
        });
        let place = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(place) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.names.insert(name, place);
        Created::Created
    }

    fn delete(&mut self, name: &str, ts: Timestamp) -> bool {
        let Some(place) = self.names.remove(name) else {
            return false;
        };
        let Some(Slot { topic, .. }) = self.slots.get_mut(place).and_then(Option::take) else {
            return false;
        };
        self.free.push(place);
        self.topics_total.fetch_sub(1, Ordering::Relaxed);
        let name = Arc::clone(topic.name());
        let mut frame = Vec::new();
        reply::info_topic_deleted(&mut frame, topic.name_json(), ts);
        for subscriber in topic.into_subscribers().iter() {
            self.reply(Reply {
                frames: frame.clone(),
                commands: 0,
                membership: Some(Membership::Left(Arc::clone(&name))),
                ..one_command(subscriber.clone(), self.newest)
            });
        }
        true
    }
}

/// A reply to one command, still without a frame, behind all events up to the run `newest`.
fn one_command(to: OutboxSender, newest: Stamp) -> Reply {
    Reply {
        to,
        frames: Vec::new(),
        replay: Vec::new(),
        order: Order::AfterRun(newest),
        commands: 1,
        request_bytes: 0,
        membership: None,
    }
}

fn no_topic(frames: &mut Vec<u8>, request_id: Option<RequestId<'_>>, topic: &str, ts: Timestamp) {
    let message = format!("Topic '{topic}' does not exist");
    reply::error(frames, request_id, ErrorCode::TopicNotFound, &message, ts);
}

fn too_many_topics(
    frames: &mut Vec<u8>,
    request_id: Option<RequestId<'_>>,
    topics_max: usize,
    ts: Timestamp,
) {
    let message = format!("No room for another topic: MAX_TOPICS is {topics_max}");
    reply::error(frames, request_id, ErrorCode::LimitExceeded, &message, ts);
}

/// Whoever asked may have gone; then nobody misses the answer.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}
