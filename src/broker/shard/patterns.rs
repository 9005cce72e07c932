//! Patterns: what one shard does when somebody wants one, and when a topic comes to be.
//!
//! A pattern may mean many topics, so what is wanted of it is done in steps, a bounded one in each
//! turn, with everybody else's requests in between. The steps go by the names of the topics. A topic
//! that is created meanwhile is the affair of its creation: [`Slot::born`] tells one from the other,
//! so that each topic has each subscriber once for each of their patterns, whatever happens between.

use std::sync::Arc;

use super::super::delivery::{Item, Joined, PatternDone, PatternPart, Refusal, Reply, Said};
use super::super::request::{Leaving, Past, PatternRequest, Wish};
use super::super::subscribers::Reason;
use super::super::table::Slot;
use super::{Shard, note_change};
use crate::protocol::time::Timestamp;

/// Names that are looked at in one turn, and topics that are changed: some tenths of a millisecond.
const LOOKS_MAX: usize = 2048;
const TOPICS_MAX: usize = 256;

/// A turn ends when topics were created that so many subscribers were told of, or whose names were
/// held against so many patterns.
pub(super) const WELCOMES_MAX: usize = 2048;

/// What is wanted of a pattern, as far as it is done.
#[derive(Debug)]
pub(super) struct Work {
    request: PatternRequest,
    stage: Stage,
    counted: usize,
    joined: Joined,
}

#[derive(Debug)]
enum Stage {
    /// Nothing is done.
    New,
    /// Done up to this name, for topics that were there when it began.
    Behind {
        name: Option<Arc<str>>,
        born_max: u64,
    },
    Done,
}

impl Work {
    fn part(self, shard: usize) -> PatternPart {
        let PatternRequest { pattern, wish, .. } = self.request;
        let done = match wish {
            Wish::Ask { .. } => PatternDone::Counted(self.counted),
            Wish::Join { .. } => PatternDone::Joined(self.joined),
            Wish::Leave(why) => PatternDone::Left(why),
        };
        PatternPart {
            shard,
            pattern,
            done,
        }
    }

    /// Does what is wanted with one topic that the pattern means. True if that changes who gets it.
    fn act(&mut self, slot: &mut Slot) -> bool {
        let (subscriber, joined) = (self.request.subscriber, &mut self.joined);
        match &self.request.wish {
            Wish::Ask { topics_max } => {
                self.counted += 1;
                if topics_max.is_some_and(|topics_max| self.counted > topics_max) {
                    self.stage = Stage::Done;
                }
                false
            }
            Wish::Leave(_) => slot.topic.unsubscribe(subscriber, Reason::Pattern).is_felt,
            Wish::Join {
                past,
                wants_positions,
            } => {
                let topic = &mut slot.topic;
                joined.matched += 1;
                if *wants_positions {
                    let position = (Arc::clone(topic.entry()), topic.seq());
                    joined.positions.push(position);
                }
                match past {
                    Past::None => {}
                    Past::Last(wanted) => joined.replay.extend(topic.newest(*wanted)),
                    Past::After(seen) => {
                        let of_topic = seen.get(topic.entry().name());
                        let (epoch, seq) = of_topic.map_or_else(
                            || (topic.entry().epoch(), 0),
                            |(epoch, seq)| (&**epoch, *seq),
                        );
                        let (events, is_recovered) = topic.since(epoch, seq);
                        joined.replay.extend(events);
                        if !is_recovered {
                            joined.lost.push(Arc::clone(topic.entry()));
                        }
                    }
                }
                joined.is_new && topic.subscribe(subscriber, Reason::Pattern).is_felt
            }
        }
    }
}

impl Shard {
    /// Takes a request, to be carried out in its turn.
    pub(super) fn take_pattern(&mut self, request: PatternRequest) {
        self.works.push_back(Work {
            request,
            stage: Stage::New,
            counted: 0,
            joined: Joined::default(),
        });
    }

    /// Goes on with what is wanted of patterns, one after the other, as far as one turn goes.
    pub(super) fn go_on_with_patterns(&mut self, ts: Timestamp) {
        if self.works.is_empty() {
            return;
        }
        let (mut looks, mut topics) = (LOOKS_MAX, TOPICS_MAX);
        while looks > 0
            && topics > 0
            && let Some(mut work) = self.works.pop_front()
        {
            // What does nothing takes its time too.
            looks -= 1;
            if matches!(work.stage, Stage::New) {
                self.begin(&mut work);
            }
            if !matches!(work.stage, Stage::Done) {
                self.step(&mut work, &mut looks, &mut topics);
            }
            if !matches!(work.stage, Stage::Done) {
                self.works.push_front(work);
                continue;
            }
            let (to, wish) = (work.request.subscriber, &work.request.wish);
            if !matches!(wish, Wish::Leave(Leaving::Ended)) {
                let part = Box::new(work.part(self.index));
                self.reply(to, ts, Said::Pattern(part));
            }
        }
        if self.works.is_empty() {
            self.works.shrink_to(LOOKS_MAX);
        }
    }

    /// From here on topics that are created see the change, and those that are there get it in steps.
    fn begin(&mut self, work: &mut Work) {
        let PatternRequest {
            subscriber,
            pattern,
            wish,
            ..
        } = &work.request;
        let has_topics = match wish {
            Wish::Ask { topics_max } => topics_max.is_some(),
            Wish::Join { .. } => {
                work.joined.is_new = self.patterns.insert(*subscriber, pattern);
                true
            }
            Wish::Leave(_) => self.patterns.remove(*subscriber, pattern),
        };
        self.patterns_booked.set(self.patterns.bytes());
        work.stage = if has_topics {
            Stage::Behind {
                name: None,
                born_max: self.table.born(),
            }
        } else {
            Stage::Done
        };
    }

    fn step(&mut self, work: &mut Work, looks: &mut usize, topics: &mut usize) {
        let Stage::Behind { name, born_max } = &work.stage else {
            return;
        };
        let (born_max, mut places) = (*born_max, std::mem::take(&mut self.places));
        let pattern = &work.request.pattern;
        let last =
            self.table
                .look_through(pattern.prefix(), name.as_deref(), *looks, |name, place| {
                    *looks = looks.saturating_sub(1);
                    if pattern.matches(name) {
                        places.push(place);
                        *topics = topics.saturating_sub(1);
                    }
                    *topics > 0
                });
        work.stage = match last {
            None => Stage::Done,
            name => Stage::Behind { name, born_max },
        };
        for place in places.drain(..) {
            if let Some(slot) = self.table.slot(place)
                && slot.born <= born_max
                && work.act(slot)
            {
                note_change(&mut self.changed, place, slot);
            }
        }
        self.places = places;
    }

    /// A topic has come to be: whoever has a pattern that means it gets it, and is told so first.
    pub(super) fn welcome(&mut self, place: usize) {
        let Some(slot) = self.table.slot(place) else {
            return;
        };
        let topic = Arc::clone(slot.topic.entry());
        let (outgoing, mut told) = (&mut self.outgoing, 0);
        let ts = topic.created();
        let looks = self.patterns.matching(topic.name(), |to| {
            let change = slot.topic.subscribe(to, Reason::Pattern);
            if change.is_felt
                && let Some(items) = outgoing.get_mut(to.core())
            {
                told += 1;
                let said = Said::TopicCreated(Arc::clone(&topic));
                items.push(Item::Reply(Reply { to, ts, said }));
            }
        });
        if told > 0 {
            note_change(&mut self.changed, place, slot);
        }
        self.welcomes += looks.max(told);
    }

    /// Says at once that there is no room for a pattern, where that is so.
    pub(super) fn refuses_pattern(&mut self, request: &PatternRequest, ts: Timestamp) -> bool {
        let refuses = self.must_refuse && matches!(request.wish, Wish::Ask { .. });
        if refuses {
            let part = PatternPart {
                shard: self.index,
                pattern: Arc::clone(&request.pattern),
                done: PatternDone::Refused(Refusal::NoMemory),
            };
            self.reply(request.subscriber, ts, Said::Pattern(Box::new(part)));
        }
        refuses
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ConnectionId;
    use super::super::super::inbox::{Bell, Inbox};
    use super::super::super::request::{Publishes, Request};
    use super::super::super::table::Shared;
    use super::super::ShardLimits;
    use super::*;
    use crate::budget::Kind;
    use crate::pattern::Pattern;
    use crate::protocol::time::Moment;

    const TOPICS: usize = 3 * TOPICS_MAX;

    /// One shard with topics from `t.0` on.
    struct Rig {
        shard: Shard,
        inbox: Arc<Inbox>,
        shared: Shared,
    }

    impl Rig {
        fn new() -> Self {
            let inbox = Arc::new(Inbox::new(4096, Arc::new(Bell::default())));
            let limits = ShardLimits {
                history_events_max: 4,
                history_bytes_max: usize::MAX,
                run_events_max: 4,
                turn_topic_events_max: 10,
                turn_events_max: 1000,
                turn_bytes_max: usize::MAX,
                turn_requests_max: 1000,
                topics_max: usize::MAX,
                auto_create: true,
            };
            let public = Shared::default();
            let shard = Shard::new(0, 1, Arc::clone(&inbox), limits, public.clone());
            let mut rig = Self {
                shard,
                inbox,
                shared: public,
            };
            (0..TOPICS).for_each(|number| rig.publish(number));
            while rig.shard.has_work() {
                rig.turn();
            }
            rig
        }

        fn publish(&mut self, number: usize) {
            let mut publishes = Publishes::new(ConnectionId::new(0, 999, 1), Moment::default());
            publishes.push(&format!("t.{number}"), "id", "0", "", true, false);
            self.push(Request::Publish(publishes));
        }

        fn push(&mut self, request: Request) {
            self.inbox.push(request).expect("it has room");
        }

        fn wish(&mut self, pattern: &str, wish: Wish) {
            let request = PatternRequest {
                subscriber: ConnectionId::new(0, 1, 1),
                pattern: Arc::new(Pattern::parse(pattern).expect("a pattern")),
                wish,
            };
            self.push(Request::Pattern(Box::new(request)));
        }

        fn turn(&mut self) -> Vec<Item> {
            let mut items = Vec::new();
            let ts = Timestamp::from_unix_ms(0);
            self.shard
                .turn(ts, &mut |_, delivery| items.extend(delivery.items));
            items
        }

        /// Turns until a part has come; that, and after how many turns.
        fn part(&mut self) -> (PatternDone, usize) {
            for turns in 1.. {
                for item in self.turn() {
                    if let Item::Reply(Reply {
                        said: Said::Pattern(part),
                        ..
                    }) = item
                    {
                        return (part.done, turns);
                    }
                }
                assert!(self.shard.has_work(), "nothing comes of it");
            }
            unreachable!()
        }

        fn join(&mut self, pattern: &str) -> (Joined, usize) {
            let wish = Wish::Join {
                past: Past::Last(9),
                wants_positions: true,
            };
            self.wish(pattern, wish);
            match self.part() {
                (PatternDone::Joined(joined), turns) => (joined, turns),
                other => panic!("{other:?}"),
            }
        }

        fn subscribers(&self) -> usize {
            let directory = self.shared.directory.snapshot();
            directory.iter().map(|topic| topic.subscribers()).sum()
        }
    }

    #[test]
    fn a_turn_does_a_bounded_part_and_all_of_them_do_all() {
        let mut rig = Rig::new();
        let booked = rig.shared.budget.bytes(Kind::Topics);
        let (joined, turns) = rig.join("t.*");
        assert!(turns >= TOPICS / TOPICS_MAX, "{turns} turns");
        assert!(joined.is_new && joined.lost.is_empty());
        let of = [joined.positions.len(), joined.replay.len()];
        assert_eq!((joined.matched, of), (TOPICS as u64, [TOPICS; 2]));
        assert_eq!(rig.subscribers(), TOPICS);
        assert!(!rig.join("t.*").0.is_new);
        assert_eq!(rig.subscribers(), TOPICS);
        let more = rig.shared.budget.bytes(Kind::Topics) - booked;
        assert!(more > TOPICS * 100, "{more} bytes are booked");
        for why in [Leaving::Asked; 2] {
            rig.wish("t.*", Wish::Leave(why));
            assert!(matches!(rig.part().0, PatternDone::Left(_)));
            assert_eq!(rig.subscribers(), 0);
        }
        assert_eq!(rig.shared.budget.bytes(Kind::Topics), booked);
    }

    #[test]
    fn what_comes_and_goes_between_two_steps_is_had_once() {
        for is_leaving in [false, true] {
            let mut rig = Rig::new();
            if is_leaving {
                rig.join("*.*");
                rig.join("t.*");
            }
            let (wish, name) = if is_leaving {
                (Wish::Leave(Leaving::Asked), "t.*")
            } else {
                let past = Past::None;
                let wants_positions = true;
                (
                    Wish::Join {
                        past,
                        wants_positions,
                    },
                    "*.*",
                )
            };
            rig.wish(name, wish);
            rig.turn();
            // Some that it has passed, some that it has not come to, some that are new.
            for number in (0..TOPICS).step_by(3) {
                let (reply, _) = tokio::sync::oneshot::channel();
                let name = format!("t.{number}").into();
                rig.push(Request::Delete { name, reply });
                rig.publish(number + (number % 2) * TOPICS);
            }
            while rig.shard.has_work() {
                rig.turn();
            }
            let topics = rig.shared.directory.snapshot().len();
            assert_eq!(topics, TOPICS);
            assert_eq!(rig.subscribers(), topics);
            rig.wish("*.*", Wish::Leave(Leaving::Asked));
            rig.part();
            assert_eq!(rig.subscribers(), 0);
        }
    }

    #[test]
    fn one_turn_is_not_more_than_one_ring_takes() {
        let mut rig = Rig::new();
        rig.join("t.*");
        (0..100).for_each(|number| rig.publish(number));
        for _ in 0..10 {
            let items = rig.turn();
            let events = items
                .iter()
                .filter(|item| matches!(item, Item::Events { .. }));
            assert_eq!(events.count(), 10);
        }
    }

    #[test]
    fn topics_are_counted_as_far_as_they_may_be() {
        let mut rig = Rig::new();
        for (topics_max, counted) in [
            (None, 0),
            (Some(TOPICS), TOPICS),
            (Some(TOPICS - 1), TOPICS),
            // It stops with the step in which there are too many.
            (Some(3), TOPICS_MAX),
        ] {
            rig.wish("t.>", Wish::Ask { topics_max });
            let part = rig.part().0;
            assert!(
                matches!(part, PatternDone::Counted(of) if of == counted),
                "{part:?}"
            );
        }
        assert_eq!(rig.subscribers(), 0);
    }
}
