//! One run from first connect to last close: starts the lanes, keeps the time, and weighs both sides.
//!
//! It is the only one that changes the phase, and every wait in it has an end: connecting, warming up, measuring, draining.
//! Figures are differences between two [`Snapshot`]s, taken at the beginning and at the end of the measured span.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use mio::{Poll, Waker};

use crate::Failure;
use crate::client::Doors;
use crate::engine::result::LaneResult;
use crate::engine::shared::{Counters, Phase, Plan, Shared};
use crate::engine::{Lane, WAKER};
use crate::procfs::{Cpu, Process, machine_cpu_secs};
use crate::units::{float, nanos, seconds, wide};

const TICK: Duration = Duration::from_millis(100);
const SAMPLES_MAX: f64 = 600.0;
/// Between the order to start and the first message, so that all lanes have heard it.
const LEAD_NS: u64 = 20_000_000;
/// A server that refused publishes never delivers them; silence for so long means that all has come.
const QUIET_NS: u64 = 1_000_000_000;

/// How long each part of a run may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) warmup_secs: f64,
    pub(crate) secs: f64,
    pub(crate) drain_secs: f64,
}

/// All counters at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) at_ns: u64,
    pub(crate) deliveries: u64,
    pub(crate) bytes_in: u64,
    pub(crate) published: u64,
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) announced: u64,
    pub(crate) broken: u64,
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    pub(crate) ended: u64,
    pub(crate) lane_cpu_ns: Vec<u64>,
    pub(crate) server_cpu: Option<Cpu>,
    pub(crate) machine_cpu_secs: Option<f64>,
    pub(crate) resident_kb: Option<u64>,
}

/// One point of the curves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the run began to publish; before it, while connections are opened, negative.
    pub(crate) at_secs: f64,
    /// On average since the sample before.
    pub(crate) deliveries_per_sec: f64,
    pub(crate) lost: u64,
    pub(crate) resident_kb: Option<u64>,
}

/// What a run looks like while it goes on.
#[derive(Debug)]
pub(crate) struct Tick<'a> {
    pub(crate) phase: Phase,
    /// Since the run began to publish.
    pub(crate) at_secs: f64,
    pub(crate) now: &'a Snapshot,
}

/// Everything a run brought.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) connect_secs: f64,
    pub(crate) drain_secs: f64,
    pub(crate) drained: bool,
    pub(crate) interrupted: bool,
    /// Before the first connection, and with all of them open.
    pub(crate) resident_kb: (Option<u64>, Option<u64>),
    pub(crate) from: Snapshot,
    pub(crate) to: Snapshot,
    /// When everything had arrived.
    pub(crate) last: Snapshot,
    pub(crate) samples: Vec<Sample>,
    pub(crate) result: LaneResult,
}

impl Measured {
    pub(crate) fn secs(&self) -> f64 {
        seconds(self.to.at_ns.saturating_sub(self.from.at_ns))
    }

    pub(crate) fn server_cpu(&self) -> Option<Cpu> {
        Some(self.to.server_cpu?.since(self.from.server_cpu?))
    }

    /// CPU seconds of everything else on the machine; only known where the server is.
    pub(crate) fn other_cpu_secs(&self) -> Option<f64> {
        let all = self.to.machine_cpu_secs? - self.from.machine_cpu_secs?;
        let generator: f64 = self.lane_cpu_secs().sum();
        Some((all - self.server_cpu()?.total_secs() - generator).max(0.0))
    }

    /// CPU seconds of each lane in the measured span.
    pub(crate) fn lane_cpu_secs(&self) -> impl Iterator<Item = f64> {
        let pairs = self.to.lane_cpu_ns.iter().zip(&self.from.lane_cpu_ns);
        pairs.map(|(to, from)| seconds(to.saturating_sub(*from)))
    }
}

/// What a run needs from outside.
pub(crate) struct Stage<'a> {
    pub(crate) doors: &'a Doors,
    pub(crate) server: Option<Process>,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) watch: &'a mut dyn FnMut(&Tick<'_>),
}

pub(crate) fn conduct(plan: &Plan, span: Span, stage: &mut Stage<'_>) -> Result<Measured, Failure> {
    let resident_before = stage.server.and_then(Process::resident_kb);
    let (shared, lanes) = start_lanes(plan, stage.doors).map_err(|error| {
        Failure::Connect(format!("the threads of the run did not start: {error}"))
    })?;
    let mut run = Run {
        shared,
        server: stage.server,
        stop: stage.stop,
        last: Snapshot::default(),
        samples: Vec::new(),
        sample_ns: nanos(((span.warmup_secs + span.secs) / SAMPLES_MAX).max(0.1)),
        next_sample_ns: 0,
        start_ns: 0,
        watch: stage.watch,
    };
    let conns = plan.subscribers + plan.publishers;
    let connect_ns = nanos(30.0 + float(wide(conns)) / 500.0);
    let all_connected = run.wait(connect_ns, |lane| lane.connected.load(Ordering::Relaxed));
    let (connected_ns, opened) = (run.shared.now_ns(), run.last.opened);
    if !all_connected || opened == 0 {
        return Err(give_up(&run.shared, lanes, opened));
    }
    let resident_connected = stage.server.and_then(Process::resident_kb);
    let (from, to, end_ns) = run.measure(span);
    run.shared.enter(Phase::Draining);
    let drained = run.drain(nanos(span.drain_secs));
    let last = run.snapshot();
    let interrupted = stage.stop.load(Ordering::Relaxed);
    run.shared.enter(Phase::Closing);
    let samples = run.take_samples();
    Ok(Measured {
        connect_secs: seconds(connected_ns),
        drain_secs: seconds(last.at_ns.saturating_sub(end_ns)),
        drained,
        interrupted,
        resident_kb: (resident_before, resident_connected),
        from,
        to,
        last,
        samples,
        result: join(lanes)?,
    })
}

type Lanes = Vec<JoinHandle<io::Result<LaneResult>>>;

fn start_lanes(plan: &Plan, doors: &Doors) -> io::Result<(Arc<Shared>, Lanes)> {
    let polls: Vec<Poll> = (0..plan.threads)
        .map(|_| Poll::new())
        .collect::<io::Result<_>>()?;
    let wakers: Vec<Waker> = polls
        .iter()
        .map(|poll| Waker::new(poll.registry(), WAKER))
        .collect::<io::Result<_>>()?;
    let shared = Arc::new(Shared::new(plan, wakers));
    let plan = Arc::new(plan.clone());
    let start = |(index, poll)| {
        let lane = Lane::new(index, doors.clone(), plan.clone(), shared.clone(), poll)?;
        thread::Builder::new()
            .name(format!("lane-{index}"))
            .spawn(move || lane.run())
    };
    let lanes = polls.into_iter().enumerate().map(start);
    let lanes = lanes.collect::<io::Result<_>>()?;
    Ok((shared, lanes))
}

fn give_up(shared: &Shared, lanes: Lanes, opened: u64) -> Failure {
    shared.enter(Phase::Closing);
    let first = match join(lanes) {
        Ok(result) => result.failures.into_iter().next(),
        Err(failure) => return failure,
    };
    let why = first.unwrap_or_else(|| "the rest gave no answer in time".into());
    Failure::Connect(format!("{opened} connections were opened, then: {why}"))
}

fn join(lanes: Lanes) -> Result<LaneResult, Failure> {
    let mut sum = LaneResult::empty();
    for lane in lanes {
        sum.add(lane.join().map_err(|_| Failure::Broken)??);
    }
    Ok(sum)
}

/// The state of a run while it goes on.
struct Run<'a> {
    shared: Arc<Shared>,
    server: Option<Process>,
    stop: &'a AtomicBool,
    last: Snapshot,
    samples: Vec<Sample>,
    sample_ns: u64,
    next_sample_ns: u64,
    start_ns: u64,
    watch: &'a mut dyn FnMut(&Tick<'_>),
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until every lane says so; false if the time is over or somebody stops the run.
    fn wait(&mut self, bound_ns: u64, done: impl Fn(&Counters) -> bool) -> bool {
        let until = self.shared.now_ns() + bound_ns;
        loop {
            let all = self.shared.lanes.iter().all(&done);
            if all {
                self.tick();
                return true;
            }
            if self.stopped() || self.shared.now_ns() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
            if self.shared.now_ns() >= self.next_sample_ns {
                self.tick();
            }
        }
    }

    fn measure(&mut self, span: Span) -> (Snapshot, Snapshot, u64) {
        self.start_ns = self.shared.now_ns() + LEAD_NS;
        let from_ns = self.start_ns + nanos(span.warmup_secs);
        let to_ns = from_ns + nanos(span.secs);
        self.shared.start(self.start_ns, from_ns, to_ns);
        // The sample before ends where publishing begins, and the last one where measuring ends: a rate is the average of
        // the span between two of them, and a span that is half idle would say too little.
        self.sleep_until(self.start_ns);
        self.tick();
        self.sleep_until(from_ns);
        let from = self.snapshot();
        self.sleep_until(to_ns);
        self.tick();
        let to = self.snapshot();
        let end_ns = to.at_ns;
        (from, to, end_ns)
    }

    fn drain(&mut self, bound_ns: u64) -> bool {
        let until = self.shared.now_ns() + bound_ns;
        let mut heard = (0, self.shared.now_ns());
        loop {
            let drained = |lane: &Counters| lane.drained.load(Ordering::Relaxed);
            if self.wait(TICK.as_nanos().try_into().unwrap_or(0), drained) {
                return true;
            }
            let now = self.snapshot();
            if now.deliveries + now.acked != heard.0 {
                heard = (now.deliveries + now.acked, now.at_ns);
            }
            let quiet = now.refused > 0 && now.at_ns - heard.1 > QUIET_NS;
            if quiet || now.at_ns >= until {
                return quiet;
            }
            if self.stopped() {
                thread::sleep(TICK);
            }
        }
    }

    fn sleep_until(&mut self, until_ns: u64) {
        while !self.stopped() {
            let now = self.shared.now_ns();
            if now >= self.next_sample_ns {
                self.tick();
            }
            let Some(left) = until_ns.checked_sub(now).filter(|left| *left > 0) else {
                return;
            };
            thread::sleep(Duration::from_nanos(left).min(TICK / 4));
        }
    }

    /// Adds a sample and shows it.
    fn tick(&mut self) {
        let now = self.snapshot();
        let phase = self.shared.phase();
        let secs = seconds(now.at_ns.saturating_sub(self.last.at_ns));
        let at_secs = seconds(now.at_ns);
        (self.watch)(&Tick {
            phase,
            at_secs: seconds(now.at_ns.saturating_sub(self.start_ns)),
            now: &now,
        });
        if phase <= Phase::Running && secs > 0.0 {
            self.samples.push(Sample {
                at_secs,
                deliveries_per_sec: float(now.deliveries - self.last.deliveries) / secs,
                lost: now.announced + now.broken,
                resident_kb: now.resident_kb,
            });
        }
        self.next_sample_ns = now.at_ns + self.sample_ns;
        self.last = now;
    }

    /// The clock of the run starts with the first connection; that of the samples with the first message.
    fn take_samples(&mut self) -> Vec<Sample> {
        let start_secs = seconds(self.start_ns);
        let mut samples = mem::take(&mut self.samples);
        for sample in &mut samples {
            sample.at_secs -= start_secs;
        }
        samples
    }

    fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot {
            at_ns: self.shared.now_ns(),
            server_cpu: self.server.and_then(Process::cpu),
            machine_cpu_secs: machine_cpu_secs(),
            resident_kb: self.server.and_then(Process::resident_kb),
            ..Snapshot::default()
        };
        for lane in &self.shared.lanes {
            sum.deliveries += lane.deliveries.load(Ordering::Relaxed);
            sum.bytes_in += lane.bytes_in.load(Ordering::Relaxed);
            sum.published += lane.published.load(Ordering::Relaxed);
            sum.acked += lane.acked.load(Ordering::Relaxed);
            sum.refused += lane.refused.load(Ordering::Relaxed);
            sum.announced += lane.announced.load(Ordering::Relaxed);
            sum.broken += lane.broken.load(Ordering::Relaxed);
            sum.opened += lane.opened.load(Ordering::Relaxed);
            sum.failed += lane.failed.load(Ordering::Relaxed);
            sum.ended += lane.ended.load(Ordering::Relaxed);
            sum.lane_cpu_ns.push(lane.cpu_ns.load(Ordering::Relaxed));
        }
        sum
    }
}
