//! What the threads of a run share: the phase, the clock, and how far each stream is.
//!
//! The [conductor](crate::conductor) writes the phase and the times; each lane writes its own counters and its own column of
//! `floors`; the lane that owns a stream writes its `sent`. Nothing here is written by two threads.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use mio::Waker;

use crate::pace::Pace;

/// Everything a run does, decided before it starts.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) topics: Vec<String>,
    /// Subscribers in all; number g has topic `g % topics`.
    pub(crate) subscribers: usize,
    /// The first so many subscribers stop reading while messages flow.
    pub(crate) stalled: usize,
    /// Publisher connections in all.
    pub(crate) publishers: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) pace: Pace,
    pub(crate) record_latency: bool,
    pub(crate) threads: usize,
    pub(crate) receive_buffer_bytes: usize,
    /// Makes ids and names of this run unlike those of any other.
    pub(crate) run: u32,
}

impl Plan {
    /// A stream is one publisher on one topic. Every publisher and every topic has at least one.
    pub(crate) fn streams(&self) -> usize {
        match self.pace {
            Pace::Silent => 0,
            _ => self.publishers.max(self.topics.len()),
        }
    }

    pub(crate) fn topic_of(&self, stream: usize) -> usize {
        stream % self.topics.len()
    }

    pub(crate) fn publisher_of(&self, stream: usize) -> usize {
        stream % self.publishers
    }

    /// Which of its topic's streams it is.
    pub(crate) fn ordinal_of(&self, stream: usize) -> usize {
        stream / self.topics.len()
    }

    pub(crate) fn streams_of(&self, topic: usize) -> impl Iterator<Item = usize> {
        (topic..self.streams()).step_by(self.topics.len())
    }

    pub(crate) fn subscribers_per_topic_max(&self) -> usize {
        self.subscribers.div_ceil(self.topics.len())
    }
}

/// How far a run is. It only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Connecting,
    Running,
    Draining,
    Closing,
}

/// The counters of one lane; written by it alone, now and then, and read by the conductor.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) deliveries: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) announced: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) opened: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) cpu_ns: AtomicU64,
    pub(crate) connected: AtomicBool,
    pub(crate) drained: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    origin: Instant,
    phase: AtomicU8,
    /// Valid once the phase is [`Phase::Running`].
    start_ns: AtomicU64,
    record_from_ns: AtomicU64,
    record_to_ns: AtomicU64,
    threads: usize,
    /// For each stream and lane, how far the lane's slowest subscriber is.
    floors: Box<[AtomicU64]>,
    sent: Box<[AtomicU64]>,
    pub(crate) lanes: Box<[Counters]>,
    pub(crate) wakers: Box<[Waker]>,
}

impl Shared {
    pub(crate) fn new(plan: &Plan, wakers: Vec<Waker>) -> Self {
        let zeros = |length: usize| (0..length).map(|_| AtomicU64::new(0)).collect();
        Self {
            origin: Instant::now(),
            phase: AtomicU8::new(0),
            start_ns: AtomicU64::new(0),
            record_from_ns: AtomicU64::new(0),
            record_to_ns: AtomicU64::new(0),
            threads: plan.threads,
            floors: zeros(plan.streams() * plan.threads),
            sent: zeros(plan.streams()),
            lanes: (0..plan.threads).map(|_| Counters::default()).collect(),
            wakers: wakers.into(),
        }
    }

    /// Nanoseconds since the run began; every time in a run is on this clock.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).expect("a run ends within centuries")
    }

    pub(crate) fn phase(&self) -> Phase {
        // Pairs with the Release in `enter`: who sees Running also sees the times.
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connecting,
            1 => Phase::Running,
            2 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        // Pairs with the Acquire in `phase`.
        self.phase.store(phase as u8, Ordering::Release);
        for waker in &self.wakers {
            // A lane that is not woken looks by itself some milliseconds later.
            drop(waker.wake());
        }
    }

    pub(crate) fn start(&self, start_ns: u64, record_from_ns: u64, record_to_ns: u64) {
        self.start_ns.store(start_ns, Ordering::Relaxed);
        self.record_from_ns.store(record_from_ns, Ordering::Relaxed);
        self.record_to_ns.store(record_to_ns, Ordering::Relaxed);
        self.enter(Phase::Running);
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Relaxed)
    }

    pub(crate) fn record_window_ns(&self) -> (u64, u64) {
        let from = self.record_from_ns.load(Ordering::Relaxed);
        (from, self.record_to_ns.load(Ordering::Relaxed))
    }

    pub(crate) fn raise_floor(&self, stream: usize, lane: usize, level: u64) {
        // Pairs with the Acquire in `floor`; the wake that follows makes sure somebody looks.
        self.floors[stream * self.threads + lane].store(level, Ordering::Release);
    }

    /// How far the slowest subscriber of the stream is, over all lanes.
    pub(crate) fn floor(&self, stream: usize) -> u64 {
        let row = &self.floors[stream * self.threads..(stream + 1) * self.threads];
        // Pairs with the Release in `raise_floor`.
        let levels = row.iter().map(|level| level.load(Ordering::Acquire));
        levels.min().unwrap_or(0)
    }

    pub(crate) fn set_sent(&self, stream: usize, sent: u64) {
        self.sent[stream].store(sent, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, stream: usize) -> u64 {
        self.sent[stream].load(Ordering::Relaxed)
    }
}
