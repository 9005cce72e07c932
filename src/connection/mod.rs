//! One client, from the upgrade to the close.
//!
//! Its task reads ([`reader`] bytes, [`session`] commands, [`flow`] when to stop); its core writes
//! ([`flusher`]) what waits in its ring, and ends it when a deadline says so ([`lifeline`]). All of
//! it is on one thread. A panic in the task ends its connection and no other. An event stream only
//! listens: its task is a [`listener`], and what its socket is sent has another form (`stream`).
//!
//! Nothing here knows the core: what a connection sees of it is [`local`].

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::TcpStream;

mod auth;
mod figures;
pub mod flow;
pub mod flusher;
pub mod lifeline;
pub mod listener;
pub mod local;
mod outgoing;
pub(crate) mod pace;
mod patterns;
mod policies;
pub mod reader;
mod rights;
mod secure;
pub mod session;
mod stream;
pub(crate) mod timers;
mod topics;

use crate::access::grant::Grant;
use crate::broker::ConnectionId;
use crate::broker::delivery::{Reply, Said};
use crate::broker::directory::TopicEntry;
use crate::broker::inbox::Inbox;
use crate::broker::request::Request;
use crate::broker::ring::Ring;
use crate::broker::run::Run;
use crate::config::values::SlowConsumerPolicy;
use crate::protocol::answer::Answer;
use crate::protocol::codes::{CloseCode, ErrorCode};
use crate::protocol::dialect::Dialect;
use crate::protocol::websocket::decoder::Violation;
use crate::wire::Wire;
use crate::wire::tls::Tls;
use figures::Figures;
pub(crate) use figures::Sort;
use local::Local;
use outgoing::Unsent;
use patterns::Patterns;
use stream::Positions;
use timers::Tick;
use topics::Topics;

/// Where a connection is on its way to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Commands are taken, events are sent.
    Open,
    /// To be closed with 1001 once all that waits is written.
    Leaving,
    /// A close frame is the last thing in the queue; nothing is read but to be thrown away.
    Closing,
    /// Over; the task only has to notice.
    Ended,
}

/// Who a new connection is.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) wire: Wire,
    pub(crate) address: SocketAddr,
    pub(crate) client_id: Option<Box<str>>,
    /// What it may do, if it needs no `auth` or its header was one.
    pub(crate) grant: Option<Grant>,
    pub(crate) entrance: Entrance,
}

/// As what a connection begins.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// A `WebSocket`, on which permessage-deflate was agreed on or not.
    WebSocket { takes_deflated: bool },
    /// An event stream, with the head of the answer to its request, and the names of its topics.
    Stream {
        head: Vec<u8>,
        topics: Vec<Box<str>>,
    },
}

/// One client, as its core sees it.
#[derive(Debug)]
pub(crate) struct Connection {
    id: ConnectionId,
    socket: TcpStream,
    /// Its session, if it came with TLS.
    tls: Option<Box<Tls>>,
    ring: RefCell<Ring>,
    /// What the socket has not taken of what left the ring.
    unsent: RefCell<Option<Box<Unsent>>>,
    topics: RefCell<Topics>,
    patterns: RefCell<Option<Box<Patterns>>>,
    client_id: Option<Box<str>>,
    dialect: Dialect,
    /// If it is an event stream of several topics.
    positions: Option<Box<Positions>>,
    figures: Figures,
    /// The task's waker.
    waker: RefCell<Option<Waker>>,
    phase: Cell<Phase>,
    /// It takes events, and all of them: no subscription has a policy.
    takes_all: Cell<bool>,
    is_authenticated: Cell<bool>,
    /// What it may do once it is authenticated.
    grant: RefCell<Grant>,
    /// In the list of connections to be flushed.
    is_ready: Cell<bool>,
    /// The socket takes nothing at the moment; the task waits for it.
    is_parked: Cell<bool>,
    /// The task reads again when something changes.
    is_paused: Cell<bool>,
    /// An event fell out of the ring, and that is to end the connection.
    has_overflowed: Cell<bool>,
    /// Commands that are with shards, and the bytes of their requests.
    in_flight: Cell<u32>,
    in_flight_bytes: Cell<u32>,
    /// Bytes of replies and of input that are counted for it.
    kept: Cell<[usize; 2]>,
    /// When the connection is looked at next.
    due: Cell<Tick>,
    /// When something came from the client last.
    heard: Cell<Tick>,
    /// Since when the socket has taken no byte of what waits for it.
    stalled: Cell<Option<Tick>>,
    /// When the next heartbeat goes out.
    heartbeat: Cell<Tick>,
    /// Until when it must be authenticated, or have ended once it is closing.
    until: Cell<Tick>,
}

impl Connection {
    /// Makes a connection of an upgraded socket. The caller puts it into the core's table.
    pub(crate) fn new(local: &Local, id: ConnectionId, newcomer: Newcomer) -> Rc<Self> {
        let config = local.config();
        local.counters.connections.add(1);
        let (dialect, positions, ring) = match newcomer.entrance {
            Entrance::WebSocket { takes_deflated } => {
                let dialect = if takes_deflated {
                    Dialect::Deflated
                } else {
                    Dialect::Native
                };
                (dialect, None, Ring::default())
            }
            Entrance::Stream { head, topics } => {
                let positions = Positions::of(topics, &local.process.budget, local.index);
                (Dialect::Sse, positions, Ring::behind(head))
            }
        };
        Rc::new(Self {
            id,
            socket: newcomer.wire.socket,
            tls: newcomer.wire.tls,
            ring: RefCell::new(ring),
            unsent: RefCell::default(),
            topics: RefCell::default(),
            patterns: RefCell::default(),
            client_id: newcomer.client_id,
            dialect,
            positions,
            figures: Figures::new(newcomer.address, local.elapsed()),
            waker: RefCell::default(),
            phase: Cell::new(Phase::Open),
            takes_all: Cell::new(true),
            is_authenticated: Cell::new(newcomer.grant.is_some()),
            grant: RefCell::new(newcomer.grant.unwrap_or(Grant::Everything)),
            is_ready: Cell::new(false),
            is_parked: Cell::new(false),
            is_paused: Cell::new(true),
            has_overflowed: Cell::new(false),
            in_flight: Cell::new(0),
            in_flight_bytes: Cell::new(0),
            kept: Cell::new([0; 2]),
            due: Cell::new(0),
            heard: Cell::new(local.tick()),
            stalled: Cell::new(None),
            heartbeat: Cell::new(local.after(config.ping_period)),
            until: Cell::new(local.after(config.auth_timeout)),
        })
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Its place in the core's table.
    pub(crate) fn slot(&self) -> u32 {
        u32::try_from(self.id.slot()).unwrap_or(u32::MAX)
    }

    /// The label of this connection for logs.
    pub(crate) fn label(&self) -> String {
        match &self.client_id {
            Some(client_id) => client_id.to_string(),
            None => format!("client-{:08x}", self.id.label()),
        }
    }

    /// Whether nothing but the end is left.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase.get(), Phase::Closing | Phase::Ended)
    }

    /// Keeps the waker of the task that is being polled.
    fn woken_by(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        let is_known = |waker: &Waker| waker.will_wake(cx.waker());
        if !waker.as_ref().is_some_and(is_known) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// If the socket took nothing, has the task woken when it does again. An error is its end.
    fn poll_unpark(self: &Rc<Self>, local: &Local, cx: &mut Context<'_>) -> std::io::Result<()> {
        if self.is_parked.get()
            && let Poll::Ready(writable) = self.socket.poll_write_ready(cx)
        {
            writable?;
            self.unpark(local);
        }
        Ok(())
    }

    /// Its task has ended, by itself or by a panic: nothing of it stays behind.
    fn over(&self, local: &Local) {
        self.remember(local);
        self.go_to(Phase::Ended);
        self.forget_subscriptions(local);
        let unsent = self.unsent.borrow_mut().take();
        let live = unsent.map_or(0, |unsent| unsent.live());
        local.counters.discarded.add(live);
        self.book(local, [0, 0]);
        if let Some(tls) = &self.tls {
            tls.send_last(&self.socket);
        }
        local.forget(self.slot());
    }

    /// Bytes of the requests that are with shards: a read, and what one command is more.
    fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes.get() as usize
    }

    fn set_in_flight_bytes(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.in_flight_bytes.set(bytes);
    }

    /// So many commands that were with shards are done with, and so many bytes of their requests.
    fn give_back(&self, local: &Local, commands: u32, bytes: usize) {
        let in_flight = self.in_flight.get();
        self.in_flight.set(in_flight.saturating_sub(commands));
        self.set_in_flight_bytes(self.in_flight_bytes().saturating_sub(bytes));
        // Its task books the same when it reads again, and may never read again.
        let [replies, input] = self.kept.get();
        self.book(local, [replies, input.saturating_sub(bytes)]);
    }

    /// Wakes the task, because something that it may wait for has changed.
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// (8) Pushes live events on the ring. False if the connection takes none any more.
    pub(crate) fn push(self: &Rc<Self>, local: &Local, run: &Arc<Run>, ends_slow: bool) -> bool {
        if !self.takes_all.get() {
            return self.push_by_policy(local, run, ends_slow);
        }
        let dropped = self.ring.borrow_mut().push(run, local.ring_limits);
        self.count_dropped(dropped, ends_slow);
        local.make_ready(self);
        true
    }

    /// Events fell out of the ring, and that ends the connection if it `ends_slow`.
    fn count_dropped(&self, dropped: u64, ends_slow: bool) {
        if dropped > 0 {
            self.figures.dropped(dropped);
            if ends_slow {
                self.has_overflowed.set(true);
            }
        }
    }

    /// Bytes of events that wait, if any of them can fall out.
    pub(crate) fn lag_bytes(&self) -> usize {
        self.ring.borrow().lag_bytes()
    }

    /// Memory is short: the older half of the events that wait falls out.
    pub(crate) fn give_way(self: &Rc<Self>, local: &Local) {
        let dropped = self.ring.borrow_mut().drop_half();
        if dropped > 0 {
            let policy = local.config().slow_consumer_policy;
            self.count_dropped(dropped, policy == SlowConsumerPolicy::Disconnect);
            local.make_ready(self);
        }
    }

    /// Puts frames behind all that waits, and has them written.
    fn send(self: &Rc<Self>, local: &Local, append: impl FnOnce(&mut Vec<u8>)) {
        self.ring.borrow_mut().push_replies(append);
        local.make_ready(self);
    }

    /// Puts an answer behind all that waits.
    fn say(self: &Rc<Self>, local: &Local, answer: &Answer<'_>) {
        let ts = local.timestamp();
        self.send(local, |out| self.dialect.encode(out, answer, ts));
    }

    /// A reply of a shard has come: its commands are answered, and what it says stands behind the
    /// events that wait.
    pub(crate) fn take_reply(self: &Rc<Self>, local: &Local, reply: Reply) {
        let Reply { ts, said, .. } = reply;
        self.give_back(local, said.commands(), said.request_bytes());
        // Its task may wait for the answer, and has room for another command.
        local.make_ready(self);
        if self.is_over() {
            leave_late(local, self.id, said);
            return;
        }
        let said = match said {
            Said::Pattern(part) => return self.take_part(local, *part, ts),
            said => said,
        };
        self.note_policy(&said);
        self.note(local, &said);
        self.mind(local, &said);
        self.stream_answered(local, &said);
        let is_acked = self.positions.is_none() || !matches!(said, Said::Subscribed { .. });
        let mut ring = self.ring.borrow_mut();
        if is_acked {
            let encode =
                |out: &mut Vec<u8>, answer: &Answer<'_>| self.dialect.encode(out, answer, ts);
            ring.push_replies(|out| said.answers(|answer| encode(out, answer)));
        }
        match said {
            Said::Subscribed {
                replay: Some((piece, rest)),
                ..
            } => ring.push_replay(piece, rest),
            Said::Replayed(piece) => ring.arrived(piece),
            // Nothing else makes a client that only listens get more than it takes.
            Said::TopicCreated(_) if ring.reply_bytes() > local.ring_limits.bytes_max => {
                self.has_overflowed.set(true);
            }
            _ => {}
        }
        drop(ring);
        // A stream cannot ask for another topic.
        if self.is_stream() && self.in_flight.get() == 0 && self.topics.borrow().len() == 0 {
            self.leave(local);
        }
    }

    /// Keeps the list of topics.
    fn note(&self, local: &Local, said: &Said) {
        let before = self.subscriptions();
        let mut topics = self.topics.borrow_mut();
        match said {
            Said::Subscribed {
                topic,
                is_new: true,
                ..
            } => topics.insert(Arc::clone(topic)),
            Said::Unsubscribed {
                left: Some(topic), ..
            }
            | Said::Left(topic)
            | Said::TopicDeleted(topic) => topics.remove(topic),
            _ => return,
        }
        drop(topics);
        self.note_subscriptions(local, before);
    }

    /// Counts who is subscribed at all; before something changed it had so many subscriptions.
    fn note_subscriptions(&self, local: &Local, before: usize) {
        match (before, self.subscriptions()) {
            (0, 1) => local.counters.subscribers.add(1),
            (1, 0) => local.counters.subscribers.sub(1),
            _ => {}
        }
    }

    /// Tells the client that the server is shutting down, and when to come back.
    pub(crate) fn say_goodbye(self: &Rc<Self>, local: &Local, slot: Duration) {
        if !self.is_over() {
            let retry_after_ms = u64::try_from(slot.as_millis()).unwrap_or(u64::MAX);
            self.say(local, &Answer::ShuttingDown { retry_after_ms });
        }
    }

    /// Closes with 1001 once everything that waits is written.
    pub(crate) fn leave(self: &Rc<Self>, local: &Local) {
        if self.phase.get() == Phase::Open {
            self.go_to(Phase::Leaving);
            self.ring.borrow_mut().end_newest_of(|_| true);
            local.make_ready(self);
        }
    }

    fn go_to(&self, phase: Phase) {
        self.phase.set(phase);
        self.note_what_it_takes();
    }

    /// Says what is wrong, and closes with 1008.
    fn refuse(self: &Rc<Self>, local: &Local, answer: &Answer<'_>, reason: &str) {
        self.say(local, answer);
        self.close(local, Some(CloseCode::POLICY), reason);
    }

    /// Closes as a client deserves that breaks the rules of its protocol.
    fn close_for(self: &Rc<Self>, local: &Local, violation: &Violation) {
        self.close(local, Some(violation.close_code()), &violation.to_string());
    }

    /// An operator wants it gone.
    pub(crate) fn dismiss(self: &Rc<Self>, local: &Local) {
        if !self.is_over() {
            tracing::info!(client = self.label(), "disconnected: by an operator");
            let reason = "closed by an operator";
            self.close(local, Some(CloseCode::POLICY), reason);
        }
    }

    /// Sends a close frame behind the replies that wait. Events in the ring are given up.
    fn close(self: &Rc<Self>, local: &Local, code: Option<CloseCode>, reason: &str) {
        if self.is_over() {
            return;
        }
        self.note_end(local, code.unwrap_or(CloseCode::NONE), reason);
        self.go_to(Phase::Closing);
        self.until.set(local.after(local.config().close_wait));
        self.forget_subscriptions(local);
        self.send(local, |out| self.dialect.close(out, code, reason));
        self.watch(local);
        self.wake();
    }

    /// Ends without a word: the socket is gone or beyond hope.
    fn end(&self, local: &Local, reason: &str) {
        self.note_end(local, CloseCode::ABNORMAL, reason);
        self.go_to(Phase::Ended);
        self.wake();
    }

    /// Takes the connection off every topic, and counts what it will not get. Returns the events
    /// that fell out of its ring and were not announced.
    fn forget_subscriptions(&self, local: &Local) -> u64 {
        let (discarded, lost) = self.ring.borrow_mut().give_up_events();
        local.counters.discarded.add(discarded);
        self.leave_every_topic(local);
        self.leave_every_pattern(local, true);
        lost
    }

    /// Takes the connection off every topic. What waits for it already is still sent.
    fn leave_every_topic(&self, local: &Local) {
        if self.subscriptions() > 0 {
            local.counters.subscribers.sub(1);
        }
        let topics = std::mem::take(&mut *self.topics.borrow_mut()).into_entries();
        self.leave_every_pattern(local, false);
        if !topics.is_empty() {
            leave_topics(local, self.id, topics, false);
        }
    }

    /// Counts what is kept for this connection: replies that wait and input that is not done with.
    fn book(&self, local: &Local, kept: [usize; 2]) {
        // A flush may still come behind the end, and nobody would take back what it counts.
        let is_ended = self.phase.get() == Phase::Ended;
        let kept = if is_ended { [0, 0] } else { kept };
        let before = self.kept.replace(kept);
        if before != kept {
            local.keep(before, kept);
        }
    }
}

fn error(code: ErrorCode, message: &str) -> Answer<'_> {
    Answer::Error {
        request_id: None,
        code,
        message,
    }
}

/// Undoes a subscription that came about after its connection had ended, and so is on no list.
pub(crate) fn leave_late(local: &Local, connection: ConnectionId, said: Said) {
    match said {
        Said::Subscribed {
            topic,
            is_new: true,
            ..
        } => leave_topics(local, connection, vec![topic], false),
        Said::Pattern(part) => patterns::leave_late(local, connection, &part),
        _ => {}
    }
}

/// Tells the shards of `topics` that `connection` gets them no longer. If it is to be told, the
/// answers come behind the last event of each.
fn leave_topics(
    local: &Local,
    connection: ConnectionId,
    topics: Vec<Arc<TopicEntry>>,
    is_told: bool,
) {
    let broker = &local.process.broker;
    let mut by_shard: Vec<(usize, Vec<Arc<TopicEntry>>)> = Vec::new();
    for topic in topics {
        let shard = topic.shard();
        match by_shard.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, topics)) => topics.push(topic),
            None => by_shard.push((shard, vec![topic])),
        }
    }
    for (shard, topics) in by_shard {
        let leave = Request::Leave {
            connection,
            topics,
            is_told,
        };
        hand_in(broker.inbox(shard), leave);
    }
}

/// Delivers a request that nobody waits for, even through a full inbox.
fn hand_in(inbox: &Arc<Inbox>, request: Request) {
    let Err(refused) = inbox.push(request) else {
        return;
    };
    let inbox = Arc::clone(inbox);
    tokio::task::spawn_local(async move { inbox.send(refused).await });
}
/// With the two counts of its `Rc` it fills one of the allocator's sizes; the next is 64 bytes more
/// for each client.
const _: () = assert!(size_of::<Connection>() <= 448 - 16);
