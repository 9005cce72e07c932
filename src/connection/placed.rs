//! Replies that may not leave yet, because events in front of them are still in the ring.
//!
//! Replies of one shard leave in the order in which they were made. One that must come behind
//! events waits for its marker to come up from the ring; those of the same shard that follow it
//! wait with it. A marker can lose its place to an overflow, and then comes up late. Therefore a
//! reply also leaves when an event shows up that was accepted after it.

use std::collections::VecDeque;

use crate::broker::request::{Order, Reply};
use crate::broker::run::Run;

#[derive(Debug)]
struct Waiting {
    shard: usize,
    /// The marker that it waits for: its own, or that of the reply before it.
    ticket: u64,
    reply: Reply,
}

/// The replies of one connection that wait for their place. Bounded by its commands in flight and
/// by the markers that its ring holds.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    waiting: VecDeque<Waiting>,
    /// Markers that came up before their reply was here.
    early: Vec<u64>,
    /// Markers whose reply has left without them.
    late: Vec<u64>,
}

impl Placed {
    /// A reply of `shard` has come. `leave` gets every reply that may go now, in order.
    pub(crate) fn arrive(&mut self, shard: usize, reply: Reply, leave: impl FnMut(Reply)) {
        match reply.order {
            Order::BeforeRing => self.follow(shard, reply, leave),
            Order::AfterMarker(ticket) => {
                self.waiting.push_back(Waiting {
                    shard,
                    ticket,
                    reply,
                });
                if let Some(index) = self.early.iter().position(|of| *of == ticket) {
                    self.early.swap_remove(index);
                    self.release(ticket, leave);
                }
            }
        }
    }

    fn follow(&mut self, shard: usize, reply: Reply, mut leave: impl FnMut(Reply)) {
        let before = self.waiting.iter().rfind(|other| other.shard == shard);
        match before.map(|before| before.ticket) {
            None => leave(reply),
            Some(ticket) => self.waiting.push_back(Waiting {
                shard,
                ticket,
                reply,
            }),
        }
    }

    /// A marker has come up.
    pub(crate) fn come_up(&mut self, ticket: u64, leave: impl FnMut(Reply)) {
        if let Some(index) = self.late.iter().position(|of| *of == ticket) {
            self.late.swap_remove(index);
        } else if self.waiting.iter().any(|of| of.ticket == ticket) {
            self.release(ticket, leave);
        } else {
            self.early.push(ticket);
        }
    }

    /// Events are about to leave.
    pub(crate) fn precede(&mut self, run: &Run, leave: impl FnMut(Reply)) {
        let is_before = |of: &&Waiting| {
            let moment = of.reply.moment.as_ref();
            moment.is_some_and(|moment| moment.is_before(run))
        };
        if let Some(ticket) = self.waiting.iter().rfind(is_before).map(|of| of.ticket) {
            self.late.push(ticket);
            self.release(ticket, leave);
        }
    }

    /// Lets go what waits for `ticket`, and before it what waits for earlier ones of that shard.
    fn release(&mut self, ticket: u64, mut leave: impl FnMut(Reply)) {
        let Some(last) = self.waiting.iter().rposition(|of| of.ticket == ticket) else {
            return;
        };
        let shard = self.waiting.get(last).map(|of| of.shard);
        let behind = self.waiting.split_off(last + 1);
        for waiting in std::mem::take(&mut self.waiting) {
            if Some(waiting.shard) != shard {
                self.waiting.push_back(waiting);
                continue;
            }
            if waiting.ticket != ticket && !self.late.contains(&waiting.ticket) {
                self.late.push(waiting.ticket);
            }
            leave(waiting.reply);
        }
        self.waiting.extend(behind);
    }
}
