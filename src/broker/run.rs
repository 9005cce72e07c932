//! Consecutive events of one topic, encoded once and shared by every ring and by the history.
//!
//! A run is what a ring entry refers to. Under load it holds many events, so that a subscriber
//! costs one push and one write for all of them; when it is quiet it holds one. Bounds, drops and
//! order are still counted per event: a run knows where each of its frames ends.

use std::sync::Arc;

use super::topic::TopicCounters;

/// Most bytes of frames in one run of more than one event. With it a full ring holds no more
/// bytes than it would hold with one event of the largest default size in each place.
pub(crate) const RUN_BYTES_MAX: usize = 64 * 1024;

/// Which run of which shard: what a reply must come after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The shard.
    pub shard: usize,
    /// The number of the run among those of the shard, over all its topics, from 1.
    pub serial: u64,
}

impl Stamp {
    /// Whether `run` is a later one of the same shard.
    pub fn is_before(self, run: Self) -> bool {
        self.shard == run.shard && self.serial < run.serial
    }
}

/// Complete WebSocket frames of consecutive events of one topic, immutable once made.
#[derive(Debug)]
pub struct Run {
    frames: Box<[u8]>,
    /// Where each frame ends in `frames`; empty for a run of one event, which ends at the end.
    ends: Box<[u32]>,
    counters: Arc<TopicCounters>,
    stamp: Stamp,
}

impl Run {
    /// Takes over `frames`; `ends` has the end of each frame, in order.
    pub fn new(frames: Vec<u8>, ends: &[u32], counters: Arc<TopicCounters>, stamp: Stamp) -> Self {
        let ends = if ends.len() > 1 {
            ends.into()
        } else {
            Box::default()
        };
        Self {
            frames: frames.into_boxed_slice(),
            ends,
            counters,
            stamp,
        }
    }

    /// Which run it is.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Events in this run: at least 1.
    pub fn events(&self) -> usize {
        self.ends.len().max(1)
    }

    /// The byte at which event `index` starts; the length of all frames for an index past the end.
    pub(crate) fn start_of(&self, index: usize) -> usize {
        match index {
            0 => 0,
            n => self
                .ends
                .get(n - 1)
                .map_or(self.frames.len(), |end| *end as usize),
        }
    }

    /// All frames, back to back.
    pub fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The counters of the topic that these events belong to.
    pub(crate) fn counters(&self) -> &TopicCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        shard: 0,
        serial: 1,
    };

    #[test]
    fn each_event_starts_where_the_one_before_ends() {
        let run = Run::new(b"aabbbc".to_vec(), &[2, 5, 6], Arc::default(), STAMP);
        assert_eq!(run.events(), 3);
        let starts: Vec<_> = (0..4).map(|i| run.start_of(i)).collect();
        assert_eq!(starts, [0, 2, 5, 6]);
    }

    #[test]
    fn a_single_event_needs_no_table_of_ends() {
        let run = Run::new(b"abc".to_vec(), &[3], Arc::default(), STAMP);
        assert_eq!((run.events(), run.start_of(0), run.start_of(1)), (1, 0, 3));
        assert!(run.ends.is_empty());
    }
}
