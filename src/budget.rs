//! The one byte budget of the process: whoever keeps bytes for clients books them here.
//!
//! A leaf: it knows kinds of bytes and a bound, not what they are for. Each core books in a cell of
//! its own, so that booking is an uncontended addition; whoever asks for the total adds the cells
//! up, once for each turn and not for each message. Nothing is given up or refused here. Over the
//! budget shards shorten histories, then ask the cores to take events from connections that lag,
//! and when nobody lags they refuse.

use std::sync::Arc;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// What bytes are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Frames of events: histories, rings, replays and what is being written share them.
    Frames,
    /// Acks, errors and notices that their connections have not taken.
    Replies,
    /// What clients have sent and nobody has worked off: unfinished frames, requests to shards.
    Input,
    /// Topics and subscriptions themselves.
    Topics,
    /// Connections themselves.
    Connections,
}

impl Kind {
    /// Every kind, with its name in metrics.
    pub const ALL: [(Self, &'static str); KINDS] = [
        (Self::Frames, "frames"),
        (Self::Replies, "replies"),
        (Self::Input, "input"),
        (Self::Topics, "topics"),
        (Self::Connections, "connections"),
    ];
}

const KINDS: usize = 5;

/// The cell of one core, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    kinds: [AtomicUsize; KINDS],
    /// What waits for the connection of this core that lags most, as last looked at, below the
    /// number of the call at which it was looked.
    lag: AtomicU64,
}

/// Bits of a lag in bytes; above them is the number of the call.
const LAG_BITS: u32 = 48;

/// Connections that lag are to lose events. Each such call has its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call(u64);

impl Call {
    fn of(calls: u64) -> Option<Self> {
        (!calls.is_multiple_of(2)).then_some(Self(calls))
    }

    /// Notes taken at the same call have it in common.
    fn mark(self) -> u64 {
        self.0 << LAG_BITS
    }
}

/// What is kept in all, by kind.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    cells: Box<[Cell]>,
    /// Calls on connections that lag to lose events, begun and ended: odd while there is one.
    calls: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(usize::MAX, 1)
    }
}

impl Budget {
    /// A budget of `bytes_max` bytes for `cores` cores, at least one.
    pub fn new(bytes_max: usize, cores: usize) -> Self {
        Self {
            bytes_max,
            cells: (0..cores.max(1)).map(|_| Cell::default()).collect(),
            calls: AtomicU64::new(0),
        }
    }

    /// `MEMORY_BUDGET` in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn of(&self, core: usize) -> &Cell {
        &self.cells[core % self.cells.len()]
    }

    fn cell(&self, core: usize, kind: Kind) -> &AtomicUsize {
        &self.of(core).kinds[kind as usize]
    }

    /// Books `bytes` in the cell of `core`. They are to be released from the same cell.
    pub fn book(&self, core: usize, kind: Kind, bytes: usize) {
        // Relaxed: the figure guards nothing but itself.
        self.cell(core, kind).fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives `bytes` back that were booked in the cell of `core`, from any thread.
    pub fn release(&self, core: usize, kind: Kind, bytes: usize) {
        self.cell(core, kind).fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of one kind. May be off by what is being booked at this moment, never for long.
    pub fn bytes(&self, kind: Kind) -> usize {
        let sum = self.cells.iter().fold(0, |sum: usize, cell| {
            sum.wrapping_add(cell.kinds[kind as usize].load(Ordering::Relaxed))
        });
        // A cell that another thread releases from may be read before the one that booked.
        if sum > isize::MAX.unsigned_abs() {
            0
        } else {
            sum
        }
    }

    /// Bytes of all kinds.
    pub fn total(&self) -> usize {
        let kinds = Kind::ALL.iter().map(|(kind, _)| self.bytes(*kind));
        kinds.fold(0, usize::saturating_add)
    }

    /// Whether more is kept than may be.
    pub fn is_over(&self) -> bool {
        self.bytes_max != usize::MAX && self.total() > self.bytes_max
    }

    /// Has every core take events from those of its connections that lag. Returns whether that may
    /// help: false once all have looked and nobody lags.
    pub fn ask(&self) -> bool {
        // Relaxed, here and below: whoever sees any of it late looks again in its next round.
        let next = |calls: u64| Call::of(calls).is_none().then_some(calls + 1);
        let begun = self
            .calls
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        begun.is_ok() || self.call().is_none_or(|call| self.most_lag(call) > 0)
    }

    /// The call on connections that lag to lose events, if there is one.
    pub fn call(&self) -> Option<Call> {
        Call::of(self.calls.load(Ordering::Relaxed))
    }

    /// There is room again.
    pub fn settle(&self) {
        let end = |calls| Call::of(calls).map(|_| calls + 1);
        // Another core may have been quicker.
        self.calls
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, end)
            .ok();
    }

    /// Core `core` has looked since `call`: so many bytes wait for the connection of its that lags
    /// most.
    pub fn note_lag(&self, core: usize, call: Call, bytes: usize) {
        let bytes = (bytes as u64).min((1 << LAG_BITS) - 1);
        let lag = call.mark() | bytes;
        self.of(core).lag.store(lag, Ordering::Relaxed);
    }

    /// What waits for the connection that lags most of all; more than there can be while a core
    /// has not looked since `call`. What it has noted at an earlier one says nothing.
    pub fn most_lag(&self, call: Call) -> usize {
        let lags = self.cells.iter().map(|cell| {
            let bytes = cell.lag.load(Ordering::Relaxed) ^ call.mark();
            let is_of_call = bytes >> LAG_BITS == 0;
            is_of_call
                .then(|| usize::try_from(bytes).ok())
                .flatten()
                .unwrap_or(usize::MAX)
        });
        lags.max().unwrap_or_default()
    }
}

/// Bytes that are booked for as long as this lives.
#[derive(Debug)]
pub struct Booked {
    budget: Arc<Budget>,
    core: usize,
    kind: Kind,
    bytes: usize,
}

impl Booked {
    /// Books `bytes`.
    pub fn new(budget: Arc<Budget>, core: usize, kind: Kind, bytes: usize) -> Self {
        budget.book(core, kind, bytes);
        Self {
            budget,
            core,
            kind,
            bytes,
        }
    }

    /// Whether more is kept than may be, by whomever.
    pub fn is_over(&self) -> bool {
        self.budget.is_over()
    }

    /// Books `bytes` in the place of what was booked.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.book(self.core, self.kind, bytes - self.bytes);
        } else if bytes < self.bytes {
            self.budget
                .release(self.core, self.kind, self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The least of the machine's memory and what the process' control groups allow, in bytes.
///
/// Reads `/proc/meminfo` and, from the process' own group up to the root, `memory.max` (version 2)
/// or `memory.limit_in_bytes` (version 1; from 2^60 on it means none).
pub fn memory_of_machine() -> Option<usize> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total_kb: usize = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(group_limit);
    limits.chain([total_kb.saturating_mul(1024)]).min()
}

/// The limit of the group that one line of `/proc/self/cgroup` names, or of one above it.
fn group_limit(line: &str) -> Option<usize> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (root, file) = match parts.next()? {
        "" => ("/sys/fs/cgroup", "memory.max"),
        names if names.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let path = parts.next()?;
    let limit = |group: &std::path::Path| -> Option<usize> {
        let path = format!("{root}{}/{file}", group.display());
        let bytes: usize = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        (bytes < 1 << 60).then_some(bytes)
    };
    std::path::Path::new(path)
        .ancestors()
        .filter_map(limit)
        .min()
}

#[cfg(all(test, not(broker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_booked_is_counted_until_it_is_released() {
        let budget = Arc::new(Budget::new(100, 2));
        let mut booked = Booked::new(Arc::clone(&budget), 0, Kind::Input, 60);
        budget.book(1, Kind::Frames, 40);
        assert_eq!((budget.total(), budget.is_over()), (100, false));
        booked.set(61);
        assert!(budget.is_over());
        booked.set(10);
        assert_eq!(budget.bytes(Kind::Input), 10);
        drop(booked);
        budget.release(1, Kind::Frames, 40);
        assert_eq!(budget.total(), 0);
    }

    #[test]
    fn threads_that_release_what_others_booked_leave_nothing() {
        let budget = Budget::new(usize::MAX, 2);
        std::thread::scope(|scope| {
            for core in 0..2 {
                let budget = &budget;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        budget.book(core, Kind::Frames, 3);
                        budget.release(core, Kind::Frames, 2);
                    }
                });
            }
        });
        budget.release(0, Kind::Frames, 10_000);
        budget.release(1, Kind::Frames, 10_000);
        assert_eq!(budget.bytes(Kind::Frames), 0);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory_of_machine().is_some_and(|bytes| bytes > 1 << 24));
    }
}
