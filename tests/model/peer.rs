//! One connection as its thread holds it, with a client that checks what it reads.
//!
//! [`Peer`] does what `connection::flusher` does, with a list in the place of a socket. [`Client`]
//! knows the contract alone.

use std::collections::BTreeMap;

use serde_json::Value;
use shardcast::broker::outbox::{OutboxReceiver, Taken};
use shardcast::broker::placed::Placed;
use shardcast::broker::request::{Membership, Order, Reply};
use shardcast::broker::run::Stamp;

/// What a client reads, in its order.
#[derive(Debug)]
pub(crate) enum Wire {
    Reply(Value),
    Replay(Value),
    Notice(u64),
    Live(Value),
}

/// What one drain took from a ring.
#[derive(Debug)]
pub(crate) struct Drain {
    taken: Vec<Taken>,
    /// Nothing was left.
    is_whole: bool,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) outbox: OutboxReceiver,
    placed: Placed,
    /// Its topics, for the end.
    pub(crate) topics: Vec<String>,
    /// To be flushed.
    pub(crate) is_ready: bool,
    pub(crate) is_closed: bool,
    /// Commands that are with shards, and the bytes of their requests.
    pub(crate) in_flight: u32,
    pub(crate) in_flight_bytes: usize,
    pub(crate) discarded: u64,
    /// Lost before what was discarded.
    lost_at_end: u64,
    pub(crate) written: Vec<Wire>,
}

impl Peer {
    pub(crate) fn new(outbox: OutboxReceiver) -> Self {
        Self {
            outbox,
            placed: Placed::default(),
            topics: Vec::new(),
            is_ready: false,
            is_closed: false,
            in_flight: 0,
            in_flight_bytes: 0,
            discarded: 0,
            lost_at_end: 0,
            written: Vec::new(),
        }
    }

    /// Takes up to `takes_max` runs. They must be queued after the mail has been read.
    pub(crate) fn take_ring(&mut self, takes_max: usize) -> Drain {
        self.is_ready = false;
        self.placed.begin(self.outbox.runs());
        self.outbox.unmark();
        let taken: Vec<_> = std::iter::from_fn(|| self.outbox.take())
            .take(takes_max)
            .collect();
        let is_whole = taken.len() < takes_max;
        self.is_ready = !is_whole;
        Drain { taken, is_whole }
    }

    pub(crate) fn queue(&mut self, drain: Drain) {
        for Taken { run, skip, lost } in drain.taken {
            self.queue_placed(Some(run.stamp()));
            if lost > 0 {
                self.written.push(Wire::Notice(lost));
            }
            let live = frames(run.frames()).into_iter().skip(skip);
            self.written.extend(live.map(Wire::Live));
            self.placed.passed();
        }
        if drain.is_whole {
            self.placed.drained();
        }
        self.queue_placed(None);
    }

    fn queue_placed(&mut self, next: Option<Stamp>) {
        while let Some(reply) = self.placed.due(next) {
            self.queue_reply(reply);
        }
    }

    pub(crate) fn take_reply(&mut self, reply: Reply) {
        self.is_ready = true;
        match &reply.membership {
            None => {}
            Some(Membership::Joined(topic)) => self.topics.push((**topic).into()),
            Some(Membership::Left(topic)) => {
                let index = self.topics.iter().position(|of| **of == **topic);
                self.topics
                    .swap_remove(index.expect("only a subscriber leaves"));
            }
        }
        match reply.order {
            Order::AfterRun(stamp) => self.placed.push(stamp, reply),
            Order::BeforeRing => self.queue_reply(reply),
        }
    }

    fn queue_reply(&mut self, reply: Reply) {
        self.in_flight -= reply.commands;
        self.in_flight_bytes -= reply.request_bytes;
        self.written
            .extend(frames(&reply.frames).into_iter().map(Wire::Reply));
        for kept in reply.replay {
            let replayed = frames(&kept.run.frames()[kept.start..]);
            self.written.extend(replayed.into_iter().map(Wire::Replay));
        }
    }

    /// Ends the connection; returns the topics to leave.
    pub(crate) fn close(&mut self) -> Vec<String> {
        self.is_closed = true;
        self.is_ready = false;
        self.outbox.close();
        self.discard();
        std::mem::take(&mut self.topics)
    }

    /// Counts what is in the ring of a closed connection.
    pub(crate) fn discard(&mut self) {
        while let Some(Taken { run, skip, lost }) = self.outbox.take() {
            self.discarded += (run.events() - skip) as u64;
            self.lost_at_end += lost;
        }
    }

    /// Events that were dropped and that the client was not told of.
    pub(crate) fn unannounced(&self) -> u64 {
        self.lost_at_end + self.outbox.take_lost()
    }

    /// Nothing waits and nothing is owed.
    pub(crate) fn assert_at_rest(&self) {
        assert_eq!(self.outbox.runs(), 0, "a ring nobody was told of");
        assert!(self.placed.is_empty(), "{:?} wait for ever", self.placed);
        assert_eq!((self.in_flight, self.in_flight_bytes), (0, 0));
    }
}

/// The JSON of consecutive text frames.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while let [0x81, len, rest @ ..] = bytes {
        let (len, rest) = match (len, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            _ => (usize::from(*len), rest),
        };
        let (text, rest) = rest.split_at(len);
        values.push(serde_json::from_slice(text).expect("frames hold JSON"));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a broken frame: {bytes:?}");
    values
}

/// A client that reads: it knows what it is subscribed to from the acks alone.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The newest sequence number of each subscription.
    newest: BTreeMap<String, u64>,
    /// Jumps in sequence numbers, over all topics.
    pub(crate) gaps: u64,
    pub(crate) announced: u64,
    pub(crate) delivered: u64,
    /// The last thing about events was a notice.
    just_told: bool,
}

impl Client {
    pub(crate) fn read(&mut self, wire: &Wire) {
        match wire {
            Wire::Reply(reply) => self.read_reply(reply),
            Wire::Replay(event) => {
                let newest = self.newest.get(topic_of(event));
                let newest = newest.expect("a replay follows its ack");
                assert!(event["seq"].as_u64().expect("a number") <= *newest);
            }
            Wire::Notice(lost) => {
                assert!(!self.just_told, "two notices of one episode");
                self.just_told = true;
                self.announced += lost;
            }
            Wire::Live(event) => {
                self.just_told = false;
                self.delivered += 1;
                let newest = self.newest.get_mut(topic_of(event));
                let newest = newest.expect("events follow the ack of a subscribe only");
                let seq = event["seq"].as_u64().expect("a number");
                assert!(seq > *newest, "{event} after {newest}");
                self.gaps += seq - *newest - 1;
                *newest = seq;
                assert!(
                    self.gaps <= self.announced,
                    "{event} is behind a gap that was not announced"
                );
            }
        }
    }

    fn read_reply(&mut self, reply: &Value) {
        if reply["type"] == "ack" && reply.get("epoch").is_some() {
            let seq = reply["seq"].as_u64().expect("a number");
            let topic = topic_of(reply).to_owned();
            if let Some(newest) = self.newest.insert(topic, seq) {
                assert!(newest <= seq, "{reply} after {newest}");
                self.gaps += seq - newest;
            }
        }
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.newest.contains_key(topic)
    }

    /// The subscription to `topic` ends, whose newest event had the number `end_seq`, if that is
    /// known.
    pub(crate) fn leave(&mut self, topic: &str, end_seq: Option<u64>) {
        let newest = self.newest.remove(topic);
        let newest = newest.expect("it was subscribed");
        self.gaps += end_seq.map_or(0, |end_seq| end_seq - newest);
    }

    /// Jumps at the end of each subscription that lasts.
    pub(crate) fn open_gaps(&self, newest: impl Fn(&str) -> u64) -> u64 {
        let missed = |(topic, seen): (&String, &u64)| newest(topic) - seen;
        self.newest.iter().map(missed).sum()
    }
}

pub(crate) fn topic_of(value: &Value) -> &str {
    value["topic"].as_str().expect("it names its topic")
}
