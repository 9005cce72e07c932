//! Which ids a topic keeps, for publishers that repeat what they are not sure of. Only a topic that
//! was asked has it.

use ahash::AHashMap;
use uuid::Uuid;

/// Ids that may be known beside twice those that were left before any is forgotten.
const SPARE: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// By the id's value: two ways of writing a UUID are one id.
    seqs: AHashMap<u128, u64>,
    /// How many were left when some were forgotten last.
    left: usize,
}

impl Ids {
    /// A message with this id has this sequence number, and what is before `oldest` is not kept any
    /// more. Of several the first that is kept counts.
    pub(crate) fn note(&mut self, id: &str, seq: u64, oldest: u64) {
        let Ok(id) = Uuid::try_parse(id) else {
            return;
        };
        let known = self.seqs.entry(id.as_u128()).or_insert(seq);
        if *known < oldest {
            *known = seq;
        }
        if self.seqs.len() > 2 * self.left + SPARE {
            self.seqs.retain(|_, seq| *seq >= oldest);
            self.left = self.seqs.len();
        }
    }

    /// The first message with this id, which may not be kept any more.
    pub(crate) fn seq_of(&self, id: &str) -> Option<u64> {
        self.seqs.get(&Uuid::try_parse(id).ok()?.as_u128()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> String {
        Uuid::from_u128(number).to_string()
    }

    #[test]
    fn the_first_that_is_kept_counts_and_the_others_are_forgotten() {
        let mut ids = Ids::default();
        ids.note(&id(1), 1, 1);
        ids.note(&id(1), 2, 1);
        assert_eq!(ids.seq_of(&id(1)), Some(1));
        ids.note(&id(1), 3, 2);
        assert_eq!(ids.seq_of(&id(1).to_uppercase()), Some(3));
        for seq in 4..100_000_u64 {
            ids.note(&id(seq.into()), seq, seq.saturating_sub(99));
            assert!(ids.seqs.len() <= 2 * 100 + SPARE + 1);
        }
        assert_eq!(ids.seq_of(&id(99_999)), Some(99_999));
    }
}
