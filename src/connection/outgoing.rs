//! What a connection still has to write, in the order of the wire.
//!
//! Replies are bytes of their own, events are references into shared runs. One call writes as much
//! of it as the socket takes, without copying.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::broker::run::Run;

/// Slices handed to the kernel in one call.
const SLICES_MAX: usize = 64;

#[derive(Debug)]
enum Segment {
    Replies(Vec<u8>),
    /// The frames of `run` from byte `start`, `live` of which count as delivered when written.
    Events {
        run: Arc<Run>,
        start: usize,
        live: usize,
    },
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Replies(frames) => frames,
            Self::Events { run, start, .. } => run.frames().get(*start..).unwrap_or_default(),
        }
    }

    fn live(&self) -> usize {
        match self {
            Self::Replies(_) => 0,
            Self::Events { live, .. } => *live,
        }
    }
}

/// A queue of frames, and how far the first of them has been written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the kernel has.
    written: usize,
    /// Bytes that wait.
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes that wait, shared ones included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Live events that wait.
    pub(crate) fn live(&self) -> usize {
        self.segments.iter().map(Segment::live).sum()
    }

    /// Lets `append` add complete frames at the end.
    pub(crate) fn push_frames(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.segments.back(), Some(Segment::Replies(_))) {
            self.segments.push_back(Segment::Replies(Vec::new()));
        }
        if let Some(Segment::Replies(frames)) = self.segments.back_mut() {
            let before = frames.len();
            append(frames);
            self.bytes += frames.len() - before;
            if frames.is_empty() {
                self.segments.pop_back();
            }
        }
    }

    /// Adds frames that are already there.
    pub(crate) fn push_replies(&mut self, frames: Vec<u8>) {
        if let Some(Segment::Replies(last)) = self.segments.back_mut() {
            self.bytes += frames.len();
            last.extend_from_slice(&frames);
        } else if !frames.is_empty() {
            self.bytes += frames.len();
            self.segments.push_back(Segment::Replies(frames));
        }
    }

    /// Adds the frames of `run` from byte `start`; `live` of its events are not replayed ones.
    pub(crate) fn push_events(&mut self, run: Arc<Run>, start: usize, live: usize) {
        let segment = Segment::Events { run, start, live };
        self.bytes += segment.bytes().len();
        if !segment.bytes().is_empty() {
            self.segments.push_back(segment);
        }
    }

    /// Writes once. Returns the bytes that the kernel took and the live events completed by them.
    pub(crate) fn write(&mut self, socket: &TcpStream) -> io::Result<(usize, usize)> {
        let first = self
            .segments
            .front()
            .and_then(|first| first.bytes().get(self.written..))
            .unwrap_or_default();
        let written = if self.segments.len() == 1 {
            socket.try_write(first)?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            slices[0] = IoSlice::new(first);
            let rest = self.segments.iter().skip(1);
            let mut count = 1;
            for (slice, segment) in slices.iter_mut().skip(1).zip(rest) {
                *slice = IoSlice::new(segment.bytes());
                count += 1;
            }
            socket.try_write_vectored(slices.get(..count).unwrap_or_default())?
        };
        Ok((written, self.advance(written)))
    }

    fn advance(&mut self, mut written: usize) -> usize {
        self.bytes -= written.min(self.bytes);
        let mut live = 0;
        while let Some(first) = self.segments.front() {
            let left = first.bytes().len() - self.written;
            if written < left {
                self.written += written;
                return live;
            }
            written -= left;
            live += first.live();
            self.written = 0;
            self.segments.pop_front();
        }
        live
    }

    /// Gives back the queue's memory, to be lent to another connection.
    pub(crate) fn take_spare(&mut self) -> Spare {
        debug_assert!(self.segments.is_empty(), "only an empty queue is lent");
        Spare(std::mem::take(&mut self.segments))
    }

    /// Uses lent memory if this queue has none.
    pub(crate) fn lend(&mut self, spare: Spare) {
        if self.segments.capacity() == 0 {
            self.segments = spare.0;
        }
    }
}

/// The memory of an empty queue.
#[derive(Debug, Default)]
pub(crate) struct Spare(VecDeque<Segment>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::run::Stamp;

    fn run(frames: &[u8], ends: &[u32]) -> Arc<Run> {
        let stamp = Stamp {
            shard: 0,
            serial: 1,
        };
        Arc::new(Run::new(frames.to_vec(), ends, Arc::default(), stamp))
    }

    #[test]
    fn events_count_when_their_last_byte_is_written() {
        let mut out = Outgoing::default();
        out.push_frames(|frames| frames.extend_from_slice(b"ack"));
        out.push_events(run(b"aabb", &[2, 4]), 2, 1);
        out.push_events(run(b"cc", &[2]), 0, 1);
        assert_eq!((out.bytes(), out.live()), (7, 2));
        assert_eq!(out.advance(4), 0);
        assert_eq!(out.advance(2), 1);
        assert_eq!((out.advance(1), out.is_empty(), out.bytes()), (1, true, 0));
    }

    #[test]
    fn replies_side_by_side_are_one_segment() {
        let mut out = Outgoing::default();
        out.push_replies(b"a".to_vec());
        out.push_frames(|frames| frames.push(b'b'));
        out.push_replies(b"c".to_vec());
        assert_eq!(out.segments.len(), 1);
        out.push_frames(|_| ());
        assert_eq!(out.bytes(), 3);
    }
}
