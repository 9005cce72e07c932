//! (5, 6, 7) One shard: requests in, replies and events out.
//!
//! A shard owns its topics outright. It works in *turns*: take what waits in the inbox, handle it,
//! hand one [`Delivery`] to each core that has something to send. Publishes are gathered by topic
//! and accepted together, so that consecutive messages become one run; any other request first
//! completes the publishes before it, so that everything happens in the order of the inbox. What
//! others may read is published at the end of the turn, before anybody is told.
//!
//! A shard must not panic: there is no indexing, no unwrap and no arithmetic here that can.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

mod accept;
mod patterns;
mod post;
mod refuse;
mod relief;
mod replay;
mod survey;

use super::ConnectionId;
use super::delivery::{Delivery, Item, Refusal, Reply, Said};
use super::directory::TopicEntry;
use super::inbox::Inbox;
use super::patterns::Patterns;
use super::request::{
    Created, Creation, Description, PatternRequest, Recalled, Receipts, Replay, Request, Settled,
    Terms, Wish,
};
use super::ring::Piece;
use super::subscribers::Reason;
use super::table::{Shared, Slot, Table};
use super::topic::Accepted;
use crate::budget::{Booked, Kind};
use crate::protocol::names::TopicName;
use crate::protocol::policy::Policy;
use crate::protocol::time::Timestamp;

/// The limits that a shard keeps.
#[derive(Debug, Clone)]
pub struct ShardLimits {
    /// Events kept for each topic.
    pub history_events_max: usize,
    /// Bytes that the histories of this shard keep.
    pub history_bytes_max: usize,
    /// Events in one run, at least 1 and at most what a ring holds.
    pub run_events_max: usize,
    /// A turn ends when one topic has accepted so many events, so that rings are flushed before
    /// they are full.
    pub turn_topic_events_max: usize,
    /// A turn ends when all topics together have accepted so many events.
    pub turn_events_max: usize,
    /// A turn ends when their text together has so many bytes.
    pub turn_bytes_max: usize,
    /// A turn ends after so many requests.
    pub turn_requests_max: usize,
    /// Topics in all shards.
    pub topics_max: usize,
    /// Create a topic at its first publish or subscribe.
    pub auto_create: bool,
}

/// What one turn has taken in.
#[derive(Debug, Default)]
struct Load {
    events: usize,
    bytes: usize,
    /// Of the topic that has got most.
    fullest: usize,
    /// For topics that patterns mean: one ring may get all of them.
    matched: usize,
}

/// An answer to somebody who is no connection.
#[derive(Debug)]
enum Told {
    Created(oneshot::Sender<Created>, Created),
    Deleted(
        oneshot::Sender<Result<bool, Refusal>>,
        Result<bool, Refusal>,
    ),
    Described(oneshot::Sender<Option<Description>>, Option<Description>),
    Posted(
        oneshot::Sender<Result<Receipts, Refusal>>,
        Result<Receipts, Refusal>,
    ),
    Recalled(oneshot::Sender<Option<Recalled>>, Option<Recalled>),
    Read(oneshot::Sender<Piece>, Piece),
    Fenced(oneshot::Sender<()>),
}

/// One shard. See the module.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    inbox: Arc<Inbox>,
    limits: ShardLimits,
    shared: Shared,
    table: Table,
    /// Places with waiting messages, in the order of their first.
    touched: Vec<usize>,
    /// Places whose subscribers have changed.
    changed: Vec<usize>,
    batches: Vec<accept::Batch>,
    /// What became of one topic's waiting messages; here so that its memory is used again.
    accepted: Vec<Accepted>,
    told: Vec<Told>,
    posting: Option<post::Posting>,
    survey: Option<survey::Survey>,
    patterns: Patterns,
    patterns_booked: Booked,
    /// What is wanted of patterns and not done yet, in the order of the inbox.
    works: VecDeque<patterns::Work>,
    /// Topics of one step of it; here so that its memory is used again.
    places: Vec<usize>,
    /// What the creations of this turn have cost.
    welcomes: usize,
    /// What this turn has accepted, or gathered to be.
    load: Load,
    turns: u64,
    /// On what terms requests are carried out at this moment.
    terms: Terms,
    /// The budget is used up and nothing can give way, as seen at the start of the turn.
    must_refuse: bool,
    /// Where the search for topics that keep much goes on.
    looked_at: usize,
    /// What waits for each core.
    outgoing: Vec<Vec<Item>>,
}

impl Shard {
    /// Shard `index` of as many as there are cores.
    pub fn new(
        index: usize,
        cores: usize,
        inbox: Arc<Inbox>,
        limits: ShardLimits,
        shared: Shared,
    ) -> Self {
        let patterns_booked = Booked::new(Arc::clone(&shared.budget), index, Kind::Topics, 0);
        Self {
            index,
            inbox,
            limits,
            patterns: Patterns::default(),
            patterns_booked,
            works: VecDeque::new(),
            places: Vec::new(),
            welcomes: 0,
            load: Load::default(),
            table: Table::new(index, cores, shared.clone()),
            shared,
            touched: Vec::new(),
            changed: Vec::new(),
            batches: Vec::new(),
            accepted: Vec::new(),
            told: Vec::new(),
            posting: None,
            survey: None,
            turns: 0,
            terms: Terms {
                ts: Timestamp::from_unix_ms(0),
                birth: None,
                creation: Creation::Never,
            },
            must_refuse: false,
            looked_at: 0,
            outgoing: (0..cores).map(|_| Vec::new()).collect(),
        }
    }

    /// Whether a request waits.
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty()
            || self.posting.is_some()
            || self.survey.is_some()
            || !self.works.is_empty()
    }

    /// One turn at the time `ts`. Hands each core's delivery to `deliver`, by the core's index.
    pub fn turn(&mut self, ts: Timestamp, deliver: &mut impl FnMut(usize, Delivery)) {
        self.turns = self.turns.wrapping_add(1);
        let own = self.own_terms(ts);
        self.agree(own);
        self.must_refuse = self.shared.budget.is_over() && !self.relieve();
        self.shared.counters.refusing.set(self.must_refuse.into());
        (self.welcomes, self.load) = (0, Load::default());
        if self.posting.is_some() {
            self.go_on_posting(ts);
        }
        if self.survey.is_some() {
            self.go_on_with_survey();
        }
        for _ in 0..self.limits.turn_requests_max {
            if self.is_full() {
                break;
            }
            let Some(request) = self.inbox.pop() else {
                break;
            };
            let request = match request {
                Request::Settled(settled) => {
                    let Settled { terms, request } = *settled;
                    self.agree(terms);
                    request
                }
                request => {
                    if self.terms.are_settled() {
                        self.agree(own);
                    }
                    request
                }
            };
            if let Request::Publish(publishes) = request {
                self.gather(publishes);
            } else {
                self.accept_waiting();
                self.handle(request, self.terms.ts);
            }
        }
        self.agree(own);
        self.accept_waiting();
        self.go_on_with_patterns(ts);
        self.publish();
        self.hand_over(deliver);
        for told in self.told.drain(..) {
            told.send();
        }
        self.inbox.wake_refused();
    }

    /// Whether the turn takes no more.
    fn is_full(&self) -> bool {
        let (load, limits) = (&self.load, &self.limits);
        self.posting.is_some()
            || self.survey.is_some()
            || load.fullest.max(load.matched) >= limits.turn_topic_events_max
            || load.events >= limits.turn_events_max
            || load.bytes >= limits.turn_bytes_max
            || self.welcomes >= patterns::WELCOMES_MAX
    }

    /// The terms of this shard's own: the time of the turn, and no more than the settings allow. Where
    /// others share the topics, none are made here alone.
    fn own_terms(&self, ts: Timestamp) -> Terms {
        let may_create = self.limits.auto_create && self.shared.entrance.is_none();
        Terms {
            ts,
            birth: None,
            creation: if may_create {
                Creation::Allowed
            } else {
                Creation::Never
            },
        }
    }

    /// From here on requests are carried out on these terms; those before, on those before.
    fn agree(&mut self, terms: Terms) {
        if terms != self.terms {
            self.accept_waiting();
            self.terms = terms;
        }
        self.table.now = terms.ts;
    }

    /// Whether a change is to be refused because memory is used up.
    fn has_no_room(&self) -> bool {
        self.must_refuse && !self.terms.are_settled()
    }

    fn hand_over(&mut self, deliver: &mut impl FnMut(usize, Delivery)) {
        for (core, items) in self.outgoing.iter_mut().enumerate() {
            if !items.is_empty() {
                let items = std::mem::take(items);
                let shard = self.index;
                deliver(core, Delivery { shard, items });
            }
        }
    }

    /// Shows others what has changed.
    fn publish(&mut self) {
        for place in self.changed.drain(..) {
            if let Some(slot) = self.table.slot(place) {
                slot.is_changed = false;
                slot.topic.publish_audiences();
            }
        }
        self.table.publish();
    }

    fn reply(&mut self, to: ConnectionId, ts: Timestamp, said: Said) {
        if let Some(items) = self.outgoing.get_mut(to.core()) {
            items.push(Item::Reply(Reply { to, ts, said }));
        }
    }

    fn handle(&mut self, request: Request, ts: Timestamp) {
        match request {
            // Turns gather publishes themselves, to see how many there are.
            Request::Publish(publishes) => {
                self.gather(publishes);
            }
            Request::Subscribe { ref topic, .. } if self.must_ask_for(topic) => {
                self.ask_for(request, ts);
            }
            Request::Subscribe {
                subscriber,
                topic,
                replay,
                policy,
                is_inline,
                request_id,
            } => {
                let wanted = (&replay, policy);
                let said = self.subscribe(subscriber, topic, wanted, is_inline, request_id);
                self.reply(subscriber, ts, said);
            }
            Request::Unsubscribe {
                subscriber,
                topic,
                request_id,
            } => {
                let place = self.table.find(&topic);
                let left = place.and_then(|place| self.remove(place, subscriber));
                let said = Said::Unsubscribed {
                    request_id,
                    topic,
                    left,
                };
                self.reply(subscriber, ts, said);
            }
            Request::Pattern(request) => {
                if !self.refuses_pattern(&request, ts) {
                    self.take_pattern(*request);
                }
            }
            Request::Fetch { subscriber, wanted } => {
                let piece = self.piece(&wanted);
                self.reply(subscriber, ts, Said::Replayed(piece));
            }
            Request::Leave {
                connection,
                topics,
                is_told,
            } => {
                for entry in topics {
                    let place = self.table.find_entry(&entry);
                    let left = place.and_then(|place| self.remove(place, connection));
                    if let Some(topic) = left.filter(|_| is_told) {
                        self.reply(connection, ts, Said::Left(topic));
                    }
                }
            }
            Request::LeavePatterns {
                connection,
                patterns,
                why,
            } => {
                for pattern in &*patterns {
                    self.take_pattern(PatternRequest {
                        subscriber: connection,
                        pattern: Arc::clone(pattern),
                        wish: Wish::Leave(why),
                    });
                }
            }
            Request::Create { name, reply } => {
                let created = self.create(&name).err().unwrap_or(Created::Created);
                self.told.push(Told::Created(reply, created));
            }
            Request::Delete { name, reply } => {
                let is_deleted = self.delete(&name, ts);
                self.told.push(Told::Deleted(reply, Ok(is_deleted)));
            }
            Request::Post(posted) => self.post(posted, ts),
            Request::Recall {
                name,
                wanted,
                reply,
            } => {
                let recalled = self.recall(&name, &wanted);
                self.told.push(Told::Recalled(reply, recalled));
            }
            Request::Read { wanted, reply } => {
                let piece = self.piece(&wanted);
                self.told.push(Told::Read(reply, piece));
            }
            Request::Describe { name, reply } => {
                let description = self.describe(&name);
                self.told.push(Told::Described(reply, description));
            }
            Request::Fence { reply } => self.told.push(Told::Fenced(reply)),
            Request::Survey { images } => self.begin_survey(images),
            Request::Restore(restored) => self.restore(&restored),
            // Turns take the terms off.
            Request::Settled(settled) => self.handle(settled.request, ts),
            Request::Refuse(request, refusal) => self.refuse(*request, refusal, ts),
        }
    }

    fn describe(&mut self, name: &str) -> Option<Description> {
        let place = self.table.find(name)?;
        let slot = self.table.slot(place)?;
        Some(Description {
            topic: Arc::clone(slot.topic.entry()),
            kept: slot.topic.kept(),
        })
    }

    fn subscribe(
        &mut self,
        subscriber: ConnectionId,
        name: Box<str>,
        (replay, policy): (&Replay, Policy),
        is_inline: bool,
        request_id: Option<Box<str>>,
    ) -> Said {
        let found = self.find_or_create(&name).and_then(|place| {
            if self.must_refuse {
                Err(Refusal::NoMemory)
            } else {
                Ok(place)
            }
        });
        let found = found.and_then(|place| {
            let slot = self.table.slot(place).ok_or(Refusal::NoTopic)?;
            Ok((place, slot))
        });
        let (place, slot) = match found {
            Ok(found) => found,
            Err(refusal) => {
                return Said::Refused {
                    request_id,
                    topic: name,
                    refusal,
                };
            }
        };
        let (wanted, recovered) = slot.topic.replay(replay);
        let replay = wanted.map(|wanted| {
            let piece = is_inline.then(|| slot.topic.piece(&wanted));
            (piece, wanted)
        });
        let change = slot.topic.subscribe(subscriber, Reason::Name);
        let said = Said::Subscribed {
            request_id,
            topic: Arc::clone(slot.topic.entry()),
            seq: slot.topic.seq(),
            recovered,
            policy,
            is_new: change.is_made,
            replay,
        };
        if change.is_felt {
            note_change(&mut self.changed, place, slot);
        }
        said
    }

    /// Ends a subscription to the name of a topic; the topic, if there was one. A pattern that means
    /// it stays.
    fn remove(&mut self, place: usize, subscriber: ConnectionId) -> Option<Arc<TopicEntry>> {
        let slot = self.table.slot(place)?;
        let change = slot.topic.unsubscribe(subscriber, Reason::Name);
        if !change.is_made {
            return None;
        }
        if change.is_felt {
            note_change(&mut self.changed, place, slot);
        }
        Some(Arc::clone(slot.topic.entry()))
    }

    fn find_or_create(&mut self, name: &str) -> Result<usize, Refusal> {
        match self.table.find(name) {
            Some(place) => Ok(place),
            None if self.terms.creation == Creation::Never => Err(Refusal::NoTopic),
            None => self.create(name).map_err(|created| match created {
                Created::LimitReached => Refusal::TooManyTopics(self.limits.topics_max),
                Created::NoMemory => Refusal::NoMemory,
                Created::Created | Created::Exists | Created::Unavailable => Refusal::NoTopic,
            }),
        }
    }

    fn create(&mut self, name: &str) -> Result<usize, Created> {
        if self.table.find(name).is_some() {
            return Err(Created::Exists);
        }
        let name = &*TopicName::trusted(name);
        if self.has_no_room() {
            return Err(Created::NoMemory);
        }
        let (birth, history) = (self.terms.birth, self.limits.history_events_max);
        // What is settled happens: whether there is room was asked before.
        let topics_max = match (self.terms.creation, birth) {
            (Creation::Full, Some(_)) => 0,
            (_, Some(_)) => usize::MAX,
            (_, None) => self.limits.topics_max,
        };
        let place = self.table.create(name, history, topics_max, birth);
        let place = place.ok_or(Created::LimitReached)?;
        self.welcome(place);
        Ok(place)
    }

    fn delete(&mut self, name: &str, ts: Timestamp) -> bool {
        let Some(mut topic) = self.table.remove(name) else {
            return false;
        };
        while topic.history_bytes() > 0 {
            topic.forget_oldest();
        }
        let entry = Arc::clone(topic.entry());
        for subscriber in topic.subscribers() {
            self.reply(subscriber, ts, Said::TopicDeleted(Arc::clone(&entry)));
        }
        true
    }
}

fn note_change(changed: &mut Vec<usize>, place: usize, slot: &mut Slot) {
    if !std::mem::replace(&mut slot.is_changed, true) {
        changed.push(place);
    }
}

impl Told {
    /// Whoever asked may have gone; then nobody misses the answer.
    fn send(self) {
        match self {
            Self::Created(reply, created) => drop(reply.send(created)),
            Self::Deleted(reply, deleted) => drop(reply.send(deleted)),
            Self::Described(reply, description) => drop(reply.send(description)),
            Self::Posted(reply, posted) => drop(reply.send(posted)),
            Self::Recalled(reply, recalled) => drop(reply.send(recalled)),
            Self::Read(reply, piece) => drop(reply.send(piece)),
            Self::Fenced(reply) => drop(reply.send(())),
        }
    }
}
