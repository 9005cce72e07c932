//! Which ids a topic has, for publishers that repeat what they are not sure of.

use std::sync::Arc;

use ahash::AHashMap;
use uuid::Uuid;

use super::directory::TopicEntry;
use crate::budget::{Booked, Kind};

/// Ids that may be known beside twice those that were left before any is forgotten.
const SPARE: usize = 64;

/// What one id takes in the map, its rounding included.
const ID_BYTES: usize = 48;

/// The first and the last sequence number by the value of the id: two ways of writing a UUID are one
/// id.
#[derive(Debug, Default)]
pub(crate) struct Ids(AHashMap<u128, (u64, u64)>);

impl Ids {
    /// A message with this id has this sequence number. Of several that are not before `oldest` the
    /// first counts.
    pub(crate) fn note(&mut self, id: &str, seq: u64, oldest: u64) {
        if let Ok(id) = Uuid::try_parse(id) {
            let (first, last) = self.0.entry(id.as_u128()).or_insert((seq, seq));
            if *first < oldest {
                *first = if *last < oldest { seq } else { *last };
            }
            *last = seq;
        }
    }

    /// The first message with this id that is not before `oldest`; of more than two the last, once the
    /// first is before it.
    pub(crate) fn seq_of(&self, id: &str, oldest: u64) -> Option<u64> {
        let (first, last) = self.0.get(&Uuid::try_parse(id).ok()?.as_u128())?;
        [*first, *last].into_iter().find(|seq| *seq >= oldest)
    }
}

/// The ids that a topic keeps. Only a topic that was asked has them.
#[derive(Debug)]
pub(crate) struct KeptIds {
    ids: Ids,
    /// How many were left when some were forgotten last.
    left: usize,
    booked: Booked,
}

impl KeptIds {
    /// None yet, of the topic `entry`.
    pub(crate) fn new(entry: &TopicEntry) -> Self {
        let budget = Arc::clone(&entry.budget);
        Self {
            ids: Ids::default(),
            left: 0,
            booked: Booked::new(budget, entry.shard, Kind::Topics, 0),
        }
    }

    /// As [`Ids::note`]; what is before `oldest` is not kept any more, and forgotten in time.
    pub(crate) fn note(&mut self, id: &str, seq: u64, oldest: u64) {
        self.ids.note(id, seq, oldest);
        let ids = &mut self.ids.0;
        if ids.len() > 2 * self.left + SPARE {
            ids.retain(|_, (_, last)| *last >= oldest);
            self.left = ids.len();
            ids.shrink_to(2 * self.left + SPARE);
        }
        self.booked.set(ids.capacity() * ID_BYTES);
    }

    /// Ids whose first message is before `oldest`, and whose last is not before `kept_from`.
    pub(crate) fn before(&self, oldest: u64, kept_from: u64) -> Vec<(u128, u64, u64)> {
        let all = self
            .ids
            .0
            .iter()
            .map(|(id, (first, last))| (*id, *first, *last));
        all.filter(|(_, first, last)| *first < oldest && *last >= kept_from)
            .collect()
    }

    /// Knows these again.
    pub(crate) fn restore(&mut self, ids: &[(u128, u64, u64)]) {
        let known = ids.iter().map(|(id, first, last)| (*id, (*first, *last)));
        self.ids.0.extend(known);
        self.left = self.ids.0.len();
        self.booked.set(self.ids.0.capacity() * ID_BYTES);
    }

    /// The first message with this id, if it is not before `oldest`.
    pub(crate) fn seq_of(&self, id: &str, oldest: u64) -> Option<u64> {
        self.ids.seq_of(id, oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::entry;
    use super::*;

    fn id(number: u128) -> String {
        Uuid::from_u128(number).to_string()
    }

    #[test]
    fn the_first_that_is_kept_counts_and_the_others_are_forgotten() {
        let topic = entry("t");
        let mut ids = KeptIds::new(&topic);
        ids.note(&id(1), 1, 1);
        ids.note(&id(1), 2, 1);
        assert_eq!(ids.seq_of(&id(1), 1), Some(1));
        assert_eq!(ids.seq_of(&id(1), 2), Some(2), "the first has gone");
        ids.note(&id(1), 3, 3);
        assert_eq!(ids.seq_of(&id(1).to_uppercase(), 3), Some(3));
        assert_eq!(
            ids.seq_of(&Uuid::from_u128(1).simple().to_string(), 3),
            Some(3)
        );
        assert_eq!(ids.seq_of(&id(1), 4), None);
        for seq in 4..100_000_u64 {
            ids.note(&id(seq.into()), seq, seq.saturating_sub(99));
            assert!(ids.ids.0.len() <= 2 * 100 + SPARE + 1);
            assert!(topic.budget.bytes(Kind::Topics) <= 1024 * ID_BYTES);
        }
        assert_eq!(ids.seq_of(&id(99_999), 99_900), Some(99_999));
        assert!(topic.budget.bytes(Kind::Topics) >= 100 * ID_BYTES);
        drop(ids);
        assert_eq!(topic.budget.bytes(Kind::Topics), 0);
    }
}
