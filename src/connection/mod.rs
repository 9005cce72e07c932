//! The life of one client, from the upgrade to the close.
//!
//! One task for each connection reads ([`reader`]); the thread's worker writes ([`flusher`]). They
//! are on the same thread and share a `Connection`. A panic in the task ends its connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use tokio::net::tcp::OwnedWriteHalf;

mod deadlines;
pub mod decoder;
pub mod flusher;
pub mod home;
mod outgoing;
pub mod reader;

use crate::broker::inbox::Inbox;
use crate::broker::outbox::{ConnectionId, OutboxReceiver};
use crate::broker::placed::Placed;
use crate::broker::request::Request;
use crate::protocol::codes::{CloseCode, ErrorCode};
use crate::protocol::{frame, reply};
use deadlines::Tick;
use home::Home;
use outgoing::Outgoing;

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

/// What a connection gets from its thread when it is made.
#[derive(Debug)]
pub(crate) struct Birth {
    outbox: OutboxReceiver,
    tick: Tick,
}

/// One client, as its thread sees it.
#[derive(Debug)]
pub(crate) struct Connection {
    writer: OwnedWriteHalf,
    outbox: OutboxReceiver,
    out: RefCell<Outgoing>,
    /// Replies whose place among the events has not come up yet.
    placed: RefCell<Placed>,
    topics: RefCell<Vec<Arc<str>>>,
    client_id: Option<Box<str>>,
    /// The task's waker.
    waker: RefCell<Option<Waker>>,
    phase: Cell<Phase>,
    authenticated: Cell<bool>,
    /// In the list of connections to be flushed.
    ready: Cell<bool>,
    /// The socket takes nothing at the moment.
    parked: Cell<bool>,
    /// The task reads again when something changes.
    paused: Cell<bool>,
    /// Commands that are with shards, and the bytes of their requests.
    in_flight: Cell<u32>,
    in_flight_bytes: Cell<usize>,
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
    /// Makes a connection of an upgraded socket and adds it to its thread.
    pub(crate) fn adopt(
        home: &Home,
        writer: OwnedWriteHalf,
        client_id: Option<Box<str>>,
        authenticated: bool,
    ) -> Rc<Self> {
        let connection = home.adopt(|birth| {
            let Birth { outbox, tick } = birth;
            Self {
                writer,
                outbox,
                out: RefCell::default(),
                placed: RefCell::default(),
                topics: RefCell::default(),
                client_id,
                waker: RefCell::default(),
                phase: Cell::new(Phase::Open),
                authenticated: Cell::new(authenticated),
                ready: Cell::new(false),
                parked: Cell::new(false),
                paused: Cell::new(true),
                in_flight: Cell::new(0),
                in_flight_bytes: Cell::new(0),
                due: Cell::new(0),
                heard: Cell::new(tick),
                stalled: Cell::new(None),
                heartbeat: Cell::new(home.after(home.config().ping_period)),
                until: Cell::new(home.after(home.config().auth_timeout)),
            }
        });
        if home.draining.get() {
            connection.say_goodbye(home);
        }
        if home.finishing.borrow().is_some() {
            connection.leave(home);
        }
        connection.watch(home);
        connection
    }

    /// The label of this connection for logs.
    pub(crate) fn label(&self) -> String {
        match &self.client_id {
            Some(client_id) => client_id.to_string(),
            None => format!(
                "client-{:08x}",
                (self.outbox.id().0 ^ (self.outbox.id().0 >> 24)) & 0xffff_ffff
            ),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.phase.get(), Phase::Closing | Phase::Ended)
    }

    /// Wakes the task, because something that it may wait for has changed.
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Puts frames at the end of what is to be written, and has it written.
    fn send(self: &Rc<Self>, home: &Home, append: impl FnOnce(&mut Vec<u8>)) {
        self.out.borrow_mut().push_frames(append);
        home.make_ready(self);
    }

    fn send_error(self: &Rc<Self>, home: &Home, code: ErrorCode, message: &str) {
        let ts = home.timestamp();
        self.send(home, |out| reply::error(out, None, code, message, ts));
    }

    /// Tells the client that the server is shutting down.
    pub(crate) fn say_goodbye(self: &Rc<Self>, home: &Home) {
        if !self.is_over() {
            let ts = home.timestamp();
            self.send(home, |out| reply::info_shutting_down(out, ts));
        }
    }

    /// Closes with 1001 once everything that waits is written.
    pub(crate) fn leave(self: &Rc<Self>, home: &Home) {
        if self.phase.get() == Phase::Open {
            self.phase.set(Phase::Leaving);
            home.make_ready(self);
        }
    }

    /// Sends a close frame behind all that is queued for writing. Events in the ring are given up.
    fn close(self: &Rc<Self>, home: &Home, code: Option<CloseCode>, reason: &str) {
        if self.is_over() {
            return;
        }
        self.phase.set(Phase::Closing);
        self.until.set(home.after(home.config().close_wait));
        self.forget_subscriptions(home);
        self.send(home, |out| match code {
            Some(code) => frame::close(out, code, reason),
            None => frame::close_without_code(out),
        });
        self.watch(home);
        self.wake();
    }

    /// Ends without a word: the socket is gone or beyond hope.
    fn end(&self) {
        self.phase.set(Phase::Ended);
        self.wake();
    }

    /// Takes the connection off every topic, and counts what it will not get.
    fn forget_subscriptions(&self, home: &Home) {
        self.outbox.close();
        self.give_up_ring(home);
        let topics = std::mem::take(&mut *self.topics.borrow_mut());
        if topics.is_empty() {
            return;
        }
        home.counters.subscribers.sub(1);
        leave_topics(home, self.outbox.id(), topics);
    }

    /// Empties the ring of events that will not be sent. Returns how many others were pushed out
    /// of it and not announced.
    fn give_up_ring(&self, home: &Home) -> u64 {
        let (mut lost, mut discarded) = (0, 0);
        while let Some(taken) = self.outbox.take() {
            lost += taken.lost;
            discarded += taken.run.events() - taken.skip;
        }
        home.counters.discarded.add(discarded as u64);
        lost + self.outbox.take_lost()
    }

    /// When it has been silent for too long.
    fn silent_at(&self, home: &Home) -> Tick {
        let silence = deadlines::ticks(home.config().pong_wait);
        self.heard.get().saturating_add(silence)
    }

    /// When its socket has taken nothing for too long, if something waits for it.
    fn stuck_at(&self, home: &Home) -> Option<Tick> {
        let wait = deadlines::ticks(home.config().write_wait);
        self.stalled.get().map(|since| since.saturating_add(wait))
    }

    /// Sees to it that the thread looks at this connection at its next deadline.
    fn watch(&self, home: &Home) {
        let mut next = match self.phase.get() {
            Phase::Ended => return,
            Phase::Closing => self.until.get(),
            Phase::Open | Phase::Leaving => {
                let heartbeat = self.heartbeat.get().min(self.silent_at(home));
                if self.authenticated.get() {
                    heartbeat
                } else {
                    heartbeat.min(self.until.get())
                }
            }
        };
        if let Some(stuck) = self.stuck_at(home) {
            next = next.min(stuck);
        }
        home.wake_at(self, next);
    }
}

/// Tells the shards of `topics` that `connection` has ended.
fn leave_topics(home: &Home, connection: ConnectionId, topics: Vec<Arc<str>>) {
    let broker = &home.process.broker;
    let mut by_shard: Vec<(usize, Vec<Arc<str>>)> = Vec::new();
    for topic in topics {
        let shard = broker.shard_of(&topic);
        match by_shard.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, topics)) => topics.push(topic),
            None => by_shard.push((shard, vec![topic])),
        }
    }
    for (shard, topics) in by_shard {
        let leave = Request::Leave { connection, topics };
        hand_in(Arc::clone(broker.inbox(shard)), leave);
    }
}

/// Delivers a request that nobody waits for, even through a full inbox.
fn hand_in(inbox: Arc<Inbox>, request: Request) {
    let Err(refused) = inbox.push(request) else {
        return;
    };
    tokio::task::spawn_local(async move { inbox.send(refused).await });
}

/// What happens to a connection when its deadline comes.
pub(crate) fn look_at(home: &Home, connection: &Rc<Connection>) {
    let now = home.tick();
    let config = home.config();
    let phase = connection.phase.get();
    if phase == Phase::Ended {
        return;
    }
    if connection.stuck_at(home).is_some_and(|stuck| now >= stuck) {
        tracing::info!(
            client = connection.label(),
            "disconnected: its socket takes nothing"
        );
        home.counters.slow_disconnects.add(1);
        connection.end();
        return;
    }
    if phase == Phase::Closing {
        if now >= connection.until.get() {
            connection.end();
        }
        connection.watch(home);
        return;
    }
    if !connection.authenticated.get() && now >= connection.until.get() {
        connection.send_error(
            home,
            ErrorCode::Unauthorized,
            crate::protocol::codes::AUTH_TIMEOUT_TEXT,
        );
        connection.close(
            home,
            Some(CloseCode::POLICY),
            crate::protocol::codes::AUTH_TIMEOUT_TEXT,
        );
        return;
    }
    // Who is not read cannot be heard. What it is paused for has an end of its own.
    if connection.paused.get() {
        connection.heard.set(now);
    }
    if now >= connection.silent_at(home) {
        tracing::info!(
            client = connection.label(),
            "disconnected: nothing was heard from it"
        );
        connection.close(
            home,
            Some(CloseCode::POLICY),
            "nothing was heard for PONG_WAIT_SEC",
        );
        return;
    }
    if now >= connection.heartbeat.get() {
        connection.heartbeat.set(home.after(config.ping_period));
        let ts = home.timestamp();
        // A client that does not read gets no more heartbeats on top of what it has not read.
        if !connection.parked.get() {
            connection.send(home, |out| {
                frame::ping(out, b"");
                if config.heartbeat_info {
                    reply::info_ping(out, ts);
                }
            });
        }
    }
    connection.watch(home);
}
