//! The newest events of one topic, kept for `last_n` and `since`.
//!
//! It holds the runs that the rings hold, by reference, and copies nothing. A run stays as long as
//! one of its events is among the newest `events_max`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::run::Run;

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
    /// Events in `runs`, those of the first run that no longer count included.
    held: usize,
    events_max: usize,
}

impl History {
    /// `events_max` 0 keeps nothing.
    pub(crate) fn new(events_max: usize) -> Self {
        Self {
            runs: VecDeque::new(),
            held: 0,
            events_max,
        }
    }

    /// Appends the newest run.
    pub(crate) fn push(&mut self, run: Arc<Run>) {
        if self.events_max == 0 {
            return;
        }
        self.held += run.events();
        self.runs.push_back(run);
        while let Some(oldest) = self.runs.front() {
            let rest = self.held - oldest.events();
            if rest < self.events_max {
                break;
            }
            self.held = rest;
            self.runs.pop_front();
        }
    }

    /// Events that can be replayed.
    pub(crate) fn events(&self) -> usize {
        self.held.min(self.events_max)
    }

    /// The newest `wanted` events, or all that are kept, oldest first.
    pub(crate) fn newest(&self, wanted: usize) -> Vec<Kept> {
        let mut skip = self.held - wanted.min(self.events());
        let mut parts = Vec::new();
        for run in &self.runs {
            let events = run.events();
            if skip >= events {
                skip -= events;
                continue;
            }
            parts.push(Kept {
                run: Arc::clone(run),
                start: run.start_of(skip),
            });
            skip = 0;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::Stamp;
    use super::*;

    /// Runs of 1, 2, 3, 1, 2, 3… events, each event one byte with its number.
    fn filled(events_max: usize, total: u8) -> History {
        let mut history = History::new(events_max);
        let (mut next, mut size) = (1_u8, 1_u8);
        while next <= total {
            let frames: Vec<u8> = (next..=total.min(next + size - 1)).collect();
            let ends: Vec<u32> = (1..=frames.len())
                .map(|n| u32::try_from(n).expect("small"))
                .collect();
            next += size;
            size = size % 3 + 1;
            let stamp = Stamp {
                shard: 0,
                serial: 1,
            };
            history.push(Arc::new(Run::new(frames, &ends, Arc::default(), stamp)));
        }
        history
    }

    fn replay(history: &History, wanted: usize) -> Vec<u8> {
        history
            .newest(wanted)
            .iter()
            .flat_map(|kept| kept.run.frames()[kept.start..].to_vec())
            .collect()
    }

    #[test]
    fn the_newest_come_oldest_first_whatever_the_runs_are() {
        for total in 0..40_u8 {
            for events_max in [0_usize, 1, 2, 5, 10] {
                let history = filled(events_max, total);
                assert_eq!(history.events(), events_max.min(total.into()));
                for wanted in 0..15_usize {
                    let count = wanted.min(events_max).min(total.into());
                    let first = usize::from(total) - count + 1;
                    let expected: Vec<u8> = (first..=total.into())
                        .map(|n| u8::try_from(n).expect("small"))
                        .collect();
                    assert_eq!(
                        replay(&history, wanted),
                        expected,
                        "{wanted} of {events_max} after {total}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_more_than_the_bound_and_a_part_of_one_run_is_held() {
        let history = filled(5, 200);
        assert!(history.held < 5 + 3);
    }
}
