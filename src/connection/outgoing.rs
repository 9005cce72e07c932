//! Frames on their way from a ring to a socket, and what a socket has not taken of them.
//!
//! Replies are bytes of their own, events are references into shared runs: nothing is copied.

use std::ops::Range;
use std::sync::Arc;

use crate::broker::run::{Form, Run};
use crate::protocol::time::Moment;

#[derive(Debug)]
pub(super) enum Segment {
    Replies(Vec<u8>),
    /// The frames of `run` from byte `start`, `live` of which count as delivered when written.
    Events {
        run: Arc<Run>,
        start: usize,
        live: usize,
    },
    /// A part of the same events in another form, which the run has; `live` of them end in it.
    Rendered {
        run: Arc<Run>,
        form: Form,
        part: Range<u32>,
        live: u32,
    },
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Replies(frames) => frames,
            Self::Events { run, start, .. } => run.frames().get(*start..).unwrap_or_default(),
            Self::Rendered {
                run, form, part, ..
            } => {
                let part = part.start as usize..part.end as usize;
                let rendered = run.rendered(*form);
                rendered
                    .and_then(|rendered| rendered.text().get(part))
                    .unwrap_or_default()
            }
        }
    }

    /// Moves it out, and leaves one without bytes.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Replies(Vec::new()))
    }

    /// Live events that are through with its last byte, and when the first of their run was read.
    pub(super) fn live(&self) -> Option<(u64, Moment)> {
        let (run, live) = match self {
            Self::Replies(_) => return None,
            Self::Events { run, live, .. } => (run, *live as u64),
            Self::Rendered { run, live, .. } => (run, u64::from(*live)),
        };
        (live > 0).then(|| (live, run.read_at()))
    }
}

/// What a socket has not taken yet: the first frames may be cut, so all of it must leave before
/// anything else, and none of it can be dropped. Bounded by what one flush takes from a ring.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) segments: Vec<Segment>,
    /// Bytes of the first segment that the kernel has.
    pub(super) written: usize,
}

impl Unsent {
    /// Live events in it.
    pub(super) fn live(&self) -> u64 {
        let live = self.segments.iter().filter_map(Segment::live);
        live.map(|(events, _)| events).sum()
    }

    /// When the oldest live event in it was read.
    pub(super) fn oldest(&self) -> Option<Moment> {
        let mut live = self.segments.iter().filter_map(Segment::live);
        live.next().map(|(_, read_at)| read_at)
    }

    /// Bytes of replies in it.
    pub(super) fn reply_bytes(&self) -> usize {
        let replies = self.segments.iter().map(|segment| match segment {
            Segment::Replies(frames) => frames.len(),
            Segment::Events { .. } | Segment::Rendered { .. } => 0,
        });
        replies.sum()
    }
}

/// Of `segments`, whose first is written up to byte `before`, the kernel has taken `taken` bytes
/// more. Returns how many segments are through, and how far the next one is written.
pub(super) fn advance(segments: &[Segment], before: usize, taken: usize) -> (usize, usize) {
    let mut rest = before + taken;
    for (index, segment) in segments.iter().enumerate() {
        let bytes = segment.bytes().len();
        if rest < bytes {
            return (index, rest);
        }
        rest -= bytes;
    }
    (segments.len(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::directory::tests::entry;

    fn events(frames: &[u8], ends: &[u32], start: usize) -> Segment {
        let run = Arc::new(Run::new(
            frames.to_vec(),
            ends,
            1,
            Moment::default(),
            entry("t"),
        ));
        let live = ends.len() - 1;
        Segment::Events { run, start, live }
    }

    #[test]
    fn a_segment_is_through_with_its_last_byte() {
        let segments = [
            Segment::Replies(b"ack".to_vec()),
            events(b"aabb", &[2, 4], 2),
            events(b"cc", &[1, 2], 0),
        ];
        let steps: Vec<_> = (0..=7).map(|taken| advance(&segments, 0, taken)).collect();
        let wanted = [
            (0, 0),
            (0, 1),
            (0, 2),
            (1, 0),
            (1, 1),
            (2, 0),
            (2, 1),
            (3, 0),
        ];
        assert_eq!(steps, wanted);
        assert_eq!(advance(&segments[1..], 1, 1), (1, 0));
        let live = segments.iter().filter_map(Segment::live);
        assert_eq!(live.map(|(events, _)| events).sum::<u64>(), 2);
    }
}
