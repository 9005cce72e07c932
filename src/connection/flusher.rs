//! (9) Writes what waits for every connection that is ready, in one system call for all of them.
//!
//! A flush *gathers* from the rings, *submits* all sends together, and *settles* each by its
//! result. A socket that would block keeps the rest and is parked until it takes bytes again; it
//! holds up nobody. Without `io_uring` the sends are one `write` each, with the same result.
//!
//! What is gathered has left its ring and cannot be dropped any more, so it is bounded by
//! one write of 64 KiB.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use sendmany::{SENDS_MAX, SendMany};
use tokio::io::Interest;

use super::figures::tenths;
use super::local::Local;
use super::outgoing::{Segment, Unsent, advance};
use super::{Connection, Phase, hand_in};
use crate::broker::request::Request;
use crate::broker::ring::{Next, Piece};
use crate::metrics::CoreCounters;
use crate::protocol::answer::Answer;
use crate::protocol::codes::CloseCode;
use crate::protocol::dialect::Dialect;
use crate::protocol::time::Moment;
use crate::wire::tls::Sealed;

/// Bytes taken from a ring for one send. What waits beyond them stays in the ring, where the
/// oldest can still be dropped.
const FLUSH_BYTES_MAX: usize = 64 * 1024;

/// Slices in one send.
const SLICES_MAX: usize = 64;

/// One core's flusher, and the memory for one batch of sends.
#[derive(Debug)]
pub(crate) struct Flusher {
    /// Absent where `io_uring` is off or not to be had.
    many: Option<SendMany>,
    ready: Vec<Rc<Connection>>,
    sends: Vec<Send>,
    segments: Vec<Segment>,
    results: Vec<io::Result<usize>>,
}

/// What is gathered for one connection.
#[derive(Debug)]
struct Send {
    connection: Rc<Connection>,
    /// How many of the batch's segments are its own, and how far the first of them is written.
    segments: usize,
    written: usize,
    /// What is sent in their place, if the connection came with TLS.
    sealed: Option<Box<Sealed>>,
}

impl Flusher {
    /// Sends through `many`, or by one write each.
    pub(crate) fn new(many: Option<SendMany>) -> Self {
        Self {
            many,
            ready: Vec::new(),
            sends: Vec::new(),
            segments: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Flushes every connection that is ready, once.
    pub(crate) fn flush(&mut self, local: &Local) {
        let mut ready = std::mem::take(&mut self.ready);
        local.take_ready(&mut ready);
        for connection in ready.drain(..) {
            connection.is_ready.set(false);
            self.gather(local, connection);
            if self.sends.len() == SENDS_MAX {
                self.send(local);
            }
        }
        self.ready = ready;
        self.send(local);
    }

    /// Takes what is to be sent to one connection now.
    fn gather(&mut self, local: &Local, connection: Rc<Connection>) {
        if connection.has_overflowed.get() {
            end_slow_consumer(local, &connection);
        }
        if connection.is_parked.get() || connection.phase.get() == Phase::Ended {
            connection.after_flush(local);
            return;
        }
        let first = self.segments.len();
        let mut written = 0;
        let unsent = connection.unsent.borrow_mut().take();
        if let Some(unsent) = unsent {
            written = unsent.written;
            self.segments.extend(unsent.segments);
        }
        fill(local, &connection, first, &mut self.segments);
        let segments = self.segments.len() - first;
        if segments == 0 && !connection.has_sealed() {
            connection.after_flush(local);
            return;
        }
        let own = self.segments.get(first..).unwrap_or_default();
        let sealed = connection
            .tls
            .as_ref()
            .map(|tls| tls.seal(slices(own, written)));
        if let Some(None) = sealed {
            // A session that cannot go on. What is gathered is counted with the end.
            let segments = self.segments.drain(first..).collect();
            *connection.unsent.borrow_mut() = Some(Box::new(Unsent { segments, written }));
            connection.end(local, "its TLS session has failed");
            connection.after_flush(local);
            return;
        }
        self.sends.push(Send {
            connection,
            segments,
            written,
            sealed: sealed.flatten(),
        });
    }

    /// Sends what is gathered, and settles it.
    fn send(&mut self, local: &Local) {
        if self.sends.is_empty() {
            return;
        }
        let sends = self.sends.len() as u64;
        local.counters.sends.add_owned(sends);
        local.counters.flush_sends.observe(sends, 1);
        if self.sends.len() == 1 || !self.submit(local) {
            self.write_each(local);
        }
        let mut delivered = Delivered::at(local.elapsed());
        let mut rest = self.segments.as_mut_slice();
        for (mut send, result) in self.sends.drain(..).zip(self.results.drain(..)) {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(send.segments);
            rest = others;
            settle(local, &mut delivered, &mut send, own, result);
        }
        delivered.note(&local.counters);
        self.segments.clear();
    }

    /// One system call for all. False if there is no ring.
    fn submit(&mut self, local: &Local) -> bool {
        let Some(many) = &mut self.many else {
            return false;
        };
        let mut batch = many.batch();
        let mut rest = self.segments.as_slice();
        for send in &self.sends {
            let (own, others) = rest.split_at(send.segments);
            rest = others;
            let socket = send.connection.socket.as_fd();
            match &send.sealed {
                None => batch.push(socket, slices(own, send.written)),
                Some(sealed) => batch.push(socket, [sealed.rest()]),
            }
        }
        local.counters.flush_calls.add_owned(1);
        let submitted = batch.submit(&mut self.results);
        if let Err(error) = submitted {
            tracing::error!(%error, "io_uring has failed; going on with one write each");
            self.many = None;
            // Nobody knows what these sockets were sent.
            let lost = |send: &Send| send.connection.end(local, "io_uring has failed");
            self.sends.iter().for_each(lost);
            self.results.clear();
            let gone = || Err(io::ErrorKind::BrokenPipe.into());
            self.results.extend(self.sends.iter().map(|_| gone()));
        }
        true
    }

    /// One write for each.
    fn write_each(&mut self, local: &Local) {
        let calls = self.sends.len() as u64;
        local.counters.flush_calls.add_owned(calls);
        self.results.clear();
        let mut rest = self.segments.as_slice();
        for send in &self.sends {
            let (own, others) = rest.split_at(send.segments);
            rest = others;
            let socket = &send.connection.socket;
            let result = if let Some(sealed) = &send.sealed {
                socket.try_write(sealed.rest())
            } else if let [only] = own {
                socket.try_write(only.bytes().get(send.written..).unwrap_or_default())
            } else {
                let mut io_slices = [IoSlice::new(&[]); SLICES_MAX];
                let mut count = 0;
                for (io_slice, slice) in io_slices.iter_mut().zip(slices(own, send.written)) {
                    *io_slice = IoSlice::new(slice);
                    count += 1;
                }
                socket.try_write_vectored(io_slices.get(..count).unwrap_or_default())
            };
            self.results.push(result);
        }
    }
}

/// The bytes of one send, `written` of the first segment left out.
fn slices(own: &[Segment], written: usize) -> impl Iterator<Item = &[u8]> {
    own.iter()
        .take(SLICES_MAX)
        .enumerate()
        .map(move |(index, segment)| {
            let skip = if index == 0 { written } else { 0 };
            segment.bytes().get(skip..).unwrap_or_default()
        })
}

/// Takes from the ring, up to the bounds of one send, behind the segments from `first` on; the
/// notice of a loss in front of the events that follow it.
fn fill(local: &Local, connection: &Connection, first: usize, segments: &mut Vec<Segment>) {
    let mut ring = connection.ring.borrow_mut();
    let is_plain = connection.dialect == Dialect::Native;
    let waiting = segments.get(first..).unwrap_or_default();
    let mut bytes: usize = waiting.iter().map(|segment| segment.bytes().len()).sum();
    let mut add = |segments: &mut Vec<Segment>, segment: Segment| {
        bytes += segment.bytes().len();
        segments.push(segment);
        bytes
    };
    let mut taken = 0;
    // A notice and a piece of a replay are several segments at once; what is over the bound of a
    // send stays for the next.
    while taken < FLUSH_BYTES_MAX && segments.len() - first < SLICES_MAX {
        match ring.take() {
            Next::Nothing => break,
            Next::Fetch(wanted) => {
                let subscriber = connection.id;
                let inbox = local.process.broker.inbox(wanted.topic.shard());
                hand_in(inbox, Request::Fetch { subscriber, wanted });
            }
            Next::Replies(frames) => taken = add(segments, Segment::Replies(frames)),
            Next::Replay(Piece { kept, lost, .. }) => {
                notify(local, connection, lost, segments);
                for part in kept {
                    if !is_plain {
                        let first = part.run.index_of(part.start);
                        connection.render(local, &part.run, first, false, |part| {
                            taken = add(segments, part);
                        });
                        continue;
                    }
                    let (run, start, live) = (part.run, part.start, 0);
                    taken = add(segments, Segment::Events { run, start, live });
                }
            }
            Next::Events { run, skip, lost } => {
                notify(local, connection, lost, segments);
                if !is_plain {
                    connection.render(local, &run, skip, true, |part| {
                        taken = add(segments, part);
                    });
                    continue;
                }
                let (start, live) = (run.start_of(skip), run.events() - skip);
                taken = add(segments, Segment::Events { run, start, live });
            }
            Next::Newest(place) => {
                let Some((run, lost)) = ring.take_newest(place, local.elapsed_us()) else {
                    continue;
                };
                notify(local, connection, lost, segments);
                if is_plain {
                    let (start, live) = (0, 1);
                    taken = add(segments, Segment::Events { run, start, live });
                } else {
                    connection.render(local, &run, 0, true, |part| {
                        taken = add(segments, part);
                    });
                }
            }
        }
    }
}

fn notify(local: &Local, connection: &Connection, lost: u64, segments: &mut Vec<Segment>) {
    if lost > 0 {
        let mut frames = Vec::new();
        let (answer, ts) = (Answer::Lost { events: lost }, local.timestamp());
        connection.dialect.encode(&mut frames, &answer, ts);
        segments.push(Segment::Replies(frames));
    }
}

/// What came of one send.
enum Outcome {
    /// The socket took so many bytes.
    Taken(usize),
    /// It would have blocked.
    Nothing,
    /// It is gone.
    Dead,
}

impl Outcome {
    fn of(result: io::Result<usize>) -> Self {
        match result {
            Ok(taken) => Self::Taken(taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Self::Taken(0),
            Err(_) => Self::Dead,
        }
    }
}

/// Live events that a batch of sends has brought to the kernel. Those that were read at the same
/// moment are counted together: mostly that is the whole batch.
struct Delivered {
    tenths: u32,
    now: Moment,
    read_at: Moment,
    events: u64,
}

impl Delivered {
    fn at(elapsed: Duration) -> Self {
        let now = Moment::at(elapsed);
        Self {
            tenths: tenths(elapsed),
            now,
            read_at: now,
            events: 0,
        }
    }

    /// Counts what is through. Returns how many events that are.
    fn add(&mut self, counters: &CoreCounters, segments: &[Segment]) -> u64 {
        let mut events = 0;
        for (live, read_at) in segments.iter().filter_map(Segment::live) {
            if read_at != self.read_at {
                self.note(counters);
                self.read_at = read_at;
            }
            self.events += live;
            events += live;
        }
        events
    }

    fn note(&mut self, counters: &CoreCounters) {
        let events = std::mem::take(&mut self.events);
        if events > 0 {
            counters.delivered.add_owned(events);
            counters
                .latency
                .observe(self.now.since(self.read_at), events);
        }
    }
}

/// Does what follows from the result of one send of the segments `own`.
fn settle(
    local: &Local,
    delivered: &mut Delivered,
    send: &mut Send,
    own: &mut [Segment],
    result: io::Result<usize>,
) {
    let connection = &send.connection;
    let outcome = Outcome::of(result);
    let (taken, would_block) = match (outcome, send.sealed.take()) {
        (Outcome::Taken(taken), Some(sealed)) => connection.settle_sealed(*sealed, taken),
        (Outcome::Nothing, Some(sealed)) => connection.settle_sealed(*sealed, 0),
        (Outcome::Taken(taken), None) => {
            let offered: usize = slices(own, send.written).map(<[u8]>::len).sum();
            // Less than was offered: the next send would block.
            (taken, taken < offered && taken > 0)
        }
        (Outcome::Nothing, None) => (0, true),
        (Outcome::Dead, _) => {
            connection.end(local, "the client has gone");
            (0, false)
        }
    };
    let (through, written) = advance(own, send.written, taken);
    let (done, left) = own.split_at_mut(through);
    let events = delivered.add(&local.counters, done);
    if taken > 0 {
        connection.figures.wrote(taken, events, delivered.tenths);
        connection.stalled.set(None);
    }
    let is_left = !left.is_empty();
    if is_left {
        let segments = left.iter_mut().map(Segment::take).collect();
        let unsent = Unsent { segments, written };
        *connection.unsent.borrow_mut() = Some(Box::new(unsent));
    }
    if is_left || connection.has_sealed() {
        if would_block {
            connection.park(local);
        } else {
            local.make_ready(connection);
        }
    }
    connection.after_flush(local);
}

/// `SLOW_CONSUMER_POLICY=disconnect`: the notice with the count so far, then the close.
fn end_slow_consumer(local: &Local, connection: &Rc<Connection>) {
    if connection.is_over() {
        return;
    }
    local.counters.slow_disconnects.add(1);
    tracing::info!(
        client = connection.label(),
        "disconnected: its ring overflowed"
    );
    let (code, reason) = (CloseCode::TRY_AGAIN_LATER, "slow consumer");
    connection.note_end(local, code, reason);
    let events = connection.forget_subscriptions(local);
    if events > 0 {
        connection.say(local, &Answer::Lost { events });
    }
    connection.close(local, Some(code), reason);
}

impl Connection {
    /// Waits for the socket to take bytes again.
    fn park(&self, local: &Local) {
        self.is_parked.set(true);
        if self.stalled.get().is_none() {
            self.stalled.set(Some(local.tick()));
        }
        // The runtime may still believe that the socket is writable: the send went past it. It
        // forgets that only for an operation that would block.
        let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(self.socket.try_io(Interest::WRITABLE, blocked));
        self.watch(local);
        self.wake();
    }

    /// Called by the task when the socket takes bytes again.
    pub(super) fn unpark(self: &Rc<Self>, local: &Local) {
        self.is_parked.set(false);
        local.make_ready(self);
        local.ring();
    }

    /// What is left to do once a connection has had its flush.
    fn after_flush(self: &Rc<Self>, local: &Local) {
        let unsent = self.unsent.borrow();
        let ring = self.ring.borrow();
        let replies = ring.reply_bytes()
            + unsent.as_ref().map_or(0, |unsent| unsent.reply_bytes())
            + self.policy_bytes();
        self.book(local, [replies, self.kept.get()[1]]);
        let lag = ring.late_events();
        if lag > 0 {
            local.counters.lag.observe(lag, 1);
        }
        let is_sent = unsent.is_none() && !self.has_sealed();
        let (is_empty, is_ready) = (ring.is_empty(), ring.is_ready());
        drop((unsent, ring));
        if is_sent && !self.is_parked.get() {
            match self.phase.get() {
                Phase::Ended => {}
                _ if is_ready => local.make_ready(self),
                Phase::Leaving if is_empty && self.in_flight.get() == 0 => {
                    let reason = if local.process.is_draining() {
                        "server is shutting down"
                    } else {
                        "its topics have ended"
                    };
                    self.close(local, Some(CloseCode::GOING_AWAY), reason);
                }
                Phase::Closing if self.tls.as_ref().is_some_and(|tls| tls.say_end()) => {
                    local.make_ready(self);
                }
                // The client's end of the stream is awaited: closing now could destroy what it has
                // not read yet.
                Phase::Closing => {
                    let socket = socket2::SockRef::from(&self.socket);
                    drop(socket.shutdown(std::net::Shutdown::Write));
                    self.wake();
                }
                Phase::Open | Phase::Leaving => {}
            }
        }
        // It may have been answered what it waited for, and have room for more.
        if self.is_paused.get() {
            self.wake();
        }
    }
}
