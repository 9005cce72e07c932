//! (1, 2) The task of a connection: reads, decodes, has the session act. It never writes the socket.
//!
//! While a command waits, while a shard's inbox is full, or while the client leaves too many
//! replies unread, nothing is read: TCP then slows the client. A connection reads once for each
//! turn, and all of a core together so much for each round of it, so that one that floods delays
//! its neighbours by one read.
//!
//! # Who wakes the task
//!
//! The rule is: whoever returns `Pending` has left a waker for each reason to go on. There are four
//! ways out: the socket has nothing (`poll_read_ready` keeps the waker), the socket takes nothing
//! (`poll_write_ready` does, beside the others), a pause (`is_paused` is set, and the flusher, which
//! alone can end a pause, wakes whoever is paused; a full inbox has the waker in its list), and the
//! end of a turn (the runtime wakes it after it has looked at all sockets).
//!
//! # Cancel safety
//!
//! The task is a state machine polled by hand; dropping it at any time ends the connection.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::local::{CARRY_BYTES_SMALL, Local};
use super::session::{Admission, Session};
use super::{Connection, Phase};
use crate::protocol::dialect::Dialect;
use crate::protocol::websocket::decoder::Decoder;

/// The task of one connection.
#[derive(Debug)]
pub(crate) struct Reader {
    local: Rc<Local>,
    connection: Rc<Connection>,
    decoder: Decoder,
    /// Bytes that are not consumed.
    carry: Vec<u8>,
    /// The decoder has not seen all of `carry`: a pause came first.
    is_unseen: bool,
    /// The client has shut down its sending side. What it asked for before is still answered.
    has_ended: bool,
    session: Session,
}

impl Reader {
    /// The task of `connection`. `early` are bytes that came behind the upgrade request.
    pub(crate) fn new(
        local: Rc<Local>,
        admission: Admission,
        connection: Rc<Connection>,
        early: Vec<u8>,
    ) -> Self {
        let takes_deflated = connection.dialect == Dialect::Deflated;
        let session = Session::new(Rc::clone(&local), Rc::clone(&connection), admission);
        Self {
            local,
            connection,
            decoder: Decoder::with_deflate(takes_deflated),
            is_unseen: !early.is_empty(),
            has_ended: false,
            carry: early,
            session,
        }
    }

    /// Goes on with what waited, as far as it can now.
    fn resume(&mut self, cx: &Context<'_>) {
        self.session.flow.push_refused(cx);
        self.session.resume();
        if self.is_unseen && !self.session.must_pause() {
            let mut bytes = std::mem::take(&mut self.carry);
            let used = self.take_in(&mut bytes);
            bytes.drain(..used);
            self.keep(bytes);
        } else {
            self.session.flow.hand_in();
        }
        // What was refused just now has not left its waker yet.
        self.session.flow.push_refused(cx);
    }

    /// Keeps what was not consumed.
    fn keep(&mut self, bytes: Vec<u8>) {
        self.carry = if bytes.is_empty() { Vec::new() } else { bytes };
    }

    /// Reads once. What was read has been acted on when this returns.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let connection = Rc::clone(&self.connection);
        loop {
            match connection.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            let read = if self.carry.len() > CARRY_BYTES_SMALL {
                self.read_large()
            } else {
                self.read_small()
            };
            match read {
                // The runtime knows now, and the next look at it leaves the waker.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Reads into the core's buffer, behind the little that is carried.
    fn read_small(&mut self) -> io::Result<usize> {
        let local = Rc::clone(&self.local);
        let mut buffer = local.read_buffer.borrow_mut();
        let carried = self.carry.len();
        let room = &mut buffer[carried..];
        let read = self.connection.try_read(&local, room)?;
        if read == 0 {
            return Ok(0);
        }
        buffer[..carried].copy_from_slice(&self.carry);
        let bytes = &mut buffer[..carried + read];
        let used = self.take_in(bytes);
        self.carry.clear();
        self.carry.extend_from_slice(&bytes[used..]);
        if self.carry.is_empty() {
            self.carry = Vec::new();
        }
        Ok(read)
    }

    /// Reads more of one large frame into a buffer of its own, which grows with what has come: the
    /// frame's header is legal, but may announce more than ever comes.
    fn read_large(&mut self) -> io::Result<usize> {
        let carried = self.carry.len();
        let wanted = self.decoder.wanted().max(carried + 1);
        let room = wanted.min(carried.saturating_mul(2)) - carried;
        self.carry.reserve_exact(room);
        self.carry.resize(carried + room, 0);
        let room = &mut self.carry[carried..];
        let read = self.connection.try_read(&self.local, room);
        self.carry.truncate(carried + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.connection.heard.set(self.local.tick());
        if read > 0 && self.carry.len() >= wanted {
            let mut bytes = std::mem::take(&mut self.carry);
            let used = self.take_in(&mut bytes);
            bytes.drain(..used);
            self.keep(bytes);
        }
        Ok(read)
    }

    /// Acts on every complete message in `bytes`, until something has to wait. Returns how many
    /// bytes are done with.
    fn take_in(&mut self, bytes: &mut [u8]) -> usize {
        let (local, connection) = (&self.local, &self.connection);
        connection.heard.set(local.tick());
        let bytes_max = local.config().message_bytes_max;
        let mut used = 0;
        self.is_unseen = false;
        while !connection.is_over() {
            // A deflated message may be a thousand times what was read.
            if self.session.must_pause() || !local.may_read() {
                self.is_unseen = used < bytes.len();
                break;
            }
            match self.decoder.decode(&mut bytes[used..], bytes_max) {
                Ok(step) => {
                    used += step.consumed;
                    if let Some(message) = step.message {
                        self.session.receive(message);
                    } else if step.consumed == 0 {
                        break;
                    }
                }
                Err(violation) => connection.close_for(local, &violation),
            }
        }
        if connection.is_over() {
            used = bytes.len();
            self.is_unseen = false;
        }
        self.session.flow.hand_in();
        used
    }

    /// Throws away what a client still sends to a closed connection, one buffer a turn. Ready at
    /// the end of it, once nothing waits for the client or for a shard any more.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let local = Rc::clone(&self.local);
        let socket = &self.connection.socket;
        loop {
            match socket.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let mut buffer = local.read_buffer.borrow_mut();
            match socket.try_read(&mut buffer) {
                Ok(0) => return self.last(),
                Ok(read) => {
                    local.has_read(read);
                    return yield_turn(cx);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Nothing more will come from the client. Ready once nothing waits for it any more.
    fn last(&self) -> Poll<()> {
        let connection = &self.connection;
        let waits = self.session.must_pause()
            || self.is_unseen
            || !self.session.flow.is_idle()
            || connection.unsent.borrow().is_some()
            || !connection.ring.borrow().is_empty();
        if !waits {
            return Poll::Ready(());
        }
        // The flusher, through which all of it leaves, wakes whoever is paused.
        connection.is_paused.set(true);
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let connection = Rc::clone(&self.connection);
        if connection.phase.get() == Phase::Ended {
            return Poll::Ready(());
        }
        if connection.poll_unpark(&self.local, cx).is_err() {
            return Poll::Ready(());
        }
        if connection.is_over() {
            self.session.flow.push_refused(cx);
            return self.drain(cx);
        }
        if self.is_unseen && !self.local.may_read() {
            self.local.ring();
            return yield_turn(cx);
        }
        if connection.is_paused.replace(false) {
            self.resume(cx);
        }
        if self.has_ended {
            return self.last();
        }
        if self.must_pause() {
            return Poll::Pending;
        }
        if !self.local.may_read() {
            // The loop gives everybody a new share; the waker is called behind it.
            self.local.ring();
            return yield_turn(cx);
        }
        match self.read(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(read)) if read > 0 => {
                self.local.has_read(read);
                connection.figures.came(read);
                // A pause that began with this read: what was refused has to leave its waker.
                self.session.flow.push_refused(cx);
                if self.must_pause() {
                    return Poll::Pending;
                }
                match connection.poll_readable(cx) {
                    Poll::Pending if !connection.is_over() => Poll::Pending,
                    _ => yield_turn(cx),
                }
            }
            Poll::Ready(Ok(_)) => {
                self.has_ended = true;
                // Replays are answers too, so what waits is not given up.
                connection.leave_every_topic(&self.local);
                self.last()
            }
            Poll::Ready(Err(_)) => Poll::Ready(()),
        }
    }

    /// Whether to stop reading. If so, the flusher is told to wake the task.
    fn must_pause(&self) -> bool {
        let must_pause = self.is_unseen || self.session.must_pause();
        self.connection.is_paused.set(must_pause);
        if must_pause && !self.session.must_pause() {
            // The pause is over already; nobody else would say so.
            self.connection.wake();
        }
        must_pause
    }
}

/// Lets everybody else have a turn, sockets that have become readable included.
pub(super) fn yield_turn(cx: &mut Context<'_>) -> Poll<()> {
    // tokio wakes those that yield after it has polled its driver, which `wake_by_ref` would not.
    pin!(tokio::task::yield_now()).poll(cx)
}

impl Future for Reader {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.connection.woken_by(cx);
        let polled = this.turn(cx);
        let input =
            this.carry.capacity() + this.session.held_bytes() + this.connection.in_flight_bytes();
        let [replies, _] = this.connection.kept.get();
        this.connection.book(&this.local, [replies, input]);
        if this.connection.is_ready.get() {
            this.local.ring();
        }
        polled
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.connection.over(&self.local);
    }
}
