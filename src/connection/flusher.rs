//! (8, 9) The worker of a thread: its shard's turns, its mail, and one write for each connection
//! that has something to send.
//!
//! A flush takes the ring *first*, then reads the mail: a shard hands over a subscribe ack before
//! it pushes the first event that follows it, so whatever event the flush has taken, its ack is
//! there by then, and [`Placed`](crate::broker::placed::Placed) puts it in front.
//!
//! # Cancel safety
//!
//! Nothing here awaits but [`work`] between two rounds.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use super::home::{Home, Letter};
use super::outgoing::Outgoing;
use super::{Connection, Phase};
use crate::broker::inbox::Bell;
use crate::broker::outbox::{ConnectionId, Taken};
use crate::broker::request::{Delivery, Membership, Order, Reply};
use crate::broker::run::Stamp;
use crate::broker::shard::Shard;
use crate::config::values::SlowConsumerPolicy;
use crate::protocol::codes::CloseCode;
use crate::protocol::reply;

/// Bytes taken from a ring for one write. What waits beyond them stays in the ring, where the
/// oldest can still be dropped.
const FLUSH_BYTES_MAX: usize = 64 * 1024;

/// Runs a thread's shard and flushes its connections, forever. `arrived` takes new sockets.
pub async fn work(
    home: Rc<Home>,
    shard: RefCell<Shard>,
    bell: &Bell,
    arrived: impl Fn(std::net::TcpStream),
) {
    poll_fn(|cx| {
        bell.answer(cx.waker());
        read_mail(&home, &arrived);
        flush_ready(&home, &arrived);
        let mut shard = shard.borrow_mut();
        if shard.has_work() && home.may_shard_turn() {
            shard.turn(home.timestamp(), &mut |thread, delivery| {
                if let Some(mailbox) = home.process.mailboxes.get(thread) {
                    if thread == home.index {
                        receive(&home, delivery);
                    } else {
                        mailbox.send(Letter::Delivery(delivery));
                    }
                }
            });
            flush_ready(&home, &arrived);
            if shard.has_work() {
                bell.ring();
            }
        }
        if home.has_ready() || home.owed() > 0 {
            bell.ring();
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Turns the deadlines of a thread, forever.
pub async fn tend(home: Rc<Home>) {
    let mut ticks = tokio::time::interval(super::deadlines::TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        home.turn_deadlines(|connection| super::look_at(&home, connection));
        if home.has_ready() {
            home.ring();
        }
    }
}

fn read_mail(home: &Rc<Home>, arrived: &impl Fn(std::net::TcpStream)) {
    while let Some(letter) = home.next_letter() {
        match letter {
            Letter::Delivery(delivery) => {
                home.owe(delivery.shard);
                receive(home, delivery);
            }
            Letter::Socket(socket) => arrived(socket),
            Letter::Drain(done) => {
                home.draining.set(true);
                home.all()
                    .iter()
                    .for_each(|connection| connection.say_goodbye(home));
                done.send(()).ok();
            }
            Letter::Finish(done) => {
                home.all()
                    .iter()
                    .for_each(|connection| connection.leave(home));
                home.finishing.replace(Some(done));
                home.finish_if_empty();
            }
        }
    }
}

/// Sorts a delivery to its connections.
fn receive(home: &Home, delivery: Delivery) {
    for reply in delivery.replies {
        match home.find(reply.to.id(), reply.to.address()) {
            Some(connection) => connection.take_reply(home, delivery.shard, reply),
            None => leave_late(home, reply.to.id(), reply.membership),
        }
    }
    for sender in delivery.dirty {
        if let Some(connection) = home.find(sender.id(), sender.address()) {
            home.make_ready(&connection);
        }
    }
}

/// Undoes a subscription that came about after its connection had ended, and so is on no list.
fn leave_late(home: &Home, connection: ConnectionId, membership: Option<Membership>) {
    if let Some(Membership::Joined(topic)) = membership {
        super::leave_topics(home, connection, vec![topic]);
    }
}

/// Flushes every connection that is ready, once.
fn flush_ready(home: &Rc<Home>, arrived: &impl Fn(std::net::TcpStream)) {
    // What comes in from here on may concern a connection that has had its flush already.
    let owed = home.owed();
    for connection in home.take_ready() {
        connection.ready.set(false);
        flush(home, &connection, || read_mail(home, arrived));
    }
    home.settle(owed);
}

/// Writes what waits for `connection`, until its socket takes no more. `between` is called after
/// the ring has been taken and before anything is written.
fn flush(home: &Home, connection: &Rc<Connection>, between: impl FnOnce()) {
    if connection.parked.get() {
        if connection.outbox.overflowed() {
            end_slow_consumer(home, connection);
        }
        // It may have been answered what it waited for, and have room for more.
        if connection.paused.get() {
            connection.wake();
        }
        return;
    }
    if connection.phase.get() == Phase::Ended {
        return;
    }
    let mut popped = home.popped.take();
    if !connection.placed.borrow().is_empty() {
        let runs = connection.outbox.runs();
        connection.placed.borrow_mut().begin(runs);
    }
    let more = take_ring(connection, &mut popped);
    between();
    let mut out = connection.out.borrow_mut();
    out.lend(home.spare.take());
    for taken in popped.drain(..) {
        connection.queue(home, &mut out, taken);
    }
    if !more {
        connection.placed.borrow_mut().drained();
    }
    connection.queue_placed(&mut out, None);
    home.popped.replace(popped);
    if home.config().slow_consumer_policy == SlowConsumerPolicy::Disconnect
        && connection.outbox.overflowed()
    {
        drop(out);
        end_slow_consumer(home, connection);
        out = connection.out.borrow_mut();
    }
    write_all(home, connection, &mut out);
    if !out.is_empty() {
        return;
    }
    home.spare.replace(out.take_spare());
    drop(out);
    match connection.phase.get() {
        _ if more => home.make_ready(connection),
        Phase::Leaving if connection.outbox.runs() == 0 && connection.in_flight.get() == 0 => {
            connection.close(home, Some(CloseCode::GOING_AWAY), "server is shutting down");
        }
        // The client's end of the stream is awaited: closing now could destroy what it has not
        // read yet.
        Phase::Closing => {
            let socket = socket2::SockRef::from(connection.writer.as_ref());
            drop(socket.shutdown(std::net::Shutdown::Write));
            connection.wake();
        }
        _ => {}
    }
    if connection.paused.get() {
        connection.wake();
    }
}

/// Takes runs from the ring, up to the bound of one write. True if more may be left.
fn take_ring(connection: &Connection, popped: &mut Vec<Taken>) -> bool {
    if connection.is_over() {
        return false;
    }
    connection.outbox.unmark();
    let mut bytes = connection.out.borrow().bytes();
    while bytes < FLUSH_BYTES_MAX {
        let Some(taken) = connection.outbox.take() else {
            return false;
        };
        bytes += taken.run.frames().len() - taken.run.start_of(taken.skip);
        popped.push(taken);
    }
    true
}

fn write_all(home: &Home, connection: &Rc<Connection>, out: &mut Outgoing) {
    while !out.is_empty() {
        home.counters.writes.add_owned(1);
        match out.write(connection.writer.as_ref()) {
            Ok((_, live)) => {
                home.counters.delivered.add_owned(live as u64);
                connection.stalled.set(None);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.parked.set(true);
                if connection.stalled.get().is_none() {
                    connection.stalled.set(Some(home.tick()));
                }
                connection.watch(home);
                connection.wake();
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                connection.end();
                return;
            }
        }
    }
}

/// `SLOW_CONSUMER_POLICY=disconnect`: the notice with the count so far, then the close.
fn end_slow_consumer(home: &Home, connection: &Rc<Connection>) {
    if connection.is_over() {
        return;
    }
    home.counters.slow_disconnects.add(1);
    tracing::info!(
        client = connection.label(),
        "disconnected: its ring overflowed"
    );
    let lost = connection.give_up_ring(home);
    let ts = home.timestamp();
    if lost > 0 {
        connection.send(home, |out| reply::slow_consumer(out, lost, ts));
    }
    connection.close(home, Some(CloseCode::TRY_AGAIN_LATER), "slow consumer");
}

impl Connection {
    /// Called by the task when the socket takes bytes again.
    pub(crate) fn unpark(self: &Rc<Self>, home: &Home) {
        self.parked.set(false);
        home.make_ready(self);
        home.ring();
    }

    /// Puts what left the ring behind what is to be written, the notice of a loss in front of it.
    fn queue(&self, home: &Home, out: &mut Outgoing, taken: Taken) {
        let Taken { run, skip, lost } = taken;
        self.queue_placed(out, Some(run.stamp()));
        if lost > 0 {
            let ts = home.timestamp();
            out.push_frames(|frames| reply::slow_consumer(frames, lost, ts));
        }
        let live = run.events() - skip;
        let start = run.start_of(skip);
        out.push_events(run, start, live);
        self.placed.borrow_mut().passed();
    }

    /// Puts the replies whose place has come up behind what is to be written, `next` being the run
    /// that comes after them.
    fn queue_placed(&self, out: &mut Outgoing, next: Option<Stamp>) {
        loop {
            let due = self.placed.borrow_mut().due(next);
            let Some(reply) = due else {
                return;
            };
            self.queue_reply(out, reply);
        }
    }

    /// A reply of `shard` has come: to the queue, or kept until its place among the events comes
    /// up. Replies of one shard keep their order: one that need not wait itself waits with the one
    /// before it.
    fn take_reply(self: &Rc<Self>, home: &Home, shard: usize, mut reply: Reply) {
        self.note(home, reply.membership.take());
        let mut placed = self.placed.borrow_mut();
        let after = match reply.order {
            Order::AfterRun(stamp) => Some(stamp),
            Order::BeforeRing => placed.last_of(shard),
        };
        match after {
            Some(stamp) => placed.push(stamp, reply),
            None => self.queue_reply(&mut self.out.borrow_mut(), reply),
        }
        home.make_ready(self);
    }

    fn queue_reply(&self, out: &mut Outgoing, reply: Reply) {
        self.in_flight
            .set(self.in_flight.get().saturating_sub(reply.commands));
        self.in_flight_bytes.set(
            self.in_flight_bytes
                .get()
                .saturating_sub(reply.request_bytes),
        );
        if self.is_over() {
            return;
        }
        out.push_replies(reply.frames);
        for kept in reply.replay {
            out.push_events(kept.run, kept.start, 0);
        }
    }

    /// Keeps the list of topics, at once: the end of the connection may come before the place of
    /// the reply.
    fn note(&self, home: &Home, membership: Option<Membership>) {
        if self.is_over() {
            leave_late(home, self.outbox.id(), membership);
            return;
        }
        let mut topics = self.topics.borrow_mut();
        let before = topics.is_empty();
        match membership {
            None => {}
            Some(Membership::Joined(topic)) => {
                if topics.is_empty() {
                    // Most have one subscription; a Vec would start with room for four.
                    topics.reserve_exact(1);
                }
                topics.push(topic);
            }
            Some(Membership::Left(topic)) => {
                if let Some(index) = topics.iter().position(|of| *of == topic) {
                    topics.swap_remove(index);
                }
                if topics.is_empty() {
                    *topics = Vec::new();
                }
            }
        }
        match (before, topics.is_empty()) {
            (true, false) => home.counters.subscribers.add(1),
            (false, true) => home.counters.subscribers.sub(1),
            _ => {}
        }
    }
}
