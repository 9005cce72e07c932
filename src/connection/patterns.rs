//! The patterns of one connection, and what it wants of topics of which it does not want all.
//!
//! Every shard has a part in each. So a command about one waits until those before it are answered,
//! those behind it wait for it, and its answer is made here of what the shards say. A subscribe asks
//! all of them twice: first whether there is room, so that all of it happens or nothing; then, with
//! the place of its answer held in the ring, to join. What comes from a shard that has joined stands
//! behind that place, however long another takes.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::local::Local;
use super::policies::Policies;
use super::session::{Acted, Session};
use super::{Connection, error, hand_in};
use crate::broker::delivery::{Joined, PatternDone, PatternPart, Refusal, request_id};
use crate::broker::request::{Leaving, Past, PatternRequest, Request, Wish};
use crate::broker::ring::Fetch;
use crate::pattern::Pattern;
use crate::protocol::answer::Answer;
use crate::protocol::codes::ErrorCode;
use crate::protocol::command;
use crate::protocol::names::RequestId;
use crate::protocol::policy::Policy;
use crate::protocol::time::Timestamp;

/// What a name of a position takes in the map of them, beside its text.
const SEEN_BYTES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    list: Vec<Wanted>,
    asking: Option<Asking>,
    pub(super) policies: Policies,
}

/// A pattern that the connection has.
#[derive(Debug)]
struct Wanted {
    pattern: Arc<Pattern>,
    policy: Policy,
    /// Shards that have still to take it away, if that is under way.
    leaving: usize,
}

/// A command about a pattern that is under way.
#[derive(Debug)]
struct Asking {
    request_id: Option<Box<str>>,
    pattern: Arc<Pattern>,
    wish: Wish,
    policy: Policy,
    /// What is to be wished for when the shards have room.
    next: Option<Wish>,
    /// Shards that have still to answer.
    missing: usize,
    counted: usize,
    refusal: Option<Refusal>,
    joined: Joined,
    replays: Vec<Vec<Fetch>>,
    /// Bytes of the command that count as input until it is answered.
    bytes: usize,
}

impl Patterns {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    fn has(&self, pattern: &Pattern) -> bool {
        self.list.iter().any(|of| *of.pattern == *pattern)
    }

    /// Whether there is, or is about to be, one of which not every event is wanted.
    pub(super) fn have_policy(&self) -> bool {
        let asking = self.asking.iter().map(|asking| asking.policy);
        let mut policies = self.list.iter().map(|of| of.policy).chain(asking);
        policies.any(|policy| policy != Policy::All)
    }

    /// The last that was subscribed to stands last.
    fn add(&mut self, asking: &Asking) {
        let leaving = self
            .list
            .iter()
            .position(|of| *of.pattern == *asking.pattern);
        let leaving = leaving.map_or(0, |at| self.list.remove(at).leaving);
        self.list.push(Wanted {
            pattern: Arc::clone(&asking.pattern),
            policy: asking.policy,
            leaving,
        });
    }

    /// What is wanted of `topic`, if one of them means it.
    pub(super) fn policy_of(&self, topic: &str) -> Policy {
        let asking = self.asking.iter();
        let asking = asking.filter(|asking| matches!(asking.wish, Wish::Join { .. }));
        let asking = asking.map(|asking| (&asking.pattern, asking.policy));
        let list = self.list.iter().rev().map(|of| (&of.pattern, of.policy));
        let mut means = asking
            .chain(list)
            .filter(|(pattern, _)| pattern.matches(topic));
        means.next().map_or(Policy::All, |(_, policy)| policy)
    }

    fn remove(&mut self, pattern: &Pattern) {
        if let Some(at) = self.list.iter().position(|of| *of.pattern == *pattern) {
            self.list.remove(at);
        }
    }

    /// As they are written, at most so many.
    pub(super) fn names(&self, names_max: usize) -> impl Iterator<Item = Arc<str>> {
        let list = self.list.iter().take(names_max);
        list.map(|of| of.pattern.as_str().into())
    }
}

impl Session {
    pub(super) fn subscribe_pattern(
        &mut self,
        request_id: Option<RequestId<'_>>,
        pattern: Pattern,
        (past, policy): (command::Past, Policy),
        wants_positions: bool,
    ) -> Acted {
        if let Some(denial) = self.connection.denial_of_pattern(&pattern) {
            return self.deny(request_id, &denial);
        }
        if !self.flow.is_idle() {
            return Acted::MustWait;
        }
        let config = self.local.config();
        let has_pattern = self.connection.with_patterns(|of| of.has(&pattern));
        if self.connection.subscriptions() >= config.subscriptions_max && !has_pattern {
            return self.answer_full(request_id);
        }
        let topics_max = config.pattern_topics_max;
        let topics = self.local.process.topics_total.load(Ordering::Relaxed);
        let wish = Wish::Ask {
            topics_max: (topics > topics_max).then_some(topics_max),
        };
        let (past, bytes) = own(past);
        let next = Some(Wish::Join {
            past,
            wants_positions,
        });
        self.ask_all_shards(request_id, (pattern, policy), wish, next, bytes)
    }

    pub(super) fn unsubscribe_pattern(
        &mut self,
        request_id: Option<RequestId<'_>>,
        pattern: Pattern,
    ) -> Acted {
        if !self.flow.is_idle() {
            return Acted::MustWait;
        }
        let wish = Wish::Leave(Leaving::Asked);
        self.ask_all_shards(request_id, (pattern, Policy::All), wish, None, 0)
    }

    fn ask_all_shards(
        &mut self,
        request_id: Option<RequestId<'_>>,
        (pattern, policy): (Pattern, Policy),
        wish: Wish,
        next: Option<Wish>,
        bytes: usize,
    ) -> Acted {
        let asking = Asking {
            request_id: request_id.map(|id| id.as_json().into()),
            pattern: Arc::new(pattern),
            wish,
            policy,
            next,
            missing: self.local.process.broker.inboxes().len(),
            counted: 0,
            refusal: None,
            joined: Joined::default(),
            replays: Vec::new(),
            bytes,
        };
        let request = || asking.request(&self.connection);
        self.flow.ask_all(request, bytes);
        self.connection.with_patterns(|of| of.asking = Some(asking));
        Acted::Done
    }
}

/// What the broker is told of the past that is wanted, and the bytes that it takes.
fn own(past: command::Past) -> (Past, usize) {
    match past {
        command::Past::None => (Past::None, 0),
        command::Past::Last(wanted) => (Past::Last(wanted), 0),
        command::Past::After(seen) => {
            let bytes_of = |of: &command::Seen| SEEN_BYTES + of.topic.len() + of.epoch.len();
            let bytes = seen.iter().map(bytes_of).sum();
            let seen = seen.into_iter().map(|of| (of.topic, (of.epoch, of.seq)));
            (Past::After(Arc::new(seen.collect())), bytes)
        }
    }
}

impl Asking {
    fn request(&self, connection: &Connection) -> Request {
        Request::Pattern(Box::new(PatternRequest {
            subscriber: connection.id,
            pattern: Arc::clone(&self.pattern),
            wish: self.wish.clone(),
        }))
    }

    /// Takes in what one shard has done. Returns the bytes that are kept of it.
    fn add(&mut self, done: PatternDone) -> usize {
        self.missing = self.missing.saturating_sub(1);
        match done {
            PatternDone::Counted(topics) => self.counted += topics,
            PatternDone::Refused(refusal) => self.refusal = Some(refusal),
            PatternDone::Left(_) => {}
            PatternDone::Joined(part) => {
                let joined = &mut self.joined;
                let bytes = size_of_val(&*part.positions)
                    + size_of_val(&*part.lost)
                    + size_of_val(&*part.replay);
                joined.is_new |= part.is_new;
                joined.matched += part.matched;
                joined.positions.extend(part.positions);
                joined.lost.extend(part.lost);
                self.replays.push(part.replay);
                return bytes;
            }
        }
        0
    }

    /// Gives `say` the ack.
    fn acknowledge(&self, say: impl FnOnce(&Answer<'_>)) {
        let Wish::Join {
            past,
            wants_positions,
        } = &self.wish
        else {
            return say(&Answer::Unsubscribed {
                request_id: request_id(self.request_id.as_deref()),
                topic: self.pattern.as_str(),
            });
        };
        let positions = self.joined.positions.iter();
        let positions: Vec<_> = positions.map(|(topic, seq)| topic.position(*seq)).collect();
        let lost: Vec<_> = self.joined.lost.iter().map(|topic| topic.name()).collect();
        say(&Answer::SubscribedToMany {
            request_id: request_id(self.request_id.as_deref()),
            topic: Some(self.pattern.as_str()),
            matched: self.joined.matched,
            positions: wants_positions.then_some(&positions),
            lost: matches!(past, Past::After(_)).then_some(&lost),
        });
    }
}

impl Connection {
    /// Who has none pays for a pointer.
    pub(super) fn with_patterns<R>(&self, use_them: impl FnOnce(&mut Patterns) -> R) -> R {
        let mut patterns = self.patterns.borrow_mut();
        let patterns = patterns.get_or_insert_with(Box::default);
        use_them(patterns)
    }

    /// How many names and patterns it is subscribed to.
    pub(super) fn subscriptions(&self) -> usize {
        let patterns = self.patterns.borrow();
        self.topics.borrow().len() + patterns.as_ref().map_or(0, |of| of.len())
    }

    /// A shard has done its part.
    pub(super) fn take_part(self: &Rc<Self>, local: &Local, part: PatternPart, ts: Timestamp) {
        if let PatternDone::Left(Leaving::Forbidden) = part.done {
            return self.has_lost(local, &part.pattern);
        }
        let (kept, asking) = self.with_patterns(|of| {
            let kept = of.asking.as_mut().map_or(0, |asking| asking.add(part.done));
            let is_done = of.asking.as_ref().is_some_and(|asking| asking.missing == 0);
            (kept, if is_done { of.asking.take() } else { None })
        });
        self.ring.borrow_mut().note_held(kept);
        if let Some(asking) = asking {
            self.conclude(local, asking, ts);
        }
    }

    /// Every shard has done its part.
    fn conclude(self: &Rc<Self>, local: &Local, mut asking: Asking, ts: Timestamp) {
        let topics_max = local.config().pattern_topics_max;
        if asking.counted > topics_max {
            asking.refusal = Some(Refusal::TooManyMatched(topics_max));
        }
        if let Some(refusal) = asking.refusal {
            let (code, message) = refusal.describe(asking.pattern.as_str());
            let answer = Answer::Error {
                request_id: request_id(asking.request_id.as_deref()),
                code,
                message: &message,
            };
            self.send(local, |out| self.dialect.encode(out, &answer, ts));
            return self.give_back(local, 0, asking.bytes);
        }
        let inboxes = local.process.broker.inboxes();
        if let Some(next) = asking.next.take() {
            asking.wish = next;
            asking.missing = inboxes.len();
            let in_flight = self.in_flight.get();
            let shards = u32::try_from(inboxes.len()).unwrap_or(u32::MAX);
            self.in_flight.set(in_flight.saturating_add(shards));
            let requests = inboxes.iter().map(|inbox| (inbox, asking.request(self)));
            let requests: Vec<_> = requests.collect();
            let pattern = Arc::clone(&asking.pattern);
            self.with_patterns(|of| of.asking = Some(asking));
            // From the first event on, which may come before the last shard has joined.
            self.note_policy_of_pattern(&pattern);
            self.ring.borrow_mut().hold();
            for (inbox, request) in requests {
                hand_in(inbox, request);
            }
            return;
        }
        let before = self.subscriptions();
        if matches!(asking.wish, Wish::Join { .. }) {
            let replays = std::mem::take(&mut asking.replays);
            let replays = replays.into_iter().filter_map(in_one);
            self.ring.borrow_mut().release_with(
                |out| asking.acknowledge(|answer| self.dialect.encode(out, answer, ts)),
                replays,
            );
            self.with_patterns(|of| of.add(&asking));
        } else {
            self.with_patterns(|of| of.remove(&asking.pattern));
            self.note_policy_of_pattern(&asking.pattern);
            asking
                .acknowledge(|answer| self.send(local, |out| self.dialect.encode(out, answer, ts)));
        }
        self.note_subscriptions(local, before);
        self.give_back(local, 0, asking.bytes);
        local.make_ready(self);
        // Rights may have changed since it was asked.
        self.review_patterns(local);
    }

    /// Patterns that the rights do not cover any more are taken away.
    pub(super) fn review_patterns(&self, local: &Local) {
        if self.patterns.borrow().is_none() {
            return;
        }
        let shards = local.process.broker.inboxes().len();
        let patterns = self.with_patterns(|of| {
            let grant = self.grant.borrow();
            let list = of.list.iter_mut();
            let forbidden =
                list.filter(|of| of.leaving == 0 && grant.check_pattern(&of.pattern).is_err());
            let leaving = forbidden.map(|of| {
                of.leaving = shards;
                Arc::clone(&of.pattern)
            });
            leaving.collect()
        });
        leave_patterns(local, self, patterns, Leaving::Forbidden);
    }

    /// A shard has taken a pattern away. With the last the client is told, behind the last events.
    fn has_lost(self: &Rc<Self>, local: &Local, pattern: &Pattern) {
        let before = self.subscriptions();
        let is_gone = self.with_patterns(|of| {
            let mut list = of.list.iter_mut();
            let Some(wanted) = list.find(|of| *of.pattern == *pattern) else {
                return false;
            };
            wanted.leaving = wanted.leaving.saturating_sub(1);
            let is_gone = wanted.leaving == 0;
            if is_gone {
                of.remove(pattern);
            }
            is_gone
        });
        if !is_gone {
            return;
        }
        self.note_subscriptions(local, before);
        self.note_policy_of_pattern(pattern);
        let mut ring = self.ring.borrow_mut();
        ring.end_replays(|topic| self.is_forbidden(topic));
        drop(ring);
        let checked = self.grant.borrow().check_pattern(pattern);
        let text = checked.err().unwrap_or_else(|| {
            let name = pattern.as_str();
            format!("The subscription to '{name}' has ended: rights have changed")
        });
        self.say(local, &error(ErrorCode::Forbidden, &text));
    }

    /// Takes the connection off every pattern. One that is still being asked for is left behind it if
    /// the connection `has_ended`.
    pub(super) fn leave_every_pattern(&self, local: &Local, has_ended: bool) {
        if self.patterns.borrow().is_none() {
            return;
        }
        let (patterns, bytes) = self.with_patterns(|of| {
            let list = std::mem::take(&mut of.list).into_iter();
            let asking = if has_ended { of.asking.take() } else { None };
            let bytes = asking.as_ref().map_or(0, |asking| asking.bytes);
            let asking = asking.into_iter().map(|asking| asking.pattern);
            (list.map(|of| of.pattern).chain(asking).collect(), bytes)
        });
        self.give_back(local, 0, bytes);
        leave_patterns(local, self, patterns, Leaving::Ended);
    }
}

/// One replay of all that a shard has.
fn in_one(replay: Vec<Fetch>) -> Option<Fetch> {
    let mut replay = replay.into_iter();
    let first = replay.next()?;
    Some(Fetch {
        further: replay.collect(),
        ..first
    })
}

fn leave_patterns(
    local: &Local,
    connection: &Connection,
    patterns: Vec<Arc<Pattern>>,
    why: Leaving,
) {
    if patterns.is_empty() {
        return;
    }
    let patterns: Arc<[_]> = patterns.into();
    for inbox in local.process.broker.inboxes() {
        let leave = Request::LeavePatterns {
            connection: connection.id,
            patterns: Arc::clone(&patterns),
            why,
        };
        hand_in(inbox, leave);
    }
}

/// Undoes what a shard has done for a connection that had ended by then.
pub(super) fn leave_late(
    local: &Local,
    connection: crate::broker::ConnectionId,
    part: &PatternPart,
) {
    if let PatternDone::Joined(Joined { is_new: true, .. }) = part.done {
        let leave = Request::LeavePatterns {
            connection,
            patterns: [Arc::clone(&part.pattern)].into(),
            why: Leaving::Ended,
        };
        hand_in(local.process.broker.inbox(part.shard), leave);
    }
}
