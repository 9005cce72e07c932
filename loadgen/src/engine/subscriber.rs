//! A subscriber's messages: events are checked and timed, everything else is understood slowly.
//!
//! Called by the lane for each message. [`Books`] is what all connections of a lane write into.

use hdrhistogram::Histogram;

use super::shared::{Plan, Shared};
use crate::check::SubscriberCheck;
use crate::pace::Floor;
use crate::units::wide;
use crate::wire::{EventShape, Mark, Told};

/// Latencies from 1 ns to an hour, to three digits.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("constant bounds are legal")
}

/// What all connections of a lane write into.
#[derive(Debug)]
pub(crate) struct Books {
    /// By topic.
    shapes: Vec<EventShape>,
    /// By stream: how far this lane's subscribers are.
    pub(crate) floors: Vec<Floor>,
    /// Streams whose floor rose since somebody looked.
    pub(crate) risen: Vec<usize>,
    pub(crate) latency: Histogram<u64>,
    pub(crate) lateness: Histogram<u64>,
    /// Latencies of messages due in this span are recorded.
    pub(crate) record_ns: (u64, u64),
    pub(crate) deliveries: u64,
    pub(crate) bytes_in: u64,
    pub(crate) announced: u64,
    pub(crate) broken: u64,
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) refusal: Option<String>,
    /// Messages that the contract has no place for.
    pub(crate) strange: u64,
    pub(crate) strangest: Option<String>,
}

impl Books {
    pub(crate) fn new(plan: &Plan) -> Self {
        let shape =
            |topic: &String| EventShape::new(topic, plan.payload_bytes, plan.record_latency);
        Self {
            shapes: plan.topics.iter().map(shape).collect(),
            floors: (0..plan.streams()).map(|_| Floor::default()).collect(),
            risen: Vec::new(),
            latency: latency_histogram(),
            lateness: latency_histogram(),
            record_ns: (0, 0),
            deliveries: 0,
            bytes_in: 0,
            announced: 0,
            broken: 0,
            acked: 0,
            refused: 0,
            refusal: None,
            strange: 0,
            strangest: None,
        }
    }

    pub(crate) fn strange(&mut self, what: String) {
        self.strange += 1;
        self.broken += 1;
        self.strangest.get_or_insert(what);
    }

    pub(crate) fn records(&self, time_ns: u64) -> bool {
        time_ns >= self.record_ns.0 && time_ns < self.record_ns.1
    }
}

/// Where a subscriber is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Subscribed,
    Refused,
}

#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) topic: usize,
    /// Its place in the floors of its topic's streams; none for one that stalls.
    place: Option<usize>,
    pub(crate) check: SubscriberCheck,
    pub(crate) standing: Standing,
    /// Chosen to stop reading while messages flow.
    pub(crate) stalls: bool,
}

impl Subscriber {
    pub(crate) fn new(plan: &Plan, number: usize, books: &mut Books) -> Self {
        let topic = number % plan.topics.len();
        let stalls = number < plan.stalled;
        let mut place = None;
        if !stalls {
            for stream in plan.streams_of(topic) {
                place = Some(books.floors[stream].join());
            }
        }
        Self {
            topic,
            place,
            check: SubscriberCheck::new(plan.streams_of(topic).count()),
            standing: Standing::Waiting,
            stalls,
        }
    }

    pub(crate) fn on_message(
        &mut self,
        text: &[u8],
        books: &mut Books,
        plan: &Plan,
        shared: &Shared,
    ) {
        books.bytes_in += wide(text.len());
        match books.shapes[self.topic].read(text) {
            Some(mark) => self.on_event(mark, books, plan, shared),
            None => self.on_told(Told::parse(text), books),
        }
    }

    fn on_event(&mut self, mark: Mark, books: &mut Books, plan: &Plan, shared: &Shared) {
        let stream = usize::try_from(mark.stream).unwrap_or(usize::MAX);
        if stream >= plan.streams() || plan.topic_of(stream) != self.topic {
            return books.strange(format!("an event of a foreign stream: {mark:?}"));
        }
        books.deliveries += 1;
        let before = (self.check.tally.announced, self.check.tally.broken());
        self.check
            .on_event(mark.seq, plan.ordinal_of(stream), mark.number);
        books.announced += self.check.tally.announced - before.0;
        books.broken += self.check.tally.broken() - before.1;
        if plan.record_latency && !self.stalls && books.records(mark.time_ns) {
            let latency = shared.now_ns().saturating_sub(mark.time_ns);
            books.latency.saturating_record(latency);
        }
        if let Some(place) = self.place
            && books.floors[stream].advance(place, mark.number)
        {
            books.risen.push(stream);
        }
    }

    fn on_told(&mut self, told: Told, books: &mut Books) {
        match told {
            Told::Ack { seq } => {
                self.check.subscribed_at(seq);
                self.standing = Standing::Subscribed;
            }
            Told::SlowConsumer { dropped } => self.check.on_notice(dropped),
            Told::Error(text) if self.standing == Standing::Waiting => {
                books.refusal.get_or_insert(text);
                self.standing = Standing::Refused;
            }
            Told::Heartbeat | Told::ShuttingDown | Told::TopicDeleted => {}
            Told::Error(text) | Told::Strange(text) => books.strange(text),
        }
    }

    /// Nobody waits any more for one whose connection is over.
    pub(crate) fn leave(&mut self, books: &mut Books, plan: &Plan) {
        let Some(place) = self.place.take() else {
            return;
        };
        for stream in plan.streams_of(self.topic) {
            if books.floors[stream].leave(place) {
                books.risen.push(stream);
            }
        }
    }

    /// Whether the newest of every stream has arrived.
    pub(crate) fn is_done(&self, plan: &Plan, shared: &Shared) -> bool {
        let mut streams = plan.streams_of(self.topic).enumerate();
        streams.all(|(ordinal, stream)| self.check.last_number(ordinal) >= shared.sent(stream))
    }

    pub(crate) fn finish(&mut self, plan: &Plan, shared: &Shared) {
        let sent = plan
            .streams_of(self.topic)
            .map(|stream| shared.sent(stream));
        self.check.finish(sent.sum());
    }
}
