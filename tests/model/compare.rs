//! What must be the same in both brokers, and what must hold whatever they do.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use serde_json::Value;
use shardcast::broker::request::Created;
use shardcast::metrics::ShardCounters;

use crate::naive::{Answer, Connection, Event, Expected};
use crate::peer::{Wire, topic_of};
use crate::world::{ALL, Pending, World};

impl World {
    /// Compares the answers to requests that came without a connection.
    pub(crate) fn compare_answers(&mut self, shard: usize) {
        while let Some(answer) = self.naive.answers.pop_front() {
            let pending = self.pending[shard].pop_front();
            let real = match pending.expect("as many as were asked for") {
                Pending::Created(mut answer) => match answer.try_recv() {
                    Ok(Created::Created) => Answer::Created,
                    Ok(Created::Exists) => Answer::Exists,
                    Ok(Created::LimitReached) => Answer::LimitReached,
                    Ok(Created::NoMemory) => panic!("there is no bound on memory here"),
                    Ok(Created::Unavailable) => panic!("there is no other node"),
                    Err(error) => panic!("{error}"),
                },
                Pending::Deleted(mut answer) => {
                    let answered = answer.try_recv().expect("it was answered");
                    Answer::Deleted(answered.expect("there is no other node"))
                }
            };
            assert_eq!(real, answer);
        }
    }

    /// Compares what anybody may read about the topics of a shard.
    pub(crate) fn compare_directory(&self, shard: usize) {
        let directory = self.shared[shard].directory.snapshot();
        let mut listed: Vec<_> = directory
            .iter()
            .map(|of| {
                let (seq, bytes) = (
                    of.counters().accepted.value(),
                    of.counters().bytes_in.value(),
                );
                (of.name().to_owned(), seq, of.subscribers(), bytes)
            })
            .collect();
        listed.sort();
        let naive = self.naive.topics.iter();
        let wanted: Vec<_> = naive
            .filter(|(name, _)| self.naive.shard_of(name) == shard)
            .map(|(name, of)| (name.clone(), of.seq, of.subscribers.len(), of.bytes))
            .collect();
        assert_eq!(listed, wanted);
    }

    /// Compares what a client has read with what it should have.
    pub(crate) fn compare(&mut self, who: usize) {
        for wire in std::mem::take(&mut self.peers[who].written) {
            self.clients[who].read(&wire);
            if let Wire::ReplayLost(lost) = wire {
                let lost = usize::try_from(lost).expect("small");
                assert!(
                    lost <= self.replaying[who].len(),
                    "more lost than there was"
                );
                self.replaying[who].drain(..lost);
                continue;
            }
            let must_replay = self.replaying[who].pop_front();
            match wire {
                Wire::Replay(event) => assert_eq!(Some(event), must_replay),
                _ if must_replay.is_some() => panic!("{wire:?} in place of {must_replay:?}"),
                Wire::Reply(reply) => self.compare_reply(who, reply),
                Wire::ReplayLost(_) => {}
                Wire::Notice(_) | Wire::Live(_) if self.is_interleaved => {}
                Wire::Notice(lost) => {
                    let naive = &mut self.naive.connections[who];
                    assert_eq!(lost, std::mem::take(&mut naive.lost));
                }
                Wire::Live(event) => {
                    let naive = &mut self.naive.connections[who];
                    assert_eq!(naive.lost, 0, "not announced before {event}");
                    let expected = naive.ring.pop_front();
                    assert_eq!(Some(event), expected.map(|event| event.json()));
                }
            }
        }
    }

    fn compare_reply(&mut self, who: usize, mut reply: Value) {
        let naive = &mut self.naive.connections[who];
        let epoch = reply
            .as_object_mut()
            .and_then(|reply| reply.remove("epoch"));
        let is_it = |expected: &Expected| expected.reply == reply;
        let next = naive
            .expected
            .values_mut()
            .find_map(|lane| lane.front().is_some_and(is_it).then(|| lane.pop_front())?);
        let Some(expected) = next else {
            let fronts: Vec<_> = naive.expected.values().map(VecDeque::front).collect();
            panic!("{reply} is none of {fronts:?}");
        };
        match (expected.epoch, epoch) {
            (None, None) => {}
            (Some(creation), Some(Value::String(epoch))) => {
                let is_new = !self.epochs.values().any(|of| *of == epoch);
                let known = self.epochs.entry(creation).or_insert_with(|| {
                    assert!(is_new, "two topics with one epoch");
                    epoch.clone()
                });
                assert_eq!(*known, epoch);
            }
            other => panic!("{other:?} in {reply}"),
        }
        self.replaying[who] = expected.replay.iter().map(Event::json).collect();
        if let Some(end_seq) = expected.end_seq {
            self.clients[who].leave(topic_of(&reply), Some(end_seq));
        }
    }

    /// What holds after every step.
    pub(crate) fn check(&self) {
        let sum = |counter: fn(&ShardCounters) -> u64| {
            self.shared
                .iter()
                .map(|of| counter(&of.counters))
                .sum::<u64>()
        };
        let naive =
            |count: fn(&Connection) -> u64| self.naive.connections.iter().map(count).sum::<u64>();
        assert_eq!(sum(|c| c.accepted.value()), self.naive.accepted);
        assert_eq!(sum(|c| c.offered.value()), naive(|c| c.offered));
        assert_eq!(
            self.topics_total.load(Ordering::Relaxed),
            self.naive.topics.len()
        );
        if self.is_interleaved {
            return;
        }
        assert!(sum(|c| c.dropped.value()) <= naive(|c| c.dropped));
        for (who, (client, naive)) in self.clients.iter().zip(&self.naive.connections).enumerate() {
            assert_eq!(
                client.delivered + naive.dropped + naive.discarded + naive.ring.len() as u64,
                naive.offered,
                "connection {who}"
            );
        }
    }

    /// Lets everything come to an end and checks that nothing is missing.
    pub(crate) fn finish(&mut self) {
        self.note("finish");
        loop {
            for home in 0..self.mail.len() {
                self.read_mail(home);
            }
            for who in 0..self.peers.len() {
                while self.peers[who].is_ready {
                    self.flush(who, ALL);
                }
            }
            let Some(busy) = (0..self.shards.len()).find(|at| !self.naive.inboxes[*at].is_empty())
            else {
                break;
            };
            self.turn(busy);
        }
        for shard in 0..self.shards.len() {
            self.compare_directory(shard);
        }
        self.check();
        let mut lost = 0;
        let (mut delivered, mut discarded) = (0, 0);
        for who in 0..self.peers.len() {
            let (peer, client) = (&self.peers[who], &self.clients[who]);
            let unannounced = peer.unannounced;
            lost += client.announced + unannounced;
            delivered += client.delivered;
            discarded += peer.discarded;
            if peer.is_closed {
                assert!(
                    self.naive
                        .topics
                        .values()
                        .all(|topic| !topic.subscribers.contains(&who))
                );
                continue;
            }
            peer.assert_at_rest();
            let mut topics: Vec<_> = peer.topics.iter().map(|of| of.name()).collect();
            topics.sort_unstable();
            let subscribed = self.naive.topics.iter();
            let subscribed = subscribed.filter(|(_, topic)| topic.subscribers.contains(&who));
            assert!(
                topics.iter().eq(subscribed.map(|(name, _)| name)),
                "{topics:?}"
            );
            assert!(self.replaying[who].is_empty());
            let open = client.open_gaps(|topic| self.naive.topics[topic].seq);
            assert_eq!(
                client.gaps + open,
                client.announced + unannounced,
                "connection {who}"
            );
            let lanes = &self.naive.connections[who].expected;
            assert!(
                lanes.values().all(VecDeque::is_empty),
                "{who} misses {lanes:?}"
            );
        }
        let offered: u64 = self
            .shared
            .iter()
            .map(|of| of.counters.offered.value())
            .sum();
        let dropped: u64 = self
            .shared
            .iter()
            .map(|of| of.counters.dropped.value())
            .sum();
        assert_eq!(offered, delivered + dropped + discarded);
        assert_eq!(lost, dropped);
    }
}
