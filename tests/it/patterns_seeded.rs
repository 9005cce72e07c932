//! Names and patterns at random, on several connections and shards: each client gets exactly what a list of its
//! subscriptions says, once and in order, and its acks say where it begins. A failure prints its seed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::number;
use crate::harness::random::Random;

const TOKENS: [&str; 3] = ["a", "b", ""];
const NAMES: [&str; 9] = ["a", "b", "a.a", "a.b", "b.a", "b.", ".a", "a.b.a", "a..b"];
const PATTERNS: [&str; 10] = [
    ">", "*", "a.*", "a.>", "*.a", "*.*", "*.>", "a.*.b", "b.*", ".*",
];
const STEPS: usize = 120;

fn one_of<'t>(random: &mut Random, texts: &[&'t str]) -> &'t str {
    texts[random.below(texts.len())]
}

/// Token by token, as a person would.
fn means(pattern: &str, name: &str) -> bool {
    let (wanted, tokens): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), name.split('.').collect());
    match wanted.last() {
        Some(&">") => {
            let fixed = wanted.len() - 1;
            tokens.len() > fixed
                && (0..fixed).all(|at| wanted[at] == "*" || wanted[at] == tokens[at])
        }
        _ => {
            wanted.len() == tokens.len()
                && wanted
                    .iter()
                    .zip(&tokens)
                    .all(|(wanted, token)| *wanted == "*" || wanted == token)
        }
    }
}

/// One client, with what it has asked for and what it has still to get.
struct Member {
    client: Client,
    wants: BTreeSet<&'static str>,
    expected: Vec<String>,
}

impl Member {
    fn gets(&self, topic: &str) -> bool {
        self.wants.iter().any(|wanted| means(wanted, topic))
    }

    fn has_pattern_of(&self, topic: &str) -> bool {
        let mut patterns = self.wants.iter().filter(|of| of.contains(['*', '>']));
        patterns.any(|pattern| means(pattern, topic))
    }
}

fn told(message: &Value) -> String {
    let topic = message["topic"].as_str().expect("a topic");
    match message["msg"].as_str() {
        Some(msg) => format!("{msg} {topic}"),
        None => format!("{topic} {}", message["seq"]),
    }
}

struct World {
    broker: Broker,
    publisher: Client,
    members: Vec<Member>,
    /// The newest number of each topic, and the oldest that is kept.
    topics: BTreeMap<&'static str, u64>,
    random: Random,
    kept: u64,
}

impl World {
    async fn subscribe(&mut self, who: usize) {
        let is_pattern = self.random.below(2) == 0;
        let wanted = one_of(
            &mut self.random,
            if is_pattern { &PATTERNS } else { &NAMES },
        );
        let last_n = self.random.below(4) as u64;
        let member = &mut self.members[who];
        let command =
            json!({"type": "subscribe", "topic": wanted, "last_n": last_n, "positions": true});
        let ack = member.client.ask(command).await;
        let meant: Vec<_> = self
            .topics
            .iter()
            .filter(|(topic, _)| means(wanted, topic))
            .collect();
        if !is_pattern && meant.is_empty() {
            assert_eq!(ack["error"]["code"], "TOPIC_NOT_FOUND");
            return;
        }
        if is_pattern {
            assert_eq!(ack["matched"], meant.len(), "{ack}");
            for (topic, seq) in &meant {
                assert_eq!(number(&ack["positions"][**topic], "seq"), **seq, "{ack}");
            }
        } else {
            assert_eq!(number(&ack, "seq"), *meant[0].1, "{ack}");
        }
        let mut replayed = Vec::new();
        for (topic, seq) in meant {
            let first = (*seq + 1).saturating_sub(last_n.min(self.kept)).max(1);
            replayed.extend((first..=*seq).map(|seq| format!("{topic} {seq}")));
        }
        let mut got: Vec<_> = member.client.settle().await.iter().map(told).collect();
        got.sort();
        replayed.sort();
        assert_eq!(got, replayed, "the past of {wanted}");
        member.wants.insert(wanted);
    }

    async fn unsubscribe(&mut self, who: usize) {
        let member = &mut self.members[who];
        let wants: Vec<_> = member.wants.iter().copied().collect();
        if let Some(wanted) = wants.get(self.random.below(wants.len().max(1))) {
            assert!(member.client.unsubscribe(wanted).await.is_empty());
            member.wants.remove(wanted);
        }
    }

    async fn publish(&mut self) {
        let topics: Vec<_> = self.topics.keys().copied().collect();
        let Some(topic) = topics.get(self.random.below(topics.len().max(1))) else {
            return;
        };
        let seq = self.topics.entry(topic).or_default();
        *seq += 1;
        let ack = self.publisher.publish(topic, 1).await;
        let mut matched = 0;
        for member in self.members.iter_mut().filter(|member| member.gets(topic)) {
            member.expected.push(format!("{topic} {seq}"));
            matched += 1;
        }
        assert_eq!(
            (&ack["seq"], &ack["matched"]),
            (&json!(*seq), &json!(matched)),
            "{topic}"
        );
    }

    async fn create_or_delete(&mut self) {
        let topic = one_of(&mut self.random, &NAMES);
        if self.topics.remove(topic).is_some() {
            self.broker.delete_topic(topic).await;
            for member in self.members.iter_mut().filter(|member| member.gets(topic)) {
                member.expected.push(format!("topic_deleted {topic}"));
                member.wants.remove(topic);
            }
        } else {
            self.broker.create_topic(topic).await;
            self.topics.insert(topic, 0);
            for member in self
                .members
                .iter_mut()
                .filter(|member| member.has_pattern_of(topic))
            {
                member.expected.push(format!("topic_created {topic}"));
            }
        }
    }

    async fn check(&mut self) {
        for member in &mut self.members {
            let mut got = Vec::new();
            // On a busy machine what another core sends may come late.
            while got.len() < member.expected.len() {
                got.push(told(&member.client.recv().await));
            }
            got.extend(member.client.settle().await.iter().map(told));
            // Between topics there is no order.
            let by_topic = |texts: &[String]| -> Vec<String> {
                let mut texts = texts.to_vec();
                texts.sort_by_key(|text| topic_of(text).to_owned());
                texts
            };
            assert_eq!(
                by_topic(&got),
                by_topic(&member.expected),
                "{:?}",
                member.wants
            );
            member.expected.clear();
        }
        for topic in self.topics.keys() {
            let members = self
                .members
                .iter()
                .filter(|member| member.gets(topic))
                .count();
            assert_eq!(
                self.broker.subscribers_of(topic).await,
                members as u64,
                "{topic}"
            );
        }
    }
}

fn topic_of(told: &str) -> &str {
    let (first, second) = told.split_once(' ').expect("two words");
    if first.starts_with("topic_") {
        second
    } else {
        first
    }
}

async fn run(seed: u64) {
    let mut random = Random(seed);
    let shards = (1 + random.below(4)).to_string();
    let kept = 1 + random.below(5) as u64;
    let settings = [
        ("SHARDS", shards.as_str()),
        ("RING_BUFFER_SIZE", &kept.to_string()),
    ];
    let broker = Broker::start(&settings);
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(Member {
            client: Client::connect(&broker).await,
            wants: BTreeSet::new(),
            expected: Vec::new(),
        });
    }
    let publisher = Client::connect(&broker).await;
    let topics = BTreeMap::new();
    let mut world = World {
        broker,
        publisher,
        members,
        topics,
        random,
        kept,
    };
    for _ in 0..STEPS {
        let who = world.random.below(3);
        match world.random.below(10) {
            // What is under way would stand between a command and its answer.
            0 | 1 => {
                world.check().await;
                world.subscribe(who).await;
            }
            2 => {
                world.check().await;
                world.unsubscribe(who).await;
            }
            3 | 4 => world.create_or_delete().await,
            _ => world.publish().await,
        }
    }
    world.check().await;
}

#[test]
fn what_is_meant_is_what_a_person_would_say() {
    let mut random = Random(1);
    for _ in 0..200 {
        let count = 1 + random.below(4);
        let name: Vec<_> = (0..count).map(|_| one_of(&mut random, &TOKENS)).collect();
        assert!(means(">", &name.join(".")));
        assert_eq!(means("*", &name.join(".")), count == 1);
    }
}

#[tokio::test]
async fn every_client_gets_what_its_subscriptions_say() {
    for seed in 0..12 {
        let world = std::panic::AssertUnwindSafe(run(seed));
        if let Err(panic) = futures_util::FutureExt::catch_unwind(world).await {
            tell(seed);
            std::panic::resume_unwind(panic);
        }
    }
}

#[expect(clippy::print_stderr, reason = "the way to the failure")]
fn tell(seed: u64) {
    eprintln!("seed {seed}");
}
