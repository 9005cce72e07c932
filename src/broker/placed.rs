//! Where a reply stands among the live events of its connection.
//!
//! The ack of a subscribe, of an unsubscribe, and the end of a topic divide the events of a topic
//! into those before and those after. Such a reply carries the [`Stamp`] of its shard's newest run.
//! What was pushed before is in the ring when the reply arrives, or has left it; what is pushed
//! later has a later stamp, and is pushed after the reply was handed over. So it is due in front of
//! the first later run of its shard, or when as many runs have left the ring as were in it at the
//! beginning of a drain, whichever comes first. The ring itself knows nothing of replies: dropping
//! events cannot move them.

use std::collections::VecDeque;

use super::request::Reply;
use super::run::Stamp;

/// Replies of one connection that wait for their place. Bounded by its commands under way and its
/// subscriptions. A drain of the ring calls [`begin`](Self::begin), takes, reads what replies have
/// come, then for each run [`due`](Self::due) until there is none, and [`passed`](Self::passed).
#[derive(Debug, Default)]
pub struct Placed {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    after: Stamp,
    /// Runs in the ring that may have to come first. Not known before a drain begins.
    runs_left: Option<usize>,
    reply: Reply,
}

impl Placed {
    /// Keeps a reply until its place comes up.
    pub fn push(&mut self, after: Stamp, reply: Reply) {
        self.waiting.push_back(Waiting {
            after,
            runs_left: None,
            reply,
        });
    }

    /// What the last reply of `shard` that waits has to come after.
    pub fn last_of(&self, shard: usize) -> Option<Stamp> {
        let mut stamps = self.waiting.iter().map(|waiting| waiting.after);
        stamps.rfind(|after| after.shard == shard)
    }

    /// A drain begins, with so many runs in the ring.
    pub fn begin(&mut self, runs: usize) {
        for Waiting { runs_left, .. } in &mut self.waiting {
            *runs_left = Some(runs_left.map_or(runs, |left| left.min(runs)));
        }
    }

    /// The next reply to be sent before the run `next`, or now if that is not known.
    pub fn due(&mut self, next: Option<Stamp>) -> Option<Reply> {
        let is_due = |waiting: &Waiting| {
            waiting.runs_left == Some(0) || next.is_some_and(|run| waiting.after.is_before(run))
        };
        let index = self.waiting.iter().position(is_due)?;
        let due = self.waiting.remove(index);
        if self.waiting.is_empty() {
            // Most connections wait for one ack in their whole life.
            self.waiting = VecDeque::new();
        }
        due.map(|waiting| waiting.reply)
    }

    /// A run that left the ring is on its way.
    pub fn passed(&mut self) {
        for Waiting { runs_left, .. } in &mut self.waiting {
            *runs_left = runs_left.map(|left| left.saturating_sub(1));
        }
    }

    /// The drain has found the ring empty.
    pub fn drained(&mut self) {
        for Waiting { runs_left, .. } in &mut self.waiting {
            *runs_left = runs_left.map(|_| 0);
        }
    }

    /// Whether no reply waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::{Address, ConnectionId, outbox};
    use super::super::request::Order;
    use super::*;

    fn stamp(shard: usize, serial: u64) -> Stamp {
        Stamp { shard, serial }
    }

    /// A `Placed` with a reply for each stamp, which answers as many commands as its place in the
    /// list says.
    fn placed(stamps: &[Stamp]) -> Placed {
        let (to, _) = outbox(ConnectionId(1), Address { home: 0, slot: 0 }, 1, false);
        let mut placed = Placed::default();
        for (commands, stamp) in (0..).zip(stamps) {
            let reply = Reply {
                to: to.clone(),
                frames: Vec::new(),
                replay: Vec::new(),
                order: Order::AfterRun(*stamp),
                commands,
                request_bytes: 0,
                membership: None,
            };
            placed.push(*stamp, reply);
        }
        placed
    }

    fn due(placed: &mut Placed, next: Option<Stamp>) -> Vec<u32> {
        std::iter::from_fn(|| placed.due(next))
            .map(|reply| reply.commands)
            .collect()
    }

    #[test]
    fn a_reply_is_due_before_a_later_run_of_its_shard_only() {
        let mut placed = placed(&[stamp(1, 5), stamp(2, 1), stamp(1, 7)]);
        assert!(due(&mut placed, None).is_empty());
        assert!(due(&mut placed, Some(stamp(1, 5))).is_empty());
        assert_eq!(due(&mut placed, Some(stamp(1, 7))), [0]);
        assert_eq!(due(&mut placed, Some(stamp(1, 8))), [2]);
        assert_eq!(due(&mut placed, Some(stamp(2, 2))), [1]);
        assert!(placed.is_empty());
    }

    #[test]
    fn a_reply_waits_for_no_more_than_was_in_the_ring() {
        let mut placed = placed(&[stamp(1, 5)]);
        placed.begin(2);
        placed.passed();
        assert!(due(&mut placed, None).is_empty());
        placed.begin(9);
        placed.passed();
        assert_eq!(due(&mut placed, None), [0]);
    }

    #[test]
    fn an_empty_ring_sends_what_came_before_the_drain() {
        let mut placed = placed(&[stamp(1, 5)]);
        placed.begin(3);
        placed.push(
            stamp(1, 5),
            self::placed(&[stamp(1, 5)])
                .waiting
                .remove(0)
                .expect("one")
                .reply,
        );
        placed.drained();
        assert_eq!(due(&mut placed, None).len(), 1);
        assert!(!placed.is_empty());
    }
}
