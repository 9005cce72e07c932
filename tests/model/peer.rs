//! One connection as its thread holds it, with a client that checks what it reads.
//!
//! [`Peer`] does what `connection::flusher` does, with a list in the place of a socket. [`Client`]
//! knows the contract alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use shardcast::broker::ConnectionId;
use shardcast::broker::delivery::{Reply, Said};
use shardcast::broker::directory::TopicEntry;
use shardcast::broker::history::Kept;
use shardcast::broker::ring::{Fetch, Next, Ring, RingLimits};
use shardcast::broker::run::Run;
use shardcast::protocol::native;

/// What a client reads, in its order.
#[derive(Debug)]
pub(crate) enum Wire {
    Reply(Value),
    Replay(Value),
    /// Events of a replay that the history let go of before they were asked for.
    ReplayLost(u64),
    Notice(u64),
    Live(Value),
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: ConnectionId,
    ring: Ring,
    limits: RingLimits,
    /// Its topics, for the end.
    pub(crate) topics: Vec<Arc<TopicEntry>>,
    /// To be flushed.
    pub(crate) is_ready: bool,
    pub(crate) is_closed: bool,
    /// Commands that are with shards, and the bytes of their requests.
    pub(crate) in_flight: u32,
    pub(crate) in_flight_bytes: usize,
    pub(crate) discarded: u64,
    /// Lost before what was discarded.
    pub(crate) unannounced: u64,
    pub(crate) written: Vec<Wire>,
}

impl Peer {
    pub(crate) fn new(id: ConnectionId, ring_max: usize) -> Self {
        Self {
            id,
            ring: Ring::default(),
            limits: RingLimits {
                events_max: ring_max,
                bytes_max: usize::MAX,
            },
            topics: Vec::new(),
            is_ready: false,
            is_closed: false,
            in_flight: 0,
            in_flight_bytes: 0,
            discarded: 0,
            unannounced: 0,
            written: Vec::new(),
        }
    }

    /// Takes up to `takes_max` things off the ring. Returns what is to be asked for.
    pub(crate) fn flush(&mut self, takes_max: usize) -> Option<Fetch> {
        let mut wanted = None;
        for _ in 0..takes_max {
            match self.ring.take() {
                Next::Replies(bytes) => self
                    .written
                    .extend(frames(&bytes).into_iter().map(Wire::Reply)),
                Next::Replay(piece) => {
                    if piece.lost > 0 {
                        self.written.push(Wire::ReplayLost(piece.lost));
                    }
                    piece.kept.iter().for_each(|kept| self.write_kept(kept));
                }
                Next::Fetch(fetch) => {
                    assert!(wanted.is_none(), "one piece at a time");
                    wanted = Some(fetch);
                }
                Next::Events { run, skip, lost } => {
                    if lost > 0 {
                        self.written.push(Wire::Notice(lost));
                    }
                    let live = frames(run.frames()).into_iter().skip(skip);
                    self.written.extend(live.map(Wire::Live));
                }
                Next::Newest(_) => unreachable!("every subscription here wants all events"),
                Next::Nothing => break,
            }
        }
        self.is_ready = self.ring.is_ready();
        wanted
    }

    fn write_kept(&mut self, kept: &Kept) {
        let replayed = frames(&kept.run.frames()[kept.start..]);
        self.written.extend(replayed.into_iter().map(Wire::Replay));
    }

    pub(crate) fn take_events(&mut self, run: &Arc<Run>) {
        if self.is_closed {
            self.discarded += run.events() as u64;
        } else {
            self.ring.push(run, self.limits);
            self.is_ready = true;
        }
    }

    pub(crate) fn take_reply(&mut self, reply: Reply) {
        let Reply { ts, said, .. } = reply;
        self.in_flight -= said.commands();
        self.in_flight_bytes -= said.request_bytes();
        self.ring
            .push_replies(|out| said.answers(|answer| native::encode(out, answer, ts)));
        match said {
            Said::Subscribed {
                topic,
                is_new,
                replay,
                ..
            } => {
                if is_new {
                    self.topics.push(Arc::clone(&topic));
                }
                if let Some((piece, rest)) = replay {
                    self.ring.push_replay(piece, rest);
                }
            }
            Said::Unsubscribed {
                left: Some(topic), ..
            }
            | Said::TopicDeleted(topic) => {
                let index = self.topics.iter().position(|of| Arc::ptr_eq(of, &topic));
                self.topics
                    .swap_remove(index.expect("only a subscriber leaves"));
            }
            Said::Replayed(piece) => self.ring.arrived(piece),
            _ => {}
        }
        self.is_ready = self.ring.is_ready();
    }

    /// Ends the connection; returns the topics to leave.
    pub(crate) fn close(&mut self) -> Vec<Arc<TopicEntry>> {
        self.is_closed = true;
        self.is_ready = false;
        let (discarded, lost) = self.ring.give_up_events();
        self.discarded += discarded;
        self.unannounced += lost;
        std::mem::take(&mut self.topics)
    }

    /// Nothing waits and nothing is owed.
    pub(crate) fn assert_at_rest(&self) {
        assert!(self.ring.is_empty(), "a ring nobody was told of");
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
            Wire::ReplayLost(_) => {}
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
