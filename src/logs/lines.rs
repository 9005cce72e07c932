//! Lines on their way to a file that may be slow, full or gone.
//!
//! Whoever pushes copies a line under a short lock and never waits for the file. What is in the
//! buffer and in the writer's hand together stays below the bound; over it the new line is dropped.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::LOG_LINES_DROPPED;

/// Pause between two tries to write to a file that would block, or between two tellings.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
const TELL_PERIOD: Duration = Duration::from_secs(1);

/// Lines that are not written yet.
#[derive(Debug)]
pub(super) struct Lines {
    bytes_max: usize,
    state: Mutex<State>,
    /// There is something to write, or to tell in a moment.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the writer has taken and not dealt with yet.
    in_hand: usize,
    /// Something was left out and is to be told.
    to_tell: bool,
}

impl Lines {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or drops and counts it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + state.in_hand + line.len() > self.bytes_max {
            LOG_LINES_DROPPED.add(1);
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Has the writer tell what was left out, in a moment.
    pub(super) fn tell_soon(&self) {
        let was_told = !std::mem::replace(&mut self.state().to_tell, true);
        if was_told {
            self.filled.notify_one();
        }
    }

    /// Waits until everything is written or dropped, at most this long.
    pub(super) fn flush(&self, time_max: Duration) {
        let is_busy = |state: &mut State| !state.waiting.is_empty() || state.in_hand > 0;
        let waited = self
            .emptied
            .wait_timeout_while(self.state(), time_max, is_busy);
        drop(waited);
    }

    /// Takes all that waits; nothing when it is time to tell what was left out.
    fn take(&self, told_at: Instant) -> Vec<u8> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if !state.to_tell {
                let waited = self.filled.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let pause = TELL_PERIOD.saturating_sub(told_at.elapsed());
            if pause.is_zero() {
                state.to_tell = false;
                break;
            }
            let waited = self.filled.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.in_hand = state.waiting.len();
        std::mem::take(&mut state.waiting)
    }

    fn settle(&self) {
        let mut state = self.state();
        state.in_hand = 0;
        if state.waiting.is_empty() {
            self.emptied.notify_all();
        }
    }
}

/// Writes lines to `file`, forever. `tell` logs what was left out; it says whether more will come.
pub(super) fn write_all(lines: &Lines, file: &mut impl Write, tell: impl Fn() -> bool) {
    let mut told_at = Instant::now();
    let mut losses_told = 0;
    let mut is_torn = false;
    loop {
        let chunk = lines.take(told_at);
        let lost = write_chunk(file, &chunk, &mut is_torn);
        LOG_LINES_DROPPED.add(lost);
        if !chunk.is_empty() && lost == 0 {
            let losses = LOG_LINES_DROPPED.value();
            if losses > losses_told {
                tracing::warn!(lines = losses - losses_told, "log lines were lost");
                losses_told = losses;
            }
        }
        if told_at.elapsed() >= TELL_PERIOD {
            told_at = Instant::now();
            if tell() {
                lines.tell_soon();
            }
        }
        lines.settle();
    }
}

/// Writes a chunk as far as that goes; returns how many of its lines are lost.
fn write_chunk(file: &mut impl Write, chunk: &[u8], is_torn: &mut bool) -> u64 {
    // What follows a line that was cut off begins a line of its own.
    if *is_torn && !chunk.is_empty() && file.write(b"\n").is_ok() {
        *is_torn = false;
    }
    let mut rest = chunk;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(written) if written > 0 => {
                *is_torn = rest.get(written - 1) != Some(&b'\n');
                rest = rest.get(written..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(RETRY_PAUSE);
            }
            _ => return rest.split_inclusive(|byte| *byte == b'\n').count() as u64,
        }
    }
    *is_torn = false;
    0
}

/// Where the formatter puts its lines: one write is one line.
#[derive(Clone, Debug)]
pub(super) struct LineWriter(pub(super) Arc<Lines>);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that answers each write as it was told to.
    struct Script(Vec<io::Result<usize>>, Vec<u8>);

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = if self.0.is_empty() {
                Ok(bytes.len())
            } else {
                self.0.remove(0)
            };
            let written = room?.min(bytes.len());
            self.1.extend_from_slice(&bytes[..written]);
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fault(kind: io::ErrorKind) -> io::Result<usize> {
        Err(kind.into())
    }

    #[test]
    fn what_would_block_is_tried_again_and_what_fails_is_counted_by_lines() {
        let again = [
            Ok(3),
            fault(io::ErrorKind::WouldBlock),
            fault(io::ErrorKind::Interrupted),
        ];
        let mut file = Script(again.into(), Vec::new());
        let mut is_torn = false;
        assert_eq!(write_chunk(&mut file, b"one\ntwo\n", &mut is_torn), 0);
        assert_eq!((file.1.as_slice(), is_torn), (&b"one\ntwo\n"[..], false));

        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
            let mut file = Script(vec![Ok(5), fault(kind)], Vec::new());
            assert_eq!(
                write_chunk(&mut file, b"one\ntwo\nthree\n", &mut is_torn),
                2
            );
            assert!(is_torn);
            assert_eq!(write_chunk(&mut file, b"four\n", &mut is_torn), 0);
            assert_eq!(file.1, b"one\nt\nfour\n");
        }
    }

    #[test]
    fn the_bound_holds_for_what_waits_and_what_is_in_hand() {
        let lines = Lines::new(10);
        lines.push(b"12345\n");
        assert_eq!(lines.take(Instant::now()), b"12345\n");
        lines.push(b"abc\n");
        let before = LOG_LINES_DROPPED.value();
        lines.push(b"x\n");
        assert!(LOG_LINES_DROPPED.value() > before);
        lines.settle();
        lines.push(b"y\n");
        assert_eq!(lines.take(Instant::now()), b"abc\ny\n");
    }

    #[test]
    fn a_flush_ends_in_time_though_nobody_writes() {
        let lines = Lines::new(10);
        lines.flush(Duration::MAX);
        lines.push(b"1\n");
        lines.flush(Duration::from_millis(1));
        assert_eq!(lines.take(Instant::now()), b"1\n");
    }
}
