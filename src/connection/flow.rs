//! What a connection has with shards, and when it must read no further.
//!
//! Commands are answered in their order, with one exception: a publish may be acked before commands
//! for *other* topics that came before it. Any other command that is answered here, or by another
//! shard than the commands before it, waits until those are answered.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use super::Connection;
use super::local::{Local, READ_BYTES};
use crate::broker::inbox::Inbox;
use crate::broker::request::{Publishes, Request};
use crate::protocol::command::Publish;

/// Bytes of requests that one connection may have with shards: one read.
const IN_FLIGHT_BYTES_MAX: usize = READ_BYTES;

/// Which shards have commands of this connection that are not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    One(usize),
    Many,
    /// Nothing else is taken until what is under way is answered: all shards have the same command, or
    /// one has to ask elsewhere.
    All,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flow {
    local: Rc<Local>,
    connection: Rc<Connection>,
    flight: Option<Flight>,
    /// Publishes of this read, by lane.
    batches: Vec<(usize, Publishes)>,
    /// Requests that found the inbox of their shard or lane full.
    refused: VecDeque<(usize, Request)>,
}

impl Flow {
    pub(super) fn new(local: Rc<Local>, connection: Rc<Connection>) -> Self {
        Self {
            local,
            connection,
            flight: None,
            batches: Vec::new(),
            refused: VecDeque::new(),
        }
    }

    /// Whether too much is under way, or too many replies wait, for another command.
    pub(super) fn must_pause(&self) -> bool {
        let connection = &self.connection;
        let config = self.local.config();
        !self.refused.is_empty()
            || (self.flight == Some(Flight::All) && !self.is_idle())
            || connection.in_flight.get() as usize >= config.commands_in_flight_max
            || connection.in_flight_bytes() >= IN_FLIGHT_BYTES_MAX
            || connection.ring.borrow().reply_bytes() > config.reply_bytes_max
    }

    /// Whether requests wait for room in an inbox.
    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether nothing is with a shard.
    pub(super) fn is_idle(&self) -> bool {
        self.connection.in_flight.get() == 0
    }

    /// Whether a command for `shard` would be answered in its order.
    pub(super) fn may_ask(&self, shard: usize) -> bool {
        // What is put in order elsewhere is overtaken by what only asks the same shard.
        let is_ordered_here = !self.local.process.broker.is_ordered_elsewhere();
        self.is_idle() || (is_ordered_here && self.flight == Some(Flight::One(shard)))
    }

    /// Adds a publish to the batch for its lane.
    pub(super) fn publish(&mut self, publish: &Publish<'_>) {
        let lane = self.local.process.broker.lane_of(&publish.topic);
        let request_id = publish.request_id.map_or("", |id| id.as_json());
        let batch = self.batch(lane);
        let before = batch.text.len();
        batch.push(
            &publish.topic,
            &publish.id,
            publish.payload,
            request_id,
            publish.ack,
            publish.once,
        );
        let bytes = batch.text.len() - before;
        self.took_off(lane, bytes);
    }

    /// The batch for `lane`, a new one if the last is long enough.
    fn batch(&mut self, lane: usize) -> &mut Publishes {
        let items_max = self.local.process.batch_messages_max;
        let publisher = self.connection.id;
        let place = if let Some(place) = self.batches.iter().position(|(of, _)| *of == lane) {
            if self.batches[place].1.items.len() >= items_max {
                let fresh = Publishes::new(publisher, self.local.moment());
                let full = std::mem::replace(&mut self.batches[place].1, fresh);
                self.push(lane, Request::Publish(full));
            }
            place
        } else {
            self.batches
                .push((lane, Publishes::new(publisher, self.local.moment())));
            self.batches.len() - 1
        };
        &mut self.batches[place].1
    }

    /// Hands one command to `shard`, behind the publishes before it.
    pub(super) fn ask(&mut self, shard: usize, request: Request) {
        self.hand_in();
        self.took_off(shard, 0);
        self.push(shard, request);
        if self.may_detour() {
            // A topic may have to be made elsewhere first; what comes behind is not to overtake that.
            self.flight = Some(Flight::All);
        }
    }

    fn may_detour(&self) -> bool {
        let process = &self.local.process;
        process.broker.is_ordered_elsewhere() && process.config.auto_create_topics
    }

    /// Hands one command of so many bytes to every shard. Nothing may be under way.
    pub(super) fn ask_all(&mut self, request: impl Fn() -> Request, bytes: usize) {
        self.hand_in();
        for shard in 0..self.local.process.broker.inboxes().len() {
            self.took_off(shard, 0);
            self.push(shard, request());
        }
        self.flight = Some(Flight::All);
        let before = self.connection.in_flight_bytes();
        self.connection.set_in_flight_bytes(before + bytes);
    }

    /// Hands the batches of this read to their lanes.
    pub(super) fn hand_in(&mut self) {
        for (lane, publishes) in std::mem::take(&mut self.batches) {
            self.push(lane, Request::Publish(publishes));
        }
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
        let before = self.connection.in_flight_bytes();
        self.connection.set_in_flight_bytes(before + bytes);
    }

    /// Where a request goes in: that of a lane if it is a change.
    fn inbox(&self, index: usize, request: &Request) -> &Arc<Inbox> {
        let broker = &self.local.process.broker;
        match request {
            Request::Publish(_) => broker.lane(index),
            _ => broker.inbox(index),
        }
    }

    fn push(&mut self, shard: usize, request: Request) {
        if let Request::Publish(publishes) = &request {
            self.connection.figures.published(publishes.items.len());
        }
        if !self.refused.is_empty() {
            self.refused.push_back((shard, request));
        } else if let Err(request) = self.inbox(shard, &request).push(request) {
            self.refused.push_back((shard, request));
        }
    }

    /// Tries again with what found the inbox full, as far as there is room now. For what is left,
    /// the waker of `cx` stands with the inbox.
    pub(super) fn push_refused(&mut self, cx: &Context<'_>) {
        while let Some((shard, request)) = self.refused.pop_front() {
            let inbox = Arc::clone(self.inbox(shard, &request));
            if let Err(request) = inbox.push_or_wait(request, cx.waker()) {
                self.refused.push_front((shard, request));
                return;
            }
        }
    }
}
