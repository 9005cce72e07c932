//! The sending side of a lane: streams, their templates, and the pace at which they leave.
//!
//! [`Pump`] decides what is to be sent and appends it to the publishers' buffers; it never writes a socket. The lane calls it
//! once for each turn of its loop, so that everything that became possible in one turn leaves in one write.

use super::shared::{Plan, Shared};
use super::subscriber::Books;
use crate::client::Client;
use crate::pace::{Pace, Timetable};
use crate::units::wide;
use crate::wire::{PublishTemplate, Told, is_ack};

/// A window or a flood fills a publisher's buffer up to this.
const UNSENT_BYTES_LOW: usize = 128 << 10;
/// A timetable goes on up to this, then falls behind and says so.
const UNSENT_BYTES_HIGH: usize = 16 << 20;

/// One publisher connection.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    pub(crate) sent: u64,
    /// Acks and refusals.
    pub(crate) answered: u64,
    /// Counted as open.
    pub(crate) settled: bool,
}

impl Publisher {
    pub(crate) fn on_message(&mut self, text: &[u8], books: &mut Books) {
        books.bytes_in += wide(text.len());
        if is_ack(text) {
            self.answered += 1;
            books.acked += 1;
            return;
        }
        match Told::parse(text) {
            Told::Ack { .. } => {
                self.answered += 1;
                books.acked += 1;
            }
            Told::Error(text) => {
                self.answered += 1;
                books.refused += 1;
                books.refusal.get_or_insert(text);
            }
            Told::Heartbeat | Told::ShuttingDown | Told::TopicDeleted => {}
            Told::SlowConsumer { .. } => {
                books.strange("a publisher was told that it is a slow consumer".into());
            }
            Told::Strange(text) => books.strange(text),
        }
    }
}

/// One publisher on one topic.
#[derive(Debug)]
struct Stream {
    number: usize,
    /// Index among the lane's publishers.
    publisher: usize,
    template: PublishTemplate,
    sent: u64,
}

impl Stream {
    fn send(&mut self, client: &mut Client, publisher: &mut Publisher, time_ns: u64) {
        self.sent += 1;
        publisher.sent += 1;
        self.template.append(client.out(), self.sent, time_ns);
    }
}

/// What wants to be sent next, and when.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Next {
    /// Something from outside must happen first.
    Event,
    /// There is more to send at once.
    Now,
    At(u64),
}

/// The window is a topic's: its publishers share it, or together they would overrun a subscriber.
fn shared_window(plan: &Plan) -> Pace {
    match plan.pace {
        Pace::Window(window) => {
            let publishers = wide(plan.streams().div_ceil(plan.topics.len()));
            Pace::Window((window / publishers).max(1))
        }
        other => other,
    }
}

#[derive(Debug)]
pub(crate) struct Pump {
    pace: Pace,
    streams: Vec<Stream>,
    timetable: Option<Timetable>,
    pub(crate) published: u64,
}

impl Pump {
    /// `own` are the streams of this lane, each with the index of its publisher in the lane.
    pub(crate) fn new(plan: &Plan, own: &[(usize, usize)]) -> Self {
        let stream = |&(number, publisher): &(usize, usize)| {
            let topic = &plan.topics[plan.topic_of(number)];
            Stream {
                number,
                publisher,
                template: PublishTemplate::new(topic, wide(number), plan.run, plan.payload_bytes),
                sent: 0,
            }
        };
        Self {
            pace: shared_window(plan),
            streams: own.iter().map(stream).collect(),
            timetable: None,
            published: 0,
        }
    }

    pub(crate) fn start(&mut self, plan: &Plan, start_ns: u64) {
        if let Pace::Rate(rate) = self.pace {
            let own = self.streams.iter().map(|stream| wide(stream.number));
            let table = Timetable::new(start_ns, rate, wide(plan.streams()), own.collect());
            self.timetable = Some(table);
        }
    }

    /// Appends what may leave now. `publishers` are the lane's, and `None` where the connection is over.
    pub(crate) fn fill(
        &mut self,
        publishers: &mut [Option<(Client, Publisher)>],
        books: &mut Books,
        shared: &Shared,
    ) -> Next {
        let before: u64 = self.streams.iter().map(|stream| stream.sent).sum();
        let next = match self.pace {
            Pace::Silent => Next::Event,
            Pace::Window(window) => self.fill_windows(publishers, shared, window),
            Pace::Flood => self.fill_buffers(publishers, shared),
            Pace::Rate(_) => self.fill_due(publishers, books, shared),
        };
        let after: u64 = self.streams.iter().map(|stream| stream.sent).sum();
        if after > before {
            self.published += after - before;
            for stream in &self.streams {
                shared.set_sent(stream.number, stream.sent);
            }
        }
        next
    }

    fn fill_windows(
        &mut self,
        publishers: &mut [Option<(Client, Publisher)>],
        shared: &Shared,
        window: u64,
    ) -> Next {
        let now = shared.now_ns();
        for stream in &mut self.streams {
            let Some((client, publisher)) = &mut publishers[stream.publisher] else {
                continue;
            };
            let target = shared.floor(stream.number).min(stream.sent) + window;
            while stream.sent < target && client.unsent_bytes() < UNSENT_BYTES_LOW {
                stream.send(client, publisher, now);
            }
        }
        Next::Event
    }

    fn fill_buffers(
        &mut self,
        publishers: &mut [Option<(Client, Publisher)>],
        shared: &Shared,
    ) -> Next {
        let now = shared.now_ns();
        let mut next = Next::Event;
        let mut sent = true;
        while sent {
            sent = false;
            for stream in &mut self.streams {
                if let Some((client, publisher)) = &mut publishers[stream.publisher]
                    && client.unsent_bytes() < UNSENT_BYTES_LOW
                {
                    stream.send(client, publisher, now);
                    sent = true;
                    next = Next::Now;
                }
            }
        }
        next
    }

    fn fill_due(
        &mut self,
        publishers: &mut [Option<(Client, Publisher)>],
        books: &mut Books,
        shared: &Shared,
    ) -> Next {
        let Some(table) = &mut self.timetable else {
            return Next::Event;
        };
        let now = shared.now_ns();
        while let Some((number, due)) = table.peek() {
            if due > now {
                return Next::At(due);
            }
            let found = self
                .streams
                .binary_search_by_key(&number, |stream| wide(stream.number));
            let stream = &mut self.streams[found.expect("the timetable lists own streams")];
            let Some((client, publisher)) = &mut publishers[stream.publisher] else {
                table.step();
                continue;
            };
            if client.unsent_bytes() > UNSENT_BYTES_HIGH {
                return Next::Event;
            }
            stream.send(client, publisher, due);
            if books.records(due) {
                books.lateness.saturating_record(now - due);
            }
            table.step();
        }
        Next::Event
    }

    /// Messages that were due before the end and never left the generator.
    pub(crate) fn left_before(&mut self, end_ns: u64) -> u64 {
        let table = self.timetable.as_mut();
        table.map_or(0, |table| table.left_before(end_ns))
    }
}
