//! What waits for the consumer of one subscription: events and gaps in order, bounded in events and bytes.
//!
//! A full inbox is for the connection to respect by not reading on. Where it must read on, the oldest events
//! make room, and a gap says so in their place.

use std::collections::VecDeque;

use crate::event::{Gap, Item, Reason};
use crate::options::Limits;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    events_max: usize,
    bytes_max: usize,
    items: VecDeque<(Item, usize)>,
    /// Of what made room, one for each topic and epoch; they come before everything that waits.
    dropped: VecDeque<Gap>,
    events: usize,
    bytes: usize,
}

impl Inbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            events_max: limits.event_queue_max,
            bytes_max: limits.event_queue_bytes_max,
            items: VecDeque::new(),
            dropped: VecDeque::new(),
            events: 0,
            bytes: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.events >= self.events_max || self.bytes >= self.bytes_max
    }

    /// Adds an event of so many bytes.
    pub(crate) fn put(&mut self, item: Item, bytes: usize) {
        if matches!(item, Item::Event(_)) {
            while self.is_full() && self.make_room() {}
            self.events += 1;
            self.bytes += bytes;
        }
        self.items.push_back((item, bytes));
    }

    pub(crate) fn put_gap(&mut self, gap: Option<Gap>) {
        if let Some(gap) = gap {
            self.put(Item::Gap(gap), 0);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Item> {
        match self.dropped.pop_front() {
            Some(gap) => Some(Item::Gap(gap)),
            None => self.pop_item(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.dropped.clear();
        (self.events, self.bytes) = (0, 0);
    }

    fn pop_item(&mut self) -> Option<Item> {
        let (item, bytes) = self.items.pop_front()?;
        if matches!(item, Item::Event(_)) {
            self.events -= 1;
            self.bytes -= bytes;
        }
        Some(item)
    }

    /// Drops up to the oldest event, and with it the gaps in front of it, which become part of a longer one.
    fn make_room(&mut self) -> bool {
        while let Some(item) = self.pop_item() {
            match item {
                Item::Gap(gap) => self.note_dropped(gap),
                Item::Event(event) => {
                    // What a policy had replaced before it was not lost: it would not have come anyway.
                    self.note_dropped(Gap {
                        topic: event.topic,
                        epoch: event.epoch,
                        first: event.seq,
                        last: Some(event.seq),
                        count: Some(1),
                        reason: Reason::Slow,
                    });
                    return true;
                }
            }
        }
        false
    }

    fn note_dropped(&mut self, gap: Gap) {
        let same = |of: &&mut Gap| of.topic == gap.topic && of.epoch == gap.epoch;
        match self.dropped.iter_mut().rev().find(same) {
            Some(before) => {
                let counts = before.count.zip(gap.count);
                before.count = counts.map(|(before, more)| before + more);
                before.last = before.last.and(gap.last);
                before.reason = gap.reason;
            }
            None => self.dropped.push_back(gap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn event(topic: &str, seq: u64) -> Item {
        Item::Event(Event {
            topic: topic.into(),
            id: String::new(),
            payload: serde_json::from_str("1").expect("JSON"),
            seq,
            epoch: "e".into(),
            ts: String::new(),
            skipped: 0,
            text: None,
        })
    }

    #[test]
    fn the_oldest_make_room_and_are_told_as_one_gap_for_each_topic() {
        let limits = Limits {
            event_queue_max: 3,
            event_queue_bytes_max: 100,
            ..Limits::default()
        };
        let mut inbox = Inbox::new(&limits);
        for seq in 1..=4 {
            inbox.put(event("a", seq), 10);
            inbox.put(event("b", seq), 10);
        }
        let mut told = Vec::new();
        while let Some(item) = inbox.pop() {
            told.push(match item {
                Item::Event(event) => format!("{} {}", event.topic, event.seq),
                Item::Gap(gap) => format!("{} {}-{}", gap.topic, gap.first, gap.last.unwrap_or(0)),
            });
        }
        assert_eq!(told, ["a 1-3", "b 1-2", "b 3", "a 4", "b 4"]);
        // Bytes are bounded too, and one event always has room.
        inbox.put(event("a", 5), 200);
        inbox.put(event("a", 6), 200);
        assert!(inbox.is_full());
        assert!(matches!(inbox.pop(), Some(Item::Gap(gap)) if gap.first == 5));
        assert!(matches!(inbox.pop(), Some(Item::Event(event)) if event.seq == 6));
        assert!(inbox.pop().is_none() && !inbox.is_full());
    }
}
