//! What other threads send to a core.
//!
//! Deliveries have a bound that can be written down: a shard hands over its next turn only when
//! every core has flushed the last, so there is one for each shard at most. Sockets are bounded by
//! the limits on connections, the rest by the few who send it.
//!
//! # Memory ordering
//!
//! `unflushed` is raised by the shard's core before the delivery is in the queue and lowered by the
//! receiving core when it is flushed. `is_shard_blocked` closes the gap between "somebody has not
//! flushed" and going to sleep over it: the shard's core raises it and looks again, the receiving
//! core lowers its count and then looks at the flag. Both take the flag by an exchange, so one of
//! the two comes second and sees what the first did before. `crates/interleavings` tries all orders.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::census::{Census, Dismissal, Look};
use crate::broker::delivery::Delivery;
use crate::broker::inbox::Bell;
use crate::sync::{ArrayQueue, AtomicBool, AtomicUsize, Ordering, SegQueue};
use crate::wire::Arrival;

/// Something for a core that is not about events.
#[derive(Debug)]
pub enum Letter {
    /// A new socket.
    Socket(Arrival),
    /// Keys have changed: look at what each connection may do.
    Review,
    /// Say that the core is alive.
    Ping(oneshot::Sender<()>),
    /// List connections.
    Census(Census),
    /// Show one connection.
    Look(Look),
    /// Close one connection.
    Dismiss(Dismissal),
    /// Tell every connection that the server is shutting down, and take no new commands.
    Drain(oneshot::Sender<()>),
    /// Close every connection once its ring is flushed; answer when none is left.
    Finish(oneshot::Sender<()>),
}

/// The way to one core.
#[derive(Debug)]
pub struct Mailbox {
    deliveries: ArrayQueue<Delivery>,
    letters: SegQueue<Letter>,
    bell: Arc<Bell>,
    /// Deliveries of each shard that are not flushed yet, by the shard's index.
    unflushed: Box<[AtomicUsize]>,
    /// The shard of this core waits for another core to flush.
    is_shard_blocked: AtomicBool,
}

impl Mailbox {
    /// A mailbox of a core among `cores` that rings `bell`.
    pub fn new(cores: usize, bell: Arc<Bell>) -> Self {
        Self {
            deliveries: ArrayQueue::new(cores.max(1)),
            letters: SegQueue::new(),
            bell,
            unflushed: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            is_shard_blocked: AtomicBool::new(false),
        }
    }

    /// Leaves a letter and wakes the core.
    pub fn send(&self, letter: Letter) {
        self.letters.push(letter);
        self.bell.ring();
    }

    /// Leaves a letter that is answered, and gives what takes the answer.
    pub fn ask<T>(
        &self,
        letter: impl FnOnce(oneshot::Sender<T>) -> Letter,
    ) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        self.send(letter(reply));
        answer
    }

    /// Wakes the core: something that all see has changed.
    pub(super) fn wake(&self) {
        self.bell.ring();
    }

    /// Leaves what a turn of a shard has for this core, and wakes it.
    pub(super) fn deliver(&self, delivery: Delivery) {
        if let Some(unflushed) = self.unflushed.get(delivery.shard) {
            // Relaxed: only this thread raises it, and it asks `may_turn` itself.
            unflushed.fetch_add(1, Ordering::Relaxed);
        }
        let mut waiting = delivery;
        while let Err(refused) = self.deliveries.push(waiting) {
            // Never by the bound above; to lose a delivery would break every promise.
            debug_assert!(false, "a shard ran ahead of the flushing");
            waiting = refused;
            std::thread::yield_now();
        }
        self.bell.ring();
    }

    pub(super) fn next_delivery(&self) -> Option<Delivery> {
        self.deliveries.pop()
    }

    pub(super) fn next_letter(&self) -> Option<Letter> {
        self.letters.pop()
    }

    /// Whether the core has still to flush something of `shard`.
    fn owes(&self, shard: usize) -> bool {
        self.unflushed
            .get(shard)
            .is_some_and(|unflushed| unflushed.load(Ordering::Acquire) > 0)
    }
}

/// Core `core` has flushed a delivery of `shard`: wakes that one's core if it waits for this.
pub(super) fn settle(mailboxes: &[Mailbox], core: usize, shard: usize) {
    let owing = mailboxes.get(core);
    if let Some(unflushed) = owing.and_then(|mailbox| mailbox.unflushed.get(shard)) {
        unflushed.fetch_sub(1, Ordering::Release);
    }
    // AcqRel: pairs with the exchange in `may_turn`.
    if let Some(mailbox) = mailboxes.get(shard)
        && mailbox.is_shard_blocked.swap(false, Ordering::AcqRel)
    {
        mailbox.bell.ring();
    }
}

/// Whether every core has flushed what `shard` has sent it. If not, its core is woken when one more
/// has.
pub(super) fn may_turn(mailboxes: &[Mailbox], shard: usize) -> bool {
    let is_flushed = || !mailboxes.iter().any(|mailbox| mailbox.owes(shard));
    if is_flushed() {
        return true;
    }
    if let Some(mailbox) = mailboxes.get(shard) {
        // AcqRel: pairs with the exchange in `settle`; what was flushed before that is seen below.
        mailbox.is_shard_blocked.swap(true, Ordering::AcqRel);
    }
    is_flushed()
}
