//! Events that may be replaced, at random beside all else that a ring holds, against a plain list.

use std::collections::VecDeque;

use super::super::super::directory::tests::entry;
use super::super::{Next, Ring, RingLimits};
use super::*;
use crate::protocol::time::{Moment, Timestamp};
use crate::protocol::websocket::frame;

const TOPICS: usize = 4;
const STEPS: usize = 3000;

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("64 bits") % most
    }
}

/// Consecutive events of `topic`, up to `last`.
fn run(topic: &Arc<TopicEntry>, last: u64, events: u64) -> Arc<Run> {
    let (mut frames, mut ends) = (Vec::new(), Vec::new());
    let first = last + 1 - events;
    for seq in first..=last {
        let ts = Timestamp::from_unix_ms(0);
        topic.template.encode(&mut frames, "id", "1", ts, seq);
        ends.push(u32::try_from(frames.len()).expect("small"));
    }
    let (read_at, topic) = (Moment::default(), Arc::clone(topic));
    Arc::new(Run::new(frames, &ends, first, read_at, topic))
}

fn number(run: &Run, name: &str) -> Option<u64> {
    let event = serde_json::from_slice::<serde_json::Value>(frame::body(run.frames()));
    event.expect("JSON")[name].as_u64()
}

#[derive(Debug, PartialEq)]
enum Item {
    /// An event of the last topic, which is wanted whole, and its bytes.
    Whole(u64, usize),
    Reply(u8),
    Turn(usize),
    /// An event that is not replaced any more: of which topic, its number, how many were skipped, and
    /// its bytes.
    Sealed(usize, u64, u64, usize),
}

#[derive(Default, Clone)]
struct Slot {
    event: Option<Arc<Run>>,
    skipped: u64,
    told: u64,
    rested_at: u64,
    interval: u64,
    is_resting: bool,
}

impl Slot {
    /// Its event, as it would leave.
    fn seal(&mut self, topic: usize) -> Option<Item> {
        let event = self.event.take()?;
        let skipped = std::mem::take(&mut self.skipped);
        let bytes = if skipped == self.told {
            event.bytes()
        } else {
            event.skipping(skipped).bytes()
        };
        Some(Item::Sealed(topic, event.first_seq(), skipped, bytes))
    }
}

#[derive(Default)]
struct Plain {
    order: VecDeque<Item>,
    slots: Vec<Slot>,
    lost: u64,
}

impl Plain {
    fn bytes(&self) -> usize {
        let slots = self.slots.iter().filter_map(|slot| slot.event.as_ref());
        let whole = self.order.iter().map(|item| match item {
            Item::Whole(_, bytes) | Item::Sealed(.., bytes) => *bytes,
            _ => 0,
        });
        slots.map(|event| event.bytes()).sum::<usize>() + whole.sum::<usize>()
    }

    fn whole(&self) -> usize {
        let items = self.order.iter();
        items.filter(|item| matches!(item, Item::Whole(..))).count()
    }

    fn events(&self) -> usize {
        let sealed = |item: &&Item| matches!(item, Item::Sealed(..));
        let waiting = self.slots.iter().filter(|of| of.event.is_some());
        self.whole() + self.order.iter().filter(sealed).count() + waiting.count()
    }

    fn is_due(&self, topic: usize) -> bool {
        self.order.contains(&Item::Turn(topic))
    }

    /// The oldest that can fall out does, as often as it takes. Returns how many events that were.
    fn shrink(&mut self, bytes_max: usize) -> u64 {
        let mut dropped = 0;
        while self.bytes() > bytes_max && self.events() > 1 {
            let falls = |item: &Item| match item {
                Item::Whole(..) => self.whole() > 1,
                Item::Turn(_) | Item::Sealed(..) => true,
                Item::Reply(_) => false,
            };
            let Some(at) = self.order.iter().position(falls) else {
                break;
            };
            self.lost += 1;
            dropped += 1;
            match self.order.remove(at) {
                Some(Item::Turn(topic)) => self.slots[topic].event = None,
                Some(Item::Sealed(_, _, skipped, _)) => self.lost += skipped,
                _ => {}
            }
        }
        dropped
    }

    /// What is held back takes its turn, if it has been for long enough.
    fn hasten(&mut self, topic: usize, now: u64) {
        let slot = &mut self.slots[topic];
        if !slot.is_resting || now < slot.rested_at {
            return;
        }
        slot.is_resting = false;
        if slot.event.is_some() {
            assert!(!self.is_due(topic));
            self.order.push_back(Item::Turn(topic));
        }
    }
}

struct World {
    random: Random,
    topics: Vec<Arc<TopicEntry>>,
    limits: RingLimits,
    ring: Ring,
    plain: Plain,
    now: u64,
    /// Newest event of each topic.
    seqs: [u64; TOPICS],
    /// When it is to be told of which topics that they may have rested.
    rests: Vec<(u64, usize)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            topics: (0..TOPICS).map(|n| entry(&format!("t{n}"))).collect(),
            limits: RingLimits {
                events_max: 1000,
                bytes_max: [usize::MAX, 1200, 700][random.below(3)],
            },
            random,
            ring: Ring::default(),
            plain: Plain {
                slots: vec![Slot::default(); TOPICS],
                ..Plain::default()
            },
            now: 0,
            seqs: [0; TOPICS],
            rests: Vec::new(),
        }
    }

    fn push(&mut self) {
        let topic = self.random.below(TOPICS);
        let is_whole = topic == TOPICS - 1;
        let events = if is_whole {
            1
        } else {
            self.random.below(3) as u64 + 1
        };
        self.seqs[topic] += events;
        let run = run(&self.topics[topic], self.seqs[topic], events);
        if is_whole {
            self.push_whole(&run);
        } else {
            self.push_newest(topic, &run);
        }
    }

    fn push_whole(&mut self, run: &Arc<Run>) {
        let plain = &mut self.plain;
        let whole = Item::Whole(run.last_seq(), run.bytes());
        plain.order.push_back(whole);
        let fell = plain.shrink(self.limits.bytes_max);
        assert_eq!(self.ring.push_beside(run, self.limits), fell);
    }

    fn push_newest(&mut self, topic: usize, run: &Arc<Run>) {
        let bytes_max = self.limits.bytes_max;
        let plain = &mut self.plain;
        let rate = NonZeroU16::new([0, 50, 20][self.random.below(3)]);
        let slot = &mut plain.slots[topic];
        slot.interval = rate.map_or(0, |rate| 1_000_000 / u64::from(rate.get()));
        let skipped = run.events() as u64 - 1 + u64::from(slot.event.is_some());
        slot.skipped += skipped;
        slot.told = run.events() as u64 - 1;
        let waited = slot.event.replace(run.newest());
        let mut rests_until = None;
        if waited.is_some() || slot.is_resting {
            // It keeps its turn, or waits until it is told that it has rested.
        } else if self.now >= slot.rested_at {
            plain.order.push_back(Item::Turn(topic));
        } else {
            rests_until = Some(slot.rested_at);
            slot.is_resting = true;
            self.rests.push((slot.rested_at, topic));
        }
        let mut dropped = plain.shrink(bytes_max);
        if plain.bytes() > bytes_max && plain.events() > 1 && plain.slots[topic].is_resting {
            // All others are held back too.
            plain.slots[topic].event = None;
            plain.lost += 1;
            dropped += 1;
        }
        let replaced = Replaced {
            skipped,
            dropped,
            rests_until,
        };
        let pushed = self.ring.push_newest(run, rate, self.now, self.limits);
        assert_eq!(pushed, replaced);
    }

    fn reply(&mut self) {
        let byte = u8::try_from(self.random.below(251)).expect("a byte");
        self.ring.push_replies(|frames| frames.push(byte));
        self.plain.order.push_back(Item::Reply(byte));
    }

    /// Timers go off, those too whose place has ended or has begun another rest.
    fn rest(&mut self) {
        let (ring, plain, now) = (&mut self.ring, &mut self.plain, self.now);
        self.rests.retain(|(until, topic)| {
            let is_over = now >= *until;
            if is_over {
                ring.is_rested(Place::of(&self.topics[*topic]), now);
                plain.hasten(*topic, now);
            }
            !is_over
        });
    }

    fn end_some(&mut self) {
        let is_all = self.random.below(2) == 0;
        let one = self.random.below(TOPICS);
        let mut all: Vec<_> = (0..TOPICS).filter(|of| is_all || *of == one).collect();
        if is_all {
            self.ring.end_newest_of(|_| true);
        } else {
            self.ring.end_newest(&self.topics[one]);
        }
        let rested_at = |topic: usize| self.plain.slots[topic].rested_at;
        all.sort_by_key(|topic| (rested_at(*topic), Place::of(&self.topics[*topic])));
        for topic in all {
            let turn = self
                .plain
                .order
                .iter()
                .position(|of| *of == Item::Turn(topic));
            let slot = &mut self.plain.slots[topic];
            let sealed = slot.seal(topic);
            // What nobody tells of any more is told as lost.
            self.plain.lost += slot.skipped;
            *slot = Slot::default();
            match (turn, sealed) {
                (Some(at), Some(sealed)) => self.plain.order[at] = sealed,
                (None, Some(sealed)) => self.plain.order.push_back(sealed),
                _ => {}
            }
        }
    }

    fn give_up(&mut self) {
        let plain = &mut self.plain;
        let waited = (plain.events() as u64, std::mem::take(&mut plain.lost));
        assert_eq!(self.ring.give_up_events(), waited);
        plain.order.retain(|item| matches!(item, Item::Reply(_)));
        plain.slots.fill(Slot::default());
    }

    fn check(&self, seed: u64) {
        let (ring, plain) = (&self.ring, &self.plain);
        assert_eq!(ring.events(), plain.events() as u64, "seed {seed}");
        let held = |of: &&Slot| of.is_resting && of.event.is_some();
        let held = plain.slots.iter().filter(held).count();
        assert_eq!(
            ring.late_events(),
            (plain.events() - held) as u64,
            "seed {seed}"
        );
        assert_eq!(ring.run_bytes(), plain.bytes(), "seed {seed}");
        assert_eq!(ring.is_empty(), plain.order.is_empty(), "seed {seed}");
        // One run always stays, beside events that are held back.
        let is_over = plain.bytes() > self.limits.bytes_max;
        assert!(
            !is_over || plain.events() == 1 || plain.whole() == 1,
            "seed {seed}"
        );
    }
}

fn take(ring: &mut Ring, plain: &mut Plain, topics: &[Arc<TopicEntry>], now: u64) {
    match ring.take() {
        Next::Nothing => assert!(plain.order.is_empty()),
        Next::Replies(frames) => {
            for byte in frames {
                assert_eq!(plain.order.pop_front(), Some(Item::Reply(byte)));
            }
        }
        Next::Events { run, lost, .. } => {
            let told = (run.first_seq(), number(&run, "skipped"));
            match plain.order.pop_front() {
                Some(Item::Whole(seq, _)) => assert_eq!(told, (seq, None)),
                Some(Item::Sealed(topic, seq, skipped, _)) => {
                    assert_eq!(told, (seq, Some(skipped)));
                    assert!(std::ptr::eq(run.topic(), &raw const *topics[topic]));
                }
                other => panic!("an event in place of {other:?}"),
            }
            assert_eq!(lost, std::mem::take(&mut plain.lost));
        }
        Next::Newest(place) => {
            let Some(Item::Turn(topic)) = plain.order.pop_front() else {
                panic!("a turn out of its turn");
            };
            assert_eq!(place, Place::of(&topics[topic]));
            let (run, lost) = ring.take_newest(place, now).expect("it waits");
            let slot = &mut plain.slots[topic];
            let seq = slot.event.take().expect("it waits").first_seq();
            let skipped = std::mem::take(&mut slot.skipped);
            slot.rested_at = now + slot.interval;
            assert_eq!((run.events(), run.first_seq()), (1, seq));
            assert_eq!(number(&run, "seq"), Some(seq));
            assert_eq!(number(&run, "skipped"), Some(skipped));
            assert_eq!(lost, std::mem::take(&mut plain.lost));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn at_random_one_event_of_a_topic_waits_and_stands_for_those_before() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.now += world.random.below(40_000) as u64;
            match world.random.below(48) {
                0..24 => world.push(),
                24..28 => world.reply(),
                28..40 => take(&mut world.ring, &mut world.plain, &world.topics, world.now),
                40..46 => world.rest(),
                46 => world.end_some(),
                _ => world.give_up(),
            }
            world.check(seed);
        }
    }
}

#[test]
fn an_event_that_is_replaced_keeps_its_turn() {
    let (a, b) = (entry("a"), entry("b"));
    let limits = RingLimits {
        events_max: 10,
        bytes_max: usize::MAX,
    };
    let mut ring = Ring::default();
    for (topic, last, events) in [(&a, 1, 1), (&b, 1, 1), (&a, 40, 39)] {
        ring.push_newest(&run(topic, last, events), None, 0, limits);
    }
    for (topic, skipped) in [(&a, 39), (&b, 0)] {
        let Next::Newest(place) = ring.take() else {
            panic!("nothing waits");
        };
        assert_eq!(place, Place::of(topic));
        let (run, _) = ring.take_newest(place, 0).expect("it waits");
        assert_eq!(number(&run, "skipped"), Some(skipped));
    }
    assert!(ring.is_empty() && ring.run_bytes() == 0);
}

#[test]
fn what_is_held_back_gives_way_too_and_places_that_have_rested_are_forgotten() {
    let topics: Vec<_> = (0..50).map(|n| entry(&format!("t{n}"))).collect();
    let rate = NonZeroU16::new(1);
    let mut limits = RingLimits {
        events_max: 10,
        bytes_max: usize::MAX,
    };
    let mut ring = Ring::default();
    for (seq, topic) in topics.iter().enumerate() {
        ring.push_newest(&run(topic, seq as u64 + 1, 1), rate, 0, limits);
    }
    while let Next::Newest(place) = ring.take() {
        ring.take_newest(place, 0).expect("it waits");
    }
    for topic in &topics {
        let replaced = ring.push_newest(&run(topic, 100, 1), rate, 1, limits);
        assert_eq!(replaced.rests_until, Some(1_000_000));
    }
    assert_eq!(ring.events(), 50);
    let bytes = ring.lag_bytes();
    let dropped = ring.drop_half();
    assert!((25..=26).contains(&dropped), "{dropped}");
    assert!(ring.lag_bytes() <= bytes / 2);
    // Where nothing else can give way, what comes does.
    limits.bytes_max = ring.run_bytes();
    let replaced = ring.push_newest(&run(&topics[0], 1000, 1), rate, 1, limits);
    assert!(replaced.dropped == 1, "{replaced:?}");
    assert!(ring.run_bytes() <= limits.bytes_max);
    for topic in &topics {
        ring.is_rested(Place::of(topic), 1_000_000);
    }
    while let Next::Newest(place) = ring.take() {
        ring.take_newest(place, 2_000_000).expect("it waits");
    }
    assert!(ring.is_empty() && ring.run_bytes() == 0);
    let places = ring.place_bytes();
    ring.shrink(4_000_000);
    // One may have skipped something of which nobody has told yet.
    assert!(ring.place_bytes() <= places / 8, "{places}");
}
