//! Shards and connections on threads of their own: every event is delivered, announced as lost or
//! given up with its connection, and each client sees each topic in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::SegQueue;
use serde_json::Value;
use shardcast::broker::ConnectionId;
use shardcast::broker::Shared;
use shardcast::broker::delivery::{Delivery, Item, Said};
use shardcast::broker::directory::TopicEntry;
use shardcast::broker::inbox::{Bell, Inbox};
use shardcast::broker::request::{Publishes, Replay, Request};
use shardcast::broker::shard::{Shard, ShardLimits};
use shardcast::metrics::ShardCounters;
use shardcast::protocol::policy::Policy;
use shardcast::protocol::time::{Moment, Timestamp};
use tokio::sync::oneshot;

use crate::peer::{Client, Peer, Wire, topic_of};
use crate::random::Random;
use crate::world::ALL;

const SHARDS: usize = 3;
const HOMES: usize = 2;
const TOPICS_OF_A_SHARD: usize = 2;
const ROUNDS: usize = 4_000;

/// On a busy machine fewer rounds do.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A connection may itself wait for the shard: patience ends.
const YIELDS_MAX: usize = 100;

/// What all threads share.
#[derive(Debug, Default)]
struct Machine {
    inboxes: Vec<Arc<Inbox>>,
    shared: Vec<Shared>,
    mail: Vec<SegQueue<Delivery>>,
    homes_at_work: AtomicUsize,
    /// A thread has panicked; the others must not wait for it.
    has_failed: AtomicBool,
}

/// Says so if a thread panics.
struct Watch<'a>(&'a Machine);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.has_failed.store(true, Ordering::Release);
        }
    }
}

fn topic(shard: usize, number: usize) -> String {
    format!("{number} of {shard}")
}

/// The connections of one thread.
struct Home<'a> {
    index: usize,
    machine: &'a Machine,
    random: Random,
    ring: usize,
    peers: Vec<Peer>,
    clients: Vec<Client>,
    /// Requests that found an inbox full when no shard was at work any more.
    refused: Vec<(usize, Request)>,
}

impl Home<'_> {
    fn connect(&mut self) {
        let slot = self.peers.len();
        let id = ConnectionId::new(self.index, u32::try_from(slot).expect("small"), 1);
        self.peers.push(Peer::new(id, self.ring));
        self.clients.push(Client::default());
    }

    /// A shard that is at its work makes room sooner or later.
    fn push(&mut self, shard: usize, request: Request) {
        let mut waiting = request;
        while let Err(refused) = self.machine.inboxes[shard].push(waiting) {
            if self.machine.homes_at_work.load(Ordering::Acquire) == 0 {
                self.refused.push((shard, refused));
                return;
            }
            waiting = refused;
            assert!(
                !self.machine.has_failed.load(Ordering::Acquire),
                "a shard failed"
            );
            std::thread::yield_now();
        }
    }

    /// Subscribes or unsubscribes.
    fn change(&mut self, who: usize) {
        let shard = self.random.below(SHARDS);
        let topic = topic(shard, self.random.below(TOPICS_OF_A_SHARD));
        self.peers[who].in_flight += 1;
        let subscriber = self.peers[who].id;
        let request = if self.random.one_in(3) {
            Request::Unsubscribe {
                subscriber,
                topic: topic.into(),
                request_id: None,
            }
        } else {
            Request::Subscribe {
                subscriber,
                topic: topic.into(),
                replay: Replay::Last(self.random.below(4) as u64),
                policy: Policy::All,
                is_inline: self.random.one_in(2),
                request_id: None,
            }
        };
        self.push(shard, request);
    }

    fn close(&mut self, who: usize) {
        for topic in self.peers[who].close() {
            self.leave(who, &topic);
        }
    }

    fn leave(&mut self, who: usize, topic: &Arc<TopicEntry>) {
        let request = Request::Leave {
            connection: self.peers[who].id,
            topics: vec![Arc::clone(topic)],
            is_told: false,
        };
        self.push(topic.shard(), request);
    }

    fn read_mail(&mut self) {
        while let Some(delivery) = self.machine.mail[self.index].pop() {
            for item in delivery.items {
                match item {
                    Item::Reply(reply) => {
                        let who = reply.to.slot();
                        if !self.peers[who].is_closed {
                            self.peers[who].take_reply(reply);
                        } else if let Said::Subscribed {
                            topic,
                            is_new: true,
                            ..
                        } = reply.said
                        {
                            self.leave(who, &topic);
                        }
                    }
                    Item::Events { run, to } => {
                        to.iter()
                            .for_each(|id| self.peers[id.slot()].take_events(&run));
                    }
                }
            }
        }
    }

    fn flush(&mut self, who: usize, takes_max: usize) {
        if !self.peers[who].is_ready {
            return;
        }
        if let Some(wanted) = self.peers[who].flush(takes_max) {
            let subscriber = self.peers[who].id;
            self.push(wanted.topic.shard(), Request::Fetch { subscriber, wanted });
        }
        for wire in std::mem::take(&mut self.peers[who].written) {
            let client = &mut self.clients[who];
            client.read(&wire);
            if let Wire::Reply(reply) = wire
                && reply["seq"] == Value::Null
                && client.is_subscribed(topic_of(&reply))
            {
                client.leave(topic_of(&reply), None);
            }
        }
    }

    fn live(&mut self) {
        (0..5).for_each(|_| self.connect());
        let began = Instant::now();
        for round in 0..ROUNDS {
            if round > ROUNDS / 10 && began.elapsed() > TIME_MAX {
                break;
            }
            self.read_mail();
            let who = self.random.between(1, self.peers.len() - 1);
            match self.random.below(20) {
                0..4 if !self.peers[who].is_closed => self.change(who),
                4 => self.change(0),
                5 if self.peers.len() < 30 => {
                    self.close(who);
                    self.connect();
                }
                _ => {}
            }
            // The first connection takes nothing while others live.
            for who in 1..self.peers.len() {
                match self.random.below(4) {
                    0 => {}
                    1 => {
                        let takes_max = self.random.between(1, 4);
                        self.flush(who, takes_max);
                    }
                    _ => self.flush(who, ALL),
                }
            }
        }
    }

    /// Reads and writes all that is left. True if there was something.
    fn settle(&mut self) -> bool {
        let mut is_busy = !self.machine.mail[self.index].is_empty();
        for (shard, request) in std::mem::take(&mut self.refused) {
            is_busy = true;
            self.push(shard, request);
        }
        self.read_mail();
        for who in 0..self.peers.len() {
            self.flush(who, ALL);
        }
        is_busy || !self.refused.is_empty() || self.peers.iter().any(|peer| peer.is_ready)
    }
}

/// Publishes to the topics of one shard and turns it, for as long as a connection lives.
fn publish(machine: &Machine, shard: &mut Shard, index: usize, seed: u64) {
    let mut random = Random(seed);
    let publisher = ConnectionId::new(HOMES, 0, 1);
    let _watch = Watch(machine);
    while machine.homes_at_work.load(Ordering::Acquire) > 0
        && !machine.has_failed.load(Ordering::Acquire)
    {
        let mut batch = Publishes::new(publisher, Moment::default());
        for _ in 0..random.between(1, 8) {
            let topic = topic(index, random.below(TOPICS_OF_A_SHARD));
            batch.push(&topic, "id", "0", "", true, false);
        }
        // It is full now and then: then the requests of others have their turn first.
        drop(machine.inboxes[index].push(Request::Publish(batch)));
        // Connections get about as much as they take, or nobody would ever be near the edge.
        for _ in 0..YIELDS_MAX {
            if machine.mail.iter().all(|mail| mail.len() < 2) {
                break;
            }
            std::thread::yield_now();
        }
        if random.one_in(3) {
            turn(machine, shard);
        }
    }
}

fn turn(machine: &Machine, shard: &mut Shard) {
    shard.turn(Timestamp::from_unix_ms(0), &mut |home, delivery| {
        machine.mail[home].push(delivery);
    });
}

fn shard(machine: &Machine, index: usize, run_events_max: usize) -> Shard {
    let limits = ShardLimits {
        history_events_max: 4,
        history_bytes_max: usize::MAX,
        turn_bytes_max: usize::MAX,
        run_events_max,
        turn_topic_events_max: 16,
        turn_events_max: 64,
        turn_requests_max: 16,
        topics_max: 100,
        auto_create: false,
    };
    let inbox = Arc::clone(&machine.inboxes[index]);
    let mut made = Shard::new(index, HOMES, inbox, limits, machine.shared[index].clone());
    for number in 0..TOPICS_OF_A_SHARD {
        let (reply, _) = oneshot::channel();
        let name = topic(index, number).into();
        let create = Request::Create { name, reply };
        machine.inboxes[index].push(create).expect("it is empty");
        turn(machine, &mut made);
    }
    made
}

/// One world of threads, and the balance of it at the end.
pub(crate) fn run(seed: u64) {
    let mut random = Random(seed);
    let mut machine = Machine::default();
    for _ in 0..SHARDS {
        let inbox = Inbox::new(8, Arc::new(Bell::default()));
        machine.inboxes.push(Arc::new(inbox));
        machine.shared.push(Shared::default());
    }
    machine.mail.extend((0..HOMES).map(|_| SegQueue::new()));
    machine.homes_at_work.store(HOMES, Ordering::Release);
    let machine = &machine;
    let run_events_max = random.between(1, 4);
    let ring = random.between(1, 24);
    let mut shards: Vec<_> = (0..SHARDS)
        .map(|index| shard(machine, index, run_events_max))
        .collect();
    let mut homes: Vec<_> = (0..HOMES)
        .map(|index| Home {
            index,
            machine,
            random: Random(seed + 100 + index as u64),
            ring,
            peers: Vec::new(),
            clients: Vec::new(),
            refused: Vec::new(),
        })
        .collect();
    std::thread::scope(|scope| {
        for (index, shard) in shards.iter_mut().enumerate() {
            scope.spawn(move || {
                publish(machine, shard, index, seed + index as u64);
            });
        }
        for home in &mut homes {
            scope.spawn(|| {
                let _watch = Watch(machine);
                home.live();
                machine.homes_at_work.fetch_sub(1, Ordering::AcqRel);
            });
        }
    });
    loop {
        let is_busy = homes
            .iter_mut()
            .fold(false, |busy, home| home.settle() | busy);
        for shard in &mut shards {
            turn(machine, shard);
        }
        if !is_busy && shards.iter().all(|shard| !shard.has_work()) {
            break;
        }
    }
    check(machine, &mut homes, seed);
}

fn check(machine: &Machine, homes: &mut [Home<'_>], seed: u64) {
    let (mut delivered, mut lost, mut discarded) = (0, 0, 0);
    for home in homes {
        for (peer, client) in home.peers.iter_mut().zip(&home.clients) {
            if !peer.is_closed {
                peer.assert_at_rest();
            }
            delivered += client.delivered;
            lost += client.announced + peer.unannounced;
            discarded += peer.discarded;
        }
    }
    let sum = |counter: fn(&ShardCounters) -> u64| -> u64 {
        machine.shared.iter().map(|of| counter(&of.counters)).sum()
    };
    let (offered, dropped) = (sum(|of| of.offered.value()), sum(|of| of.dropped.value()));
    assert!(
        delivered > 0 && dropped > 0,
        "seed {seed}: {delivered} delivered, {dropped} dropped, {discarded} discarded"
    );
    assert_eq!(offered, delivered + dropped + discarded, "seed {seed}");
    assert_eq!(lost, dropped, "seed {seed}");
}
