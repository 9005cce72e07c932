//! The real broker and the naive one side by side, under the same operations.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde_json::Value;
use shardcast::broker::ConnectionId;
use shardcast::broker::Shared;
use shardcast::broker::delivery::Refusal;
use shardcast::broker::delivery::{Delivery, Item as ShardItem, Said};
use shardcast::broker::directory::TopicEntry;
use shardcast::broker::inbox::{Bell, Inbox};
use shardcast::broker::request::{Created, Publishes, Replay, Request};
use shardcast::broker::shard::{Shard, ShardLimits};
use shardcast::protocol::policy::Policy;
use shardcast::protocol::time::{Moment, Timestamp};
use tokio::sync::oneshot;

use crate::naive::{Command, Item, Limits, Naive, Wanted};
use crate::peer::{Client, Peer};
use crate::random::Random;

/// More takes than a ring and its markers ever need.
pub(crate) const ALL: usize = 10_000;

/// Where the answer to a request without a connection comes out.
#[derive(Debug)]
pub(crate) enum Pending {
    Created(oneshot::Receiver<Created>),
    Deleted(oneshot::Receiver<Result<bool, Refusal>>),
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) naive: Naive,
    pub(crate) shards: Vec<Option<Shard>>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) shared: Vec<Shared>,
    pub(crate) topics_total: Arc<AtomicUsize>,
    /// Deliveries that no thread has read yet, by thread.
    pub(crate) mail: Vec<VecDeque<Delivery>>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) clients: Vec<Client>,
    /// What each client must read next.
    pub(crate) replaying: Vec<VecDeque<Value>>,
    pub(crate) pending: Vec<VecDeque<Pending>>,
    pub(crate) epochs: BTreeMap<u64, String>,
    /// Connections are flushed while a shard is in the middle of a turn: then rings hold other
    /// events than in the naive broker, and only the contract is checked.
    pub(crate) is_interleaved: bool,
    pub(crate) now: u64,
    pub(crate) requests: u64,
    pub(crate) log: String,
    /// Requests that came up inside a turn of their own shard.
    late: Vec<(usize, Request, Command)>,
}

impl World {
    pub(crate) fn new(seed: u64, limits: Limits, homes: usize, is_interleaved: bool) -> Self {
        let topics_total = Arc::<AtomicUsize>::default();
        let inboxes: Vec<_> = (0..limits.shards)
            .map(|_| Arc::new(Inbox::new(64, Arc::new(Bell::default()))))
            .collect();
        let shared: Vec<_> = inboxes
            .iter()
            .map(|_| Shared {
                topics_total: Arc::clone(&topics_total),
                ..Shared::default()
            })
            .collect();
        let make = |index: usize| {
            let real = ShardLimits {
                history_events_max: limits.history,
                history_bytes_max: usize::MAX,
                turn_bytes_max: usize::MAX,
                run_events_max: limits.run,
                turn_topic_events_max: limits.turn_topic_events,
                turn_events_max: limits.turn_events,
                turn_requests_max: limits.turn_requests,
                topics_max: limits.topics,
                auto_create: limits.auto_create,
            };
            let (inbox, shared) = (Arc::clone(&inboxes[index]), shared[index].clone());
            Shard::new(index, homes, inbox, real, shared)
        };
        Self {
            random: Random(seed),
            shards: (0..limits.shards).map(|index| Some(make(index))).collect(),
            mail: (0..homes).map(|_| VecDeque::new()).collect(),
            pending: inboxes.iter().map(|_| VecDeque::new()).collect(),
            log: format!("seed {seed}, {homes} homes, interleaved {is_interleaved}, {limits:?}"),
            naive: Naive::new(limits),
            inboxes,
            shared,
            topics_total,
            peers: Vec::new(),
            clients: Vec::new(),
            replaying: Vec::new(),
            epochs: BTreeMap::new(),
            is_interleaved,
            now: 0,
            late: Vec::new(),
            requests: 0,
        }
    }

    pub(crate) fn note(&mut self, operation: &str) {
        let step = self.log.lines().count();
        writeln!(self.log, "\n{step:4} {operation}").expect("a String takes all");
        self.log.pop();
    }

    pub(crate) fn connect(&mut self) -> usize {
        let who = self.peers.len();
        let home = self.random.below(self.mail.len());
        self.note(&format!("connection {who} lives on home {home}"));
        let id = ConnectionId::new(home, u32::try_from(who).expect("small"), 1);
        self.peers.push(Peer::new(id, self.naive.limits.ring));
        self.clients.push(Client::default());
        self.replaying.push(VecDeque::new());
        self.naive
            .connections
            .push(crate::naive::Connection::default());
        who
    }

    fn home_of(&self, who: usize) -> usize {
        self.peers[who].id.core()
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("r{}", self.requests)
    }

    fn push(&mut self, shard: usize, request: Request, command: Command) {
        if self.shards[shard].is_none() {
            // A flush inside this shard's turn: the naive broker has had that turn already.
            self.late.push((shard, request, command));
            return;
        }
        self.note(&format!("→ shard {shard}: {command:?}"));
        self.inboxes[shard]
            .push(request)
            .expect("the inbox is longer than a script between two turns");
        self.naive.inboxes[shard].push_back(command);
    }

    /// Whether another request fits into every inbox.
    pub(crate) fn has_room(&self) -> bool {
        self.naive.inboxes.iter().all(|inbox| inbox.len() < 32)
    }

    pub(crate) fn create(&mut self, topic: &str) {
        let (reply, answer) = oneshot::channel();
        let shard = self.naive.shard_of(topic);
        self.pending[shard].push_back(Pending::Created(answer));
        let name = topic.into();
        let topic = topic.into();
        self.push(
            shard,
            Request::Create { name, reply },
            Command::Create { topic },
        );
    }

    pub(crate) fn delete(&mut self, topic: &str) {
        let (reply, answer) = oneshot::channel();
        let shard = self.naive.shard_of(topic);
        self.pending[shard].push_back(Pending::Deleted(answer));
        let name = topic.into();
        let topic = topic.into();
        self.push(
            shard,
            Request::Delete { name, reply },
            Command::Delete { topic },
        );
    }

    pub(crate) fn subscribe(&mut self, who: usize, topic: &str, wanted: Wanted) {
        let request_id = self.request_id();
        let replay = match &wanted {
            Wanted::Nothing => Replay::None,
            Wanted::Last(n) => Replay::Last(*n),
            Wanted::Since { epoch, seq } => Replay::Since {
                epoch: self.epochs.get(epoch).map_or("none", |epoch| epoch).into(),
                seq: *seq,
            },
        };
        let wanted = match wanted {
            Wanted::Since { epoch, seq } if !self.epochs.contains_key(&epoch) => {
                Wanted::Since { epoch: 0, seq }
            }
            known => known,
        };
        self.peers[who].in_flight += 1;
        let request = Request::Subscribe {
            subscriber: self.peers[who].id,
            topic: topic.into(),
            replay,
            policy: Policy::All,
            is_inline: self.random.one_in(2),
            request_id: Some(format!("\"{request_id}\"").into()),
        };
        let command = Command::Subscribe {
            who,
            topic: topic.into(),
            wanted,
            request_id,
        };
        self.push(self.naive.shard_of(topic), request, command);
    }

    pub(crate) fn unsubscribe(&mut self, who: usize, topic: &str) {
        let request_id = self.request_id();
        self.peers[who].in_flight += 1;
        let request = Request::Unsubscribe {
            subscriber: self.peers[who].id,
            topic: topic.into(),
            request_id: Some(format!("\"{request_id}\"").into()),
        };
        let command = Command::Unsubscribe {
            who,
            topic: topic.into(),
            request_id,
        };
        self.push(self.naive.shard_of(topic), request, command);
    }

    /// Publishes one message to each of `topics`, as one batch for each shard.
    pub(crate) fn publish(&mut self, who: usize, topics: &[String]) {
        let mut batches: BTreeMap<usize, (Publishes, Vec<Item>)> = BTreeMap::new();
        for topic in topics {
            let request_id = self.request_id();
            let number = self.requests;
            let item = Item {
                topic: topic.clone(),
                id: format!("id-{number}"),
                payload: format!("{{\"n\":{number}}}"),
                ack: !self.random.one_in(4),
                request_id,
            };
            let sender = self.peers[who].id;
            let (publishes, items) = batches
                .entry(self.naive.shard_of(topic))
                .or_insert_with(|| (Publishes::new(sender, Moment::default()), Vec::new()));
            let quoted = format!("\"{}\"", item.request_id);
            publishes.push(topic, &item.id, &item.payload, &quoted, item.ack, false);
            items.push(item);
        }
        for (shard, (publishes, items)) in batches {
            self.peers[who].in_flight += u32::try_from(items.len()).expect("small");
            self.peers[who].in_flight_bytes += publishes.text.len();
            let request = Request::Publish(publishes);
            self.push(shard, request, Command::Publish { who, items });
        }
    }

    pub(crate) fn close(&mut self, who: usize) {
        self.note(&format!("connection {who} closes"));
        self.read_mail(self.home_of(who));
        let topics = self.peers[who].close();
        let naive = &mut self.naive.connections[who];
        naive.is_closed = true;
        if !self.is_interleaved {
            assert_eq!(self.peers[who].discarded, naive.ring.len() as u64);
        }
        for topic in topics {
            self.leave(who, &topic);
        }
    }

    fn leave(&mut self, who: usize, topic: &Arc<TopicEntry>) {
        let request = Request::Leave {
            connection: self.peers[who].id,
            topics: vec![Arc::clone(topic)],
            is_told: false,
        };
        let topics = vec![(topic.name().into(), topic.epoch().into())];
        let command = Command::Leave { who, topics };
        self.push(self.naive.shard_of(topic.name()), request, command);
    }

    /// One turn of a shard, in both brokers.
    pub(crate) fn turn(&mut self, index: usize) {
        self.note(&format!("turn of shard {index}"));
        self.now += 1;
        let ts = Timestamp::from_unix_ms(1_756_116_000_000 + self.now);
        self.naive.turn(index, ts.as_str());
        let mut shard = self.shards[index].take().expect("turns do not nest");
        shard.turn(ts, &mut |home, delivery| {
            assert_eq!(delivery.shard, index);
            self.mail[home].push_back(delivery);
            if self.is_interleaved && self.random.one_in(2) {
                let who = self.random.below(self.peers.len());
                let takes_max = self.random.between(1, 4);
                self.flush(who, takes_max);
            }
        });
        self.shards[index] = Some(shard);
        self.learn_epochs(index);
        for (shard, request, command) in std::mem::take(&mut self.late) {
            self.push(shard, request, command);
        }
        let waits = !self.naive.inboxes[index].is_empty();
        assert_eq!(
            self.shards[index].as_ref().map(Shard::has_work),
            Some(waits)
        );
        self.compare_answers(index);
        self.compare_directory(index);
    }

    /// Which creation is behind each epoch.
    fn learn_epochs(&mut self, shard: usize) {
        for entry in self.shared[shard].directory.snapshot().iter() {
            if let Some(topic) = self.naive.topics.get(entry.name()) {
                let shown = &mut self.naive.shown;
                let creation = *shown.entry(entry.epoch().into()).or_insert(topic.epoch);
                assert_eq!(
                    creation,
                    topic.epoch,
                    "{} has another's epoch",
                    entry.name()
                );
            }
        }
    }

    /// Flushes a connection if it is to be flushed, as far as `takes_max` runs.
    pub(crate) fn flush(&mut self, who: usize, takes_max: usize) {
        if !self.peers[who].is_ready || self.peers[who].is_closed {
            return;
        }
        self.note(&format!("flush of connection {who}: {takes_max}"));
        self.read_mail(self.home_of(who));
        if let Some(wanted) = self.peers[who].flush(takes_max) {
            let subscriber = self.peers[who].id;
            let shard = self.naive.shard_of(wanted.topic.name());
            let request = Request::Fetch { subscriber, wanted };
            self.push(shard, request, Command::Fetch);
        }
        self.compare(who);
    }

    pub(crate) fn read_mail(&mut self, home: usize) {
        while let Some(delivery) = self.mail[home].pop_front() {
            for item in delivery.items {
                match item {
                    ShardItem::Reply(reply) => {
                        let who = reply.to.slot();
                        if self.peers[who].is_closed {
                            self.forget(who, reply.said);
                            continue;
                        }
                        self.peers[who].take_reply(reply);
                        self.compare(who);
                    }
                    ShardItem::Events { run, to } => {
                        to.iter()
                            .for_each(|id| self.peers[id.slot()].take_events(&run));
                    }
                }
            }
        }
    }

    fn forget(&mut self, who: usize, said: Said) {
        if let Said::Subscribed {
            topic,
            is_new: true,
            ..
        } = said
        {
            self.leave(who, &topic);
        }
    }
}

impl Drop for World {
    #[expect(clippy::print_stderr, reason = "the way to the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log);
        }
    }
}
