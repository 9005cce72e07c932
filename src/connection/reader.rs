//! (1, 3, 4) The task of a connection: read, parse, hand to the shards. It never writes the socket.
//!
//! Commands are taken in their order and answered in it, with one exception: a publish may be
//! acked before commands for *other* topics that came before it. Any other command that is
//! answered here (a ping, an error), or by another shard than the commands before it, waits until
//! those are answered. While it waits, while a shard's inbox is full, or while the client leaves too many
//! replies unread, nothing is read: TCP then slows the client.
//!
//! # Cancel safety
//!
//! The task is a state machine polled by hand; dropping it at any time ends the connection.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::decoder::{Decoder, Message, frame_bytes};
use super::home::{CARRY_BYTES_SMALL, Home, Seat};
use super::{Connection, Phase};
use crate::broker::request::{Publishes, Replay, Request};
use crate::protocol::codes::{
    ALREADY_AUTHENTICATED_TEXT, CloseCode, ErrorCode, INVALID_API_KEY_TEXT,
};
use crate::protocol::command::{self, BadCommand, Command};
use crate::protocol::names::RequestId;
use crate::protocol::{frame, reply};

/// Reads of one connection before the others have their turn.
const READS_MAX: usize = 4;

/// Bytes of requests that one connection may have with shards: two reads.
const IN_FLIGHT_BYTES_MAX: usize = 2 * super::home::READ_BYTES;

/// Which shards have commands of this connection that are not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    One(usize),
    Many,
}

/// The task of one connection.
#[derive(Debug)]
pub(crate) struct Reader {
    home: Rc<Home>,
    connection: Rc<Connection>,
    socket: OwnedReadHalf,
    decoder: Decoder,
    /// Bytes that are not consumed: `carried` of them count, the rest is room for the frame.
    carry: Vec<u8>,
    carried: usize,
    /// A command that waits until those before it are answered.
    held: Option<Box<str>>,
    flight: Option<Flight>,
    /// Publishes of this read, by shard.
    batches: Vec<(usize, Publishes)>,
    /// Requests that found the inbox full.
    refused: VecDeque<(usize, Request)>,
    _seat: Seat,
}

/// Whether a command was acted on, or has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acted {
    Done,
    MustWait,
}

impl Reader {
    /// Makes a connection of an upgraded socket and returns its task. `early` are bytes that came
    /// behind the upgrade request.
    pub(crate) fn new(
        home: Rc<Home>,
        seat: Seat,
        socket: TcpStream,
        client_id: Option<Box<str>>,
        authenticated: bool,
        early: Vec<u8>,
    ) -> Self {
        let (socket, writer) = socket.into_split();
        let connection = Connection::adopt(&home, writer, client_id, authenticated);
        Self {
            home,
            connection,
            socket,
            decoder: Decoder::new(),
            carried: early.len(),
            carry: early,
            held: None,
            flight: None,
            batches: Vec::new(),
            refused: VecDeque::new(),
            _seat: seat,
        }
    }

    /// Whether commands are taken now.
    fn must_pause(&self) -> bool {
        let connection = &self.connection;
        let config = self.home.config();
        !self.refused.is_empty()
            || self.held.is_some()
            || connection.in_flight.get() as usize >= config.commands_in_flight_max
            || connection.in_flight_bytes.get() >= IN_FLIGHT_BYTES_MAX
            || connection.out.borrow().bytes() > config.reply_bytes_max
    }

    /// Goes on with what waited, as far as it can now.
    fn resume(&mut self, cx: &Context<'_>) {
        self.push_refused(cx);
        if !self.refused.is_empty() {
            return;
        }
        if let Some(text) = self.held.take()
            && self.act(&text) == Acted::MustWait
        {
            self.held = Some(text);
            return;
        }
        if self.carried > 0 {
            let mut bytes = std::mem::take(&mut self.carry);
            bytes.truncate(self.carried);
            self.carried = 0;
            let used = self.take_in(&mut bytes);
            bytes.drain(..used);
            self.keep(bytes);
        } else {
            self.hand_in();
        }
        // What was refused just now has not left its waker yet.
        self.push_refused(cx);
    }

    /// Keeps what was not consumed.
    fn keep(&mut self, bytes: Vec<u8>) {
        self.carried = bytes.len();
        self.carry = if bytes.is_empty() { Vec::new() } else { bytes };
    }

    /// Reads once. What was read has been acted on when this returns.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.carried > CARRY_BYTES_SMALL {
            return self.read_large(cx);
        }
        let home = Rc::clone(&self.home);
        let mut buffer = home.read_buffer.borrow_mut();
        let carried = self.carried;
        buffer[..carried].copy_from_slice(&self.carry[..carried]);
        let mut into = ReadBuf::new(&mut buffer[carried..]);
        let Poll::Ready(result) = Pin::new(&mut self.socket).poll_read(cx, &mut into) else {
            return Poll::Pending;
        };
        let read = into.filled().len();
        if result.is_err() || read == 0 {
            return Poll::Ready(result.map(|()| 0));
        }
        let bytes = &mut buffer[..carried + read];
        let used = self.take_in(bytes);
        self.carry.clear();
        self.carry.extend_from_slice(&bytes[used..]);
        self.carried = self.carry.len();
        if self.carried == 0 {
            self.carry = Vec::new();
        }
        Poll::Ready(Ok(read))
    }

    /// As [`Self::read`], for the rest of one large frame, into a buffer of its size.
    fn read_large(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let needed = frame_bytes(&self.carry[..self.carried])
            .unwrap_or(0)
            .max(self.carried + 1);
        if self.carry.len() < needed {
            self.carry.reserve_exact(needed - self.carry.len());
            self.carry.resize(needed, 0);
        }
        let mut into = ReadBuf::new(&mut self.carry[self.carried..needed]);
        let Poll::Ready(result) = Pin::new(&mut self.socket).poll_read(cx, &mut into) else {
            return Poll::Pending;
        };
        let read = into.filled().len();
        self.carried += read;
        self.connection.heard.set(self.home.tick());
        if read > 0 && self.carried == needed {
            let mut bytes = std::mem::take(&mut self.carry);
            bytes.truncate(needed);
            let used = self.take_in(&mut bytes);
            bytes.drain(..used);
            self.keep(bytes);
        }
        Poll::Ready(result.map(|()| read))
    }

    /// Acts on every complete message in `bytes`, until something has to wait. Returns how many
    /// bytes are done with.
    fn take_in(&mut self, bytes: &mut [u8]) -> usize {
        self.connection.heard.set(self.home.tick());
        let bytes_max = self.home.config().message_bytes_max;
        let mut used = 0;
        let mut decoder = std::mem::take(&mut self.decoder);
        while !self.connection.is_over() && !self.must_pause() {
            match decoder.decode(&mut bytes[used..], bytes_max) {
                Ok(step) => {
                    used += step.consumed;
                    if let Some(message) = step.message {
                        self.receive(message);
                    } else if step.consumed == 0 {
                        break;
                    }
                }
                Err(violation) => {
                    let code = CloseCode(violation.close_code());
                    self.connection
                        .close(&self.home, Some(code), &violation.to_string());
                }
            }
        }
        self.decoder = decoder;
        if self.connection.is_over() {
            used = bytes.len();
        }
        self.hand_in();
        used
    }

    fn receive(&mut self, message: Message<'_>) {
        let (home, connection) = (&self.home, &self.connection);
        match message {
            Message::Text(text) => {
                if self.act(text) == Acted::MustWait {
                    self.held = Some(text.into());
                }
            }
            Message::Ping(payload) => connection.send(home, |out| frame::pong(out, payload)),
            Message::Pong => {}
            Message::Close(code) => connection.close(home, code.map(CloseCode), ""),
        }
    }

    fn act(&mut self, text: &str) -> Acted {
        let command = command::parse(text, self.home.config().payload_depth_max);
        if !self.connection.authenticated.get() {
            self.authenticate(&command);
            return Acted::Done;
        }
        if self.home.draining.get() {
            return self.refuse(&command);
        }
        match command {
            Ok(Command::Publish(publish)) => {
                let shard = self.home.process.broker.shard_of(&publish.topic);
                let request_id = publish.request_id.map_or("", |id| id.as_json());
                self.batch(shard).push(
                    &publish.topic,
                    &publish.id,
                    publish.payload,
                    request_id,
                    publish.ack,
                );
                let bytes = publish.topic.len()
                    + publish.id.len()
                    + publish.payload.len()
                    + request_id.len();
                self.took_off(shard, bytes);
                Acted::Done
            }
            Ok(Command::Subscribe {
                request_id,
                topic,
                replay,
            }) => self.subscribe(request_id, &topic, replay),
            Ok(Command::Unsubscribe { request_id, topic }) => {
                let subscriber = self.connection.outbox.sender();
                let request_id = request_id.map(|id| id.as_json().into());
                let shard = self.home.process.broker.shard_of(&topic);
                self.request(shard, || Request::Unsubscribe {
                    subscriber,
                    topic: topic.into(),
                    request_id,
                })
            }
            Ok(Command::Ping { request_id }) => {
                self.answer(|out, ts| reply::pong(out, request_id, ts))
            }
            Ok(Command::Auth { request_id, .. }) => {
                let is_asked_for = self.home.config().auth_enabled;
                self.answer(|out, ts| {
                    if is_asked_for {
                        let text = ALREADY_AUTHENTICATED_TEXT;
                        reply::error(out, request_id, ErrorCode::BadRequest, text, ts);
                    } else {
                        reply::ack_auth(out, request_id, ts);
                    }
                })
            }
            Err(BadCommand {
                request_id,
                message,
            }) => self.answer(|out, ts| {
                reply::error(out, request_id, ErrorCode::BadRequest, &message, ts);
            }),
        }
    }

    /// The only command that is taken before the client has proved its right to be here.
    fn authenticate(&self, command: &Result<Command<'_>, BadCommand<'_>>) {
        let (home, connection) = (&self.home, &self.connection);
        let ts = home.timestamp();
        let (code, message) = match command {
            Ok(Command::Auth {
                request_id,
                api_key,
            }) => {
                if home.config().api_keys.matches(api_key.as_bytes()) {
                    connection.authenticated.set(true);
                    connection.send(home, |out| reply::ack_auth(out, *request_id, ts));
                    return;
                }
                (ErrorCode::InvalidApiKey, INVALID_API_KEY_TEXT)
            }
            _ => (
                ErrorCode::Unauthorized,
                "Authentication required: the first message must be auth",
            ),
        };
        let request_id = request_id_of(command);
        connection.send(home, |out| reply::error(out, request_id, code, message, ts));
        connection.close(home, Some(CloseCode::POLICY), message);
    }

    /// The answer to any command while the server is shutting down.
    fn refuse(&mut self, command: &Result<Command<'_>, BadCommand<'_>>) -> Acted {
        let request_id = request_id_of(command);
        self.answer(|out, ts| {
            reply::error(
                out,
                request_id,
                ErrorCode::Unavailable,
                "Server is shutting down",
                ts,
            );
        })
    }

    fn subscribe(
        &mut self,
        request_id: Option<RequestId<'_>>,
        topic: &str,
        replay: command::Replay<'_>,
    ) -> Acted {
        let subscriptions_max = self.home.config().subscriptions_max;
        let is_new = || {
            !self
                .connection
                .topics
                .borrow()
                .iter()
                .any(|of| **of == *topic)
        };
        // Subscribes that are under way count as if they had succeeded.
        let under_way =
            self.connection.topics.borrow().len() + self.connection.in_flight.get() as usize;
        if under_way >= subscriptions_max && is_new() {
            return self.answer(|out, ts| {
                let message =
                    format!("No room for another subscription: the limit is {subscriptions_max}");
                reply::error(out, request_id, ErrorCode::LimitExceeded, &message, ts);
            });
        }
        let subscriber = self.connection.outbox.sender();
        let request_id = request_id.map(|id| id.as_json().into());
        let replay = match replay {
            command::Replay::None => Replay::None,
            command::Replay::Last(wanted) => Replay::Last(wanted),
            command::Replay::Since { epoch, seq } => Replay::Since {
                epoch: epoch.into(),
                seq,
            },
        };
        let shard = self.home.process.broker.shard_of(topic);
        self.request(shard, || Request::Subscribe {
            subscriber,
            topic: topic.into(),
            replay,
            request_id,
        })
    }

    /// Answers a command here, once those before it are answered.
    fn answer(&mut self, append: impl FnOnce(&mut Vec<u8>, frame::Timestamp)) -> Acted {
        if self.connection.in_flight.get() > 0 {
            return Acted::MustWait;
        }
        let ts = self.home.timestamp();
        self.connection.send(&self.home, |out| append(out, ts));
        Acted::Done
    }

    /// Hands a command to `shard`, once those with other shards are answered.
    fn request(&mut self, shard: usize, request: impl FnOnce() -> Request) -> Acted {
        if self.connection.in_flight.get() > 0 && self.flight != Some(Flight::One(shard)) {
            return Acted::MustWait;
        }
        self.hand_in();
        self.took_off(shard, 0);
        self.push(shard, request());
        Acted::Done
    }

    /// Counts a command that is now on its way to `shard`.
    fn took_off(&mut self, shard: usize, bytes: usize) {
        let in_flight = &self.connection.in_flight;
        self.flight = match self.flight {
            Some(flight) if in_flight.get() > 0 && flight != Flight::One(shard) => {
                Some(Flight::Many)
            }
            _ => Some(Flight::One(shard)),
        };
        in_flight.set(in_flight.get() + 1);
        self.connection
            .in_flight_bytes
            .set(self.connection.in_flight_bytes.get() + bytes);
    }

    /// The batch for `shard`, a new one if the last is long enough.
    fn batch(&mut self, shard: usize) -> &mut Publishes {
        let items_max = self.home.process.batch_messages_max;
        let place = if let Some(place) = self.batches.iter().position(|(of, _)| *of == shard) {
            if self.batches[place].1.items.len() >= items_max {
                let fresh = Publishes::new(self.connection.outbox.sender());
                let full = std::mem::replace(&mut self.batches[place].1, fresh);
                self.push(shard, Request::Publish(full));
            }
            place
        } else {
            self.batches
                .push((shard, Publishes::new(self.connection.outbox.sender())));
            self.batches.len() - 1
        };
        &mut self.batches[place].1
    }

    /// Hands the batches of this read to their shards.
    fn hand_in(&mut self) {
        for (shard, publishes) in std::mem::take(&mut self.batches) {
            self.push(shard, Request::Publish(publishes));
        }
    }

    fn push(&mut self, shard: usize, request: Request) {
        if !self.refused.is_empty() {
            self.refused.push_back((shard, request));
        } else if let Err(request) = self.home.process.broker.inbox(shard).push(request) {
            self.refused.push_back((shard, request));
        }
    }

    /// Tries again with what found the inbox full, as far as there is room now.
    fn push_refused(&mut self, cx: &Context<'_>) {
        while let Some((shard, request)) = self.refused.pop_front() {
            let inbox = self.home.process.broker.inbox(shard);
            if let Err(request) = inbox.push_or_wait(request, cx.waker()) {
                self.refused.push_front((shard, request));
                return;
            }
        }
    }

    /// Throws away what a client still sends to a closed connection. Ready at the end of it, once
    /// nothing waits for the client or for a shard any more.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let home = Rc::clone(&self.home);
        let mut buffer = home.read_buffer.borrow_mut();
        loop {
            let mut into = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.socket).poll_read(cx, &mut into) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !into.filled().is_empty() => {}
                Poll::Ready(Ok(()))
                    if !self.refused.is_empty() || !self.connection.out.borrow().is_empty() =>
                {
                    return Poll::Pending;
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

fn request_id_of<'a>(command: &Result<Command<'a>, BadCommand<'a>>) -> Option<RequestId<'a>> {
    match command {
        Ok(Command::Publish(publish)) => publish.request_id,
        Ok(
            Command::Auth { request_id, .. }
            | Command::Subscribe { request_id, .. }
            | Command::Unsubscribe { request_id, .. }
            | Command::Ping { request_id },
        )
        | Err(BadCommand { request_id, .. }) => *request_id,
    }
}

impl Future for Reader {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let connection = Rc::clone(&this.connection);
        {
            let mut waker = connection.waker.borrow_mut();
            if !waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                *waker = Some(cx.waker().clone());
            }
        }
        if connection.phase.get() == Phase::Ended {
            return Poll::Ready(());
        }
        if connection.parked.get() {
            match connection.writer.as_ref().poll_write_ready(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => connection.unpark(&this.home),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
            }
        }
        for _ in 0..READS_MAX {
            if connection.is_over() {
                this.push_refused(cx);
                this.flush_soon();
                return this.drain(cx);
            }
            if !this.refused.is_empty()
                || this.held.is_some()
                || (connection.paused.get() && !this.must_pause())
            {
                connection.paused.set(false);
                this.resume(cx);
            }
            if this.must_pause() {
                connection.paused.set(true);
                this.flush_soon();
                return Poll::Pending;
            }
            match this.read(cx) {
                Poll::Pending => {
                    this.flush_soon();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        this.flush_soon();
        Poll::Pending
    }
}

impl Reader {
    fn flush_soon(&self) {
        if self.connection.ready.get() {
            self.home.ring();
        }
    }
}

impl Drop for Reader {
    /// However the task ends, by itself or by a panic: nothing of the connection stays behind.
    fn drop(&mut self) {
        let (home, connection) = (&self.home, &self.connection);
        connection.phase.set(Phase::Ended);
        connection.forget_subscriptions(home);
        home.counters
            .discarded
            .add(connection.out.borrow().live() as u64);
        home.release(connection);
    }
}
