//! Seeded random operations against a naive broker: what clients see must be the same.
//!
//! The real broker is driven in memory, through what its threads use. Capacities are small, so that
//! edges are reached. A failure prints its seed and every operation up to it.

mod compare;
mod naive;
mod peer;
mod random;
mod threads;
mod world;

use naive::{Limits, Wanted};
use random::Random;
use world::World;

const SEEDS: u64 = 800;
const STEPS: usize = 150;

fn limits(random: &mut Random) -> Limits {
    Limits {
        shards: random.between(1, 3),
        ring: random.between(1, 8),
        history: random.between(0, 8),
        run: random.between(1, 4),
        topics: random.between(2, 6),
        turn_topic_events: random.between(1, 8),
        turn_events: random.between(1, 20),
        turn_requests: random.between(1, 20),
        auto_create: random.one_in(3),
    }
}

fn topic(random: &mut Random) -> String {
    format!("topic {}", random.below(5))
}

fn wanted(world: &mut World, topic: &str) -> Wanted {
    let random = &mut world.random;
    match random.below(3) {
        0 => Wanted::Nothing,
        1 => Wanted::Last(random.below(10) as u64),
        _ => match world.naive.topics.get(topic) {
            Some(of) => Wanted::Since {
                epoch: of.epoch - u64::from(random.one_in(5)),
                seq: (random.below(11) as u64 + of.seq).saturating_sub(8),
            },
            None => Wanted::Nothing,
        },
    }
}

fn step(world: &mut World) {
    let topic = topic(&mut world.random);
    let who = world.random.below(world.peers.len());
    let is_open = !world.peers[who].is_closed && world.has_room();
    match world.random.below(100) {
        0..4 if is_open => world.create(&topic),
        4..6 if is_open => world.delete(&topic),
        6..16 if is_open => {
            let wanted = wanted(world, &topic);
            world.subscribe(who, &topic, wanted);
        }
        16..21 if is_open => world.unsubscribe(who, &topic),
        21..46 if is_open => {
            let count = world.random.between(1, 6);
            let several = world.random.one_in(2);
            let topics: Vec<_> = (0..count)
                .map(|_| {
                    if several {
                        self::topic(&mut world.random)
                    } else {
                        topic.clone()
                    }
                })
                .collect();
            world.publish(who, &topics);
        }
        46..48 if is_open => {
            world.close(who);
            world.connect();
        }
        48..60 => {
            let takes_max = world.random.between(1, 3);
            world.flush(who, takes_max);
        }
        60..70 => world.flush(who, world::ALL),
        70..75 => {
            let home = world.peers[who].id.core();
            world.read_mail(home);
        }
        _ => {
            let shard = world.random.below(world.naive.limits.shards);
            world.turn(shard);
        }
    }
    world.check();
}

fn run(seed: u64, is_interleaved: bool) {
    let mut random = Random(seed);
    let limits = limits(&mut random);
    let homes = random.between(1, 3);
    let mut world = World::new(seed, limits, homes, is_interleaved);
    for _ in 0..random.between(1, 5) {
        world.connect();
    }
    for number in 0..5 {
        world.create(&format!("topic {number}"));
    }
    (0..STEPS).for_each(|_| step(&mut world));
    world.finish();
}

#[test]
fn clients_see_what_they_would_of_a_naive_broker() {
    (0..SEEDS).for_each(|seed| run(seed, false));
}

#[test]
fn a_flush_in_the_middle_of_a_turn_breaks_no_promise() {
    (0..SEEDS).for_each(|seed| run(seed, true));
}

#[test]
fn threads_lose_nothing_uncounted() {
    (0..8).for_each(threads::run);
}

/// One connection on one shard that has missed reading the events 1 and 2 of a topic.
fn behind() -> (World, &'static str) {
    let limits = Limits {
        shards: 1,
        ring: 4,
        history: 4,
        run: 1,
        topics: 1,
        turn_topic_events: 10,
        turn_events: 10,
        turn_requests: 10,
        auto_create: true,
    };
    let mut world = World::new(0, limits, 1, false);
    let who = world.connect();
    world.subscribe(who, "topic 0", Wanted::Nothing);
    world.turn(0);
    world.flush(who, world::ALL);
    world.publish(who, &["topic 0".into(), "topic 0".into()]);
    (world, "topic 0")
}

#[test]
fn an_unsubscribe_and_a_subscribe_sent_together_are_answered_in_order() {
    let (mut world, topic) = behind();
    world.unsubscribe(0, topic);
    world.unsubscribe(0, topic);
    world.subscribe(0, topic, Wanted::Last(2));
    world.publish(0, &[topic.into()]);
    world.finish();
}

#[test]
fn a_topic_that_ends_and_begins_again_ends_first_for_who_is_behind() {
    let (mut world, topic) = behind();
    world.delete(topic);
    world.create(topic);
    world.subscribe(0, topic, Wanted::Nothing);
    world.publish(0, &[topic.into()]);
    world.finish();
}
