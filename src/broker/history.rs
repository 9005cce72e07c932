//! The newest events of one topic, kept for `last_n` and `since`.
//!
//! It holds the runs that the rings hold, by reference, and copies nothing. A run stays as long as
//! one of its events is among the newest `events_max`, or until memory is short. Replays are read
//! in pieces, each found by its sequence number, so that no replay pins more than one piece.

use std::collections::VecDeque;
use std::sync::Arc;

use super::run::Run;

/// Most bytes of one piece of a replay, unless its first run alone has more.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Most runs of one piece: what a piece of tiny runs pins in references.
pub const PIECE_RUNS_MAX: usize = 256;

/// A part of a run: its frames from byte `start` to the end.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The run.
    pub run: Arc<Run>,
    /// Where the first event to be replayed starts in its frames.
    pub start: usize,
}

#[derive(Debug)]
pub(crate) struct History {
    runs: VecDeque<Arc<Run>>,
    /// Bytes of `runs`.
    bytes: usize,
    events_max: usize,
}

impl History {
    /// `events_max` 0 keeps nothing.
    pub(crate) fn new(events_max: usize) -> Self {
        Self {
            runs: VecDeque::new(),
            bytes: 0,
            events_max,
        }
    }

    /// Appends the newest run, and lets go of those that no longer count.
    pub(crate) fn push(&mut self, run: Arc<Run>) {
        if self.events_max == 0 {
            return;
        }
        let newest = run.last_seq();
        self.bytes += run.bytes();
        self.runs.push_back(run);
        while let Some(oldest) = self.runs.front()
            && newest - oldest.last_seq() >= self.events_max as u64
        {
            self.drop_oldest();
        }
    }

    /// Lets go of the oldest run.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.runs.pop_front() {
            self.bytes -= oldest.bytes();
        }
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
    }

    /// Each event of the runs kept: its sequence number and its frame.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.runs.iter().flat_map(|run| run.each(0))
    }

    /// The runs that are kept.
    pub(crate) fn runs(&self) -> Vec<Arc<Run>> {
        self.runs.iter().cloned().collect()
    }

    /// How many events are kept at most.
    pub(crate) fn events_max(&self) -> u64 {
        self.events_max as u64
    }

    /// Bytes of all runs kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sequence number of the oldest event that can be replayed.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let (oldest, newest) = (self.runs.front()?, self.runs.back()?);
        let counts = (newest.last_seq() + 1).saturating_sub(self.events_max as u64);
        Some(oldest.first_seq().max(counts))
    }

    /// The events from `first` to `last`, oldest first, as far as one piece goes, and the sequence
    /// number after the last of them. `first` must be kept,
    /// unless it is after `last`; `last` must end a run.
    pub(crate) fn piece(&self, first: u64, last: u64) -> (Vec<Kept>, u64) {
        let from = self.runs.partition_point(|run| run.last_seq() < first);
        let (mut piece, mut bytes, mut next) = (Vec::new(), 0, first);
        for run in self.runs.range(from..) {
            if run.first_seq() > last {
                break;
            }
            let start = run.start_of(usize::try_from(next - run.first_seq()).unwrap_or(usize::MAX));
            let more = run.frames().len() - start;
            let is_full = piece.len() == PIECE_RUNS_MAX || bytes + more > PIECE_BYTES_MAX;
            if is_full && !piece.is_empty() {
                break;
            }
            bytes += more;
            next = run.last_seq() + 1;
            let run = Arc::clone(run);
            piece.push(Kept { run, start });
        }
        (piece, next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::entry;
    use super::*;
    use crate::protocol::time::Moment;

    /// Runs of 1, 2, 3, 1, 2, 3… events, each event one byte with its number.
    fn filled(events_max: usize, total: u8) -> History {
        let mut history = History::new(events_max);
        let (mut next, mut size) = (1_u8, 1_u8);
        while next <= total {
            let frames: Vec<u8> = (next..=total.min(next + size - 1)).collect();
            let ends: Vec<u32> = (1..=frames.len())
                .map(|end| u32::try_from(end).expect("small"))
                .collect();
            let run = Run::new(frames, &ends, next.into(), Moment::default(), entry("t"));
            next += size;
            size = size % 3 + 1;
            history.push(Arc::new(run));
        }
        history
    }

    fn numbers(piece: &[Kept]) -> Vec<u8> {
        piece
            .iter()
            .flat_map(|kept| kept.run.frames()[kept.start..].to_vec())
            .collect()
    }

    #[test]
    fn the_newest_are_kept_whatever_the_runs() {
        for events_max in 0..12_usize {
            for total in 0..40_u8 {
                let history = filled(events_max, total);
                let kept = events_max.min(total.into());
                let oldest = u64::from(total) + 1 - kept as u64;
                assert_eq!(history.oldest(), (kept > 0).then_some(oldest));
                for first in oldest..=total.into() {
                    let (piece, next) = history.piece(first, total.into());
                    let wanted: Vec<u8> = (u8::try_from(first).expect("small")..=total).collect();
                    assert_eq!((numbers(&piece), next), (wanted, u64::from(total) + 1));
                }
                let bytes: usize = history.runs.iter().map(|run| run.bytes()).sum();
                assert_eq!(history.bytes(), bytes);
            }
        }
    }

    #[test]
    fn pieces_follow_one_another_without_gap_or_repeat() {
        let mut history = History::new(10_000);
        for seq in 1..=2000_u64 {
            let bytes = usize::try_from(1 + seq * 37 % 900).expect("small");
            let end = u32::try_from(bytes).expect("small");
            history.push(Arc::new(Run::new(
                vec![0; bytes],
                &[end],
                seq,
                Moment::default(),
                entry("t"),
            )));
        }
        let (mut next, mut seen) = (5, Vec::new());
        while next <= 1900 {
            let (piece, after) = history.piece(next, 1900);
            let bytes: usize = piece.iter().map(|kept| kept.run.frames().len()).sum();
            assert!(bytes <= PIECE_BYTES_MAX && piece.len() <= PIECE_RUNS_MAX);
            seen.extend(piece.iter().map(|kept| kept.run.first_seq()));
            assert!(after > next);
            next = after;
        }
        assert!(seen.into_iter().eq(5..=1900));
    }

    #[test]
    fn a_run_longer_than_a_piece_goes_alone() {
        let mut history = History::new(10);
        for seq in 1..=2 {
            history.push(Arc::new(Run::new(
                vec![0; 100_000],
                &[100_000],
                seq,
                Moment::default(),
                entry("t"),
            )));
        }
        let (piece, next) = history.piece(1, 2);
        assert_eq!((piece.len(), next), (1, 2));
    }
}
