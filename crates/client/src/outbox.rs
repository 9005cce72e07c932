//! Messages on their way to the broker, in order: waiting, or sent and not yet answered. Bounded in both.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use crate::error::Error;
use crate::event::Receipt;
use crate::options::Limits;

/// Who waits for the answer.
type Done = oneshot::Sender<Result<Receipt, Error>>;

/// One message. It is kept until the broker has answered it, and can be sent again as often as it takes.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    /// The command, without a `request_id`.
    pub(crate) command: String,
    pub(crate) once: bool,
    pub(crate) done: Done,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    messages_max: usize,
    bytes_max: usize,
    in_flight_max: usize,
    waiting: VecDeque<(u64, Entry)>,
    in_flight: BTreeMap<u64, Entry>,
    bytes: usize,
    orders: u64,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            messages_max: limits.publish_queue_max,
            bytes_max: limits.publish_queue_bytes_max,
            in_flight_max: limits.in_flight_max,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            bytes: 0,
            orders: 0,
        }
    }

    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let messages = self.waiting.len() + self.in_flight.len();
        // One message alone always fits: whether it is too long is not for the queue to say.
        messages == 0 || (messages < self.messages_max && self.bytes + bytes <= self.bytes_max)
    }

    /// Adds a message. Returns its number in the order.
    pub(crate) fn put(&mut self, entry: Entry) -> u64 {
        self.orders += 1;
        self.bytes += entry.command.len();
        self.waiting.push_back((self.orders, entry));
        self.orders
    }

    /// Whether a message could be sent.
    pub(crate) fn has_next(&self) -> bool {
        !self.waiting.is_empty() && self.in_flight.len() < self.in_flight_max
    }

    /// The next message to send, if one waits and not too many are without an answer.
    pub(crate) fn take(&mut self) -> Option<(u64, &str)> {
        while self.has_next() {
            let (order, entry) = self.waiting.pop_front()?;
            if entry.done.is_closed() {
                self.bytes -= entry.command.len();
                continue;
            }
            let entry = self.in_flight.entry(order).or_insert(entry);
            return Some((order, &entry.command));
        }
        None
    }

    /// The broker has answered it.
    pub(crate) fn answered(&mut self, order: u64) -> Option<Entry> {
        let entry = self.in_flight.remove(&order)?;
        self.bytes -= entry.command.len();
        Some(entry)
    }

    /// The broker has not carried it out: it waits again, where it was in the order.
    pub(crate) fn take_back(&mut self, order: u64) {
        if let Some(entry) = self.in_flight.remove(&order) {
            let at = self.waiting.partition_point(|(other, _)| *other < order);
            self.waiting.insert(at, (order, entry));
        }
    }

    /// Whether a message that is in flight may be sent once more without being accepted twice.
    pub(crate) fn may_repeat(&self, order: u64) -> bool {
        self.in_flight.get(&order).is_some_and(|entry| entry.once)
    }

    /// The longest of those that are in flight.
    pub(crate) fn longest_in_flight(&self) -> Option<u64> {
        let longest = self.in_flight.iter();
        let longest = longest.max_by_key(|(_, entry)| entry.command.len());
        longest.map(|(order, _)| *order)
    }

    /// Nobody knows what became of what was in flight. What may be repeated waits again, in its old order.
    pub(crate) fn link_lost(&mut self) {
        let orders: Vec<_> = self.in_flight.keys().copied().collect();
        for order in orders {
            if self.may_repeat(order) {
                self.take_back(order);
            } else if let Some(entry) = self.answered(order) {
                let text = "the connection ended before the answer; it may have happened";
                let lost = Error::new("CONNECTION_LOST", text);
                entry.done.send(Err(lost)).ok();
            }
        }
    }

    /// Nobody waits for it any more. One that is in flight stays until its answer, or the end of the link.
    pub(crate) fn discard(&mut self, order: u64) {
        if let Ok(at) = self
            .waiting
            .binary_search_by_key(&order, |(order, _)| *order)
            && let Some((_, entry)) = self.waiting.remove(at)
        {
            self.bytes -= entry.command.len();
        }
    }

    /// Refuses all of them.
    pub(crate) fn close(&mut self, error: &Error) {
        let in_flight = std::mem::take(&mut self.in_flight).into_values();
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        for entry in in_flight.chain(waiting.map(|(_, entry)| entry)) {
            entry.done.send(Err(error.clone())).ok();
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(once: bool) -> (Entry, oneshot::Receiver<Result<Receipt, Error>>) {
        let (done, answer) = oneshot::channel();
        let entry = Entry {
            id: String::new(),
            command: "x".repeat(10),
            once,
            done,
        };
        (entry, answer)
    }

    #[test]
    fn what_was_in_flight_waits_again_in_its_old_order() {
        let limits = Limits {
            publish_queue_max: 5,
            publish_queue_bytes_max: 45,
            in_flight_max: 3,
            ..Limits::default()
        };
        let mut outbox = Outbox::new(&limits);
        let mut answers = Vec::new();
        for once in [true, false, true, true] {
            assert!(outbox.has_room(10));
            let (entry, answer) = entry(once);
            outbox.put(entry);
            answers.push(answer);
        }
        assert!(!outbox.has_room(10), "by bytes");
        let taken: Vec<_> = std::iter::from_fn(|| outbox.take().map(|(order, _)| order)).collect();
        assert_eq!(taken, [1, 2, 3]);
        outbox.link_lost();
        let lost = answers[1].try_recv().expect("it was told");
        assert_eq!(lost.expect_err("lost").code, "CONNECTION_LOST");
        answers.remove(2);
        let taken: Vec<_> = std::iter::from_fn(|| outbox.take().map(|(order, _)| order)).collect();
        assert_eq!(taken, [1, 4], "nobody waits for the third");
        outbox.take_back(1);
        assert_eq!(outbox.take().map(|(order, _)| order), Some(1));
        outbox.answered(4).expect("it was in flight");
        outbox.close(&Error::new("CLOSED", ""));
        assert!(answers[0].try_recv().expect("it was told").is_err());
        assert!(outbox.has_room(1000) && !outbox.has_next());
    }
}
