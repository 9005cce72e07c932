//! One thread's event loop: opens its connections, reads them, lets its publishers send, and stops when told.
//!
//! A [`Lane`] owns its sockets outright and shares nothing but [`Shared`]. It never blocks but in `poll`, never parses what it
//! can recognise, and never decides when a run is over: the [conductor](crate::conductor) does.

mod opening;
pub(crate) mod publisher;
pub(crate) mod result;
mod serving;
pub(crate) mod shared;
pub(crate) mod subscriber;
mod timer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mio::{Events, Poll, Token};
use rustix::time::{ClockId, clock_gettime};

use self::publisher::{Next, Publisher, Pump};
use self::result::LaneResult;
use self::shared::{Counters, Phase, Plan, Shared};
use self::subscriber::{Books, Subscriber};
use self::timer::Timer;
use crate::client::{Client, Doors};
use crate::units::wide;

const READ_BUFFER_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 1024;
/// How long a lane sleeps at most, so that it sees a new phase even if nothing wakes it.
const SLEEP: Duration = Duration::from_millis(20);
const HOUSEKEEPING_NS: u64 = 5_000_000;

/// Wakes a lane from another thread.
pub(crate) const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// A subscriber and its connection while it has one.
#[derive(Debug)]
struct Seat {
    client: Option<Client>,
    subscriber: Subscriber,
    number: usize,
    /// Counted as open.
    settled: bool,
}

pub(crate) struct Lane {
    index: usize,
    doors: Doors,
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    poll: Poll,
    timer: Timer,
    buffer: Vec<u8>,
    books: Books,
    publishers: Vec<Option<(Client, Publisher)>>,
    publisher_numbers: Vec<usize>,
    seats: Vec<Seat>,
    pump: Pump,
    /// Tokens below this are open or being opened: publishers first, then seats.
    opened: usize,
    opening: usize,
    settled: u64,
    /// Connections with bytes that no event will announce again.
    again: Vec<usize>,
    endings: Vec<String>,
    failures: Vec<String>,
    ended: u64,
    stalled_ended: u64,
    phase: Phase,
    unsent: u64,
    housekeeping_ns: u64,
}

impl Lane {
    pub(crate) fn new(
        index: usize,
        doors: Doors,
        plan: Arc<Plan>,
        shared: Arc<Shared>,
        poll: Poll,
    ) -> io::Result<Self> {
        let mut books = Books::new(&plan);
        let threads = plan.threads;
        let subscribers = (0..plan.subscribers).filter(|number| number % threads == index);
        let seats: Vec<Seat> = subscribers
            .map(|number| Seat {
                client: None,
                subscriber: Subscriber::new(&plan, number, &mut books),
                number,
                settled: false,
            })
            .collect();
        for (stream, floor) in books.floors.iter().enumerate() {
            shared.raise_floor(stream, index, floor.level());
        }
        let publishing = if plan.streams() == 0 {
            0
        } else {
            plan.publishers
        };
        let publisher_numbers: Vec<usize> = (0..publishing)
            .filter(|number| number % threads == index)
            .collect();
        let own: Vec<(usize, usize)> = (0..plan.streams())
            .filter_map(|stream| {
                let owner = plan.publisher_of(stream);
                let place = publisher_numbers.iter().position(|number| *number == owner);
                place.map(|place| (stream, place))
            })
            .collect();
        let timer = Timer::new()?;
        timer.register(poll.registry(), TIMER)?;
        Ok(Self {
            index,
            doors,
            pump: Pump::new(&plan, &own),
            plan,
            shared,
            poll,
            timer,
            buffer: vec![0; READ_BUFFER_BYTES],
            books,
            publishers: publisher_numbers.iter().map(|_| None).collect(),
            publisher_numbers,
            seats,
            opened: 0,
            opening: 0,
            settled: 0,
            again: Vec::new(),
            endings: Vec::new(),
            failures: Vec::new(),
            ended: 0,
            stalled_ended: 0,
            phase: Phase::Connecting,
            unsent: 0,
            housekeeping_ns: 0,
        })
    }

    /// Runs until the conductor says that it is over.
    pub(crate) fn run(mut self) -> io::Result<LaneResult> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut next = Next::Event;
        loop {
            self.follow_phase();
            if self.phase == Phase::Closing {
                break;
            }
            let timeout = self.timeout(next);
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for token in std::mem::take(&mut self.again) {
                self.on_ready(token);
            }
            for event in &events {
                if event.token() != WAKER && event.token() != TIMER {
                    self.on_event(event);
                }
            }
            self.open_more();
            self.share_floors();
            next = self.send();
            self.keep_house();
        }
        Ok(self.close())
    }

    fn timeout(&mut self, next: Next) -> Duration {
        if next == Next::Now || !self.again.is_empty() {
            return Duration::ZERO;
        }
        if let Next::At(due) = next {
            let now = self.shared.now_ns();
            if due <= now {
                return Duration::ZERO;
            }
            self.timer.arm(due, now);
        }
        SLEEP
    }

    fn follow_phase(&mut self) {
        let phase = self.shared.phase();
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        match phase {
            Phase::Running => {
                self.books.record_ns = self.shared.record_window_ns();
                self.pump.start(&self.plan, self.shared.start_ns());
            }
            Phase::Draining => {
                let (_, end_ns) = self.shared.record_window_ns();
                self.unsent = self.pump.left_before(end_ns.min(self.shared.now_ns()));
                // Who stalled reads again, and no event will tell it to.
                let first = self.publishers.len();
                let stalled = self.seats.iter().enumerate();
                let stalled = stalled.filter(|(_, seat)| seat.subscriber.stalls);
                self.again.extend(stalled.map(|(at, _)| first + at));
            }
            Phase::Connecting | Phase::Closing => {}
        }
    }

    /// Tells the owners of streams how far the subscribers here are.
    fn share_floors(&mut self) {
        if self.books.risen.is_empty() {
            return;
        }
        let mut elsewhere = false;
        for stream in std::mem::take(&mut self.books.risen) {
            let level = self.books.floors[stream].level();
            self.shared.raise_floor(stream, self.index, level);
            let owner = self.plan.publisher_of(stream) % self.plan.threads;
            elsewhere |= owner != self.index;
        }
        if elsewhere {
            for (index, waker) in self.shared.wakers.iter().enumerate() {
                if index != self.index {
                    // A lane that is not woken looks by itself some milliseconds later.
                    drop(waker.wake());
                }
            }
        }
    }

    fn send(&mut self) -> Next {
        let mut next = Next::Event;
        if self.phase == Phase::Running {
            next = self
                .pump
                .fill(&mut self.publishers, &mut self.books, &self.shared);
        }
        for at in 0..self.publishers.len() {
            if let Some((client, _)) = &mut self.publishers[at]
                && client.is_open()
                && client.unsent_bytes() > 0
                && let Err(ended) = client.flush()
            {
                self.on_end(at, &ended);
            }
        }
        let may_take_more = |slot: &Option<(Client, Publisher)>| {
            slot.as_ref()
                .is_some_and(|(client, _)| client.unsent_bytes() == 0)
        };
        match next {
            // A full socket says by itself when it takes more.
            Next::Now if !self.publishers.iter().any(may_take_more) => Next::Event,
            other => other,
        }
    }

    fn keep_house(&mut self) {
        let counters = &self.shared.lanes[self.index];
        put(&counters.deliveries, self.books.deliveries);
        put(&counters.published, self.pump.published);
        let now = self.shared.now_ns();
        if now < self.housekeeping_ns {
            return;
        }
        self.housekeeping_ns = now + HOUSEKEEPING_NS;
        self.share_counters(counters);
        let all = wide(self.publishers.len() + self.seats.len());
        if self.settled == all {
            counters.connected.store(true, Ordering::Relaxed);
        }
        if self.phase == Phase::Draining && self.is_drained() {
            counters.drained.store(true, Ordering::Relaxed);
        }
    }

    fn share_counters(&self, counters: &Counters) {
        put(&counters.bytes_in, self.books.bytes_in);
        put(&counters.acked, self.books.acked);
        put(&counters.refused, self.books.refused);
        put(&counters.announced, self.books.announced);
        put(&counters.broken, self.books.broken);
        put(&counters.opened, self.settled - wide(self.failures.len()));
        put(&counters.failed, wide(self.failures.len()));
        put(&counters.ended, self.ended);
        put(&counters.cpu_ns, thread_cpu_ns());
    }

    fn is_drained(&self) -> bool {
        let answered = |slot: &Option<(Client, Publisher)>| {
            slot.as_ref()
                .is_none_or(|(_, publisher)| publisher.answered >= publisher.sent)
        };
        let arrived = |seat: &Seat| {
            seat.client.is_none() || seat.subscriber.is_done(&self.plan, &self.shared)
        };
        self.publishers.iter().all(answered) && self.seats.iter().all(arrived)
    }

    fn close(mut self) -> LaneResult {
        let mut result = LaneResult {
            stalled_ended: self.stalled_ended,
            endings: self.endings,
            failures: self.failures,
            unsent: self.unsent,
            ..LaneResult::of(self.books)
        };
        for seat in &mut self.seats {
            // Who lost the connection lost everything after it too; that is told as an ending.
            if let Some(client) = &mut seat.client {
                seat.subscriber.finish(&self.plan, &self.shared);
                client.say_goodbye();
            }
            let tally = &seat.subscriber.check.tally;
            if seat.subscriber.stalls {
                result.stalled.add(tally);
                result.stalled_told += u64::from(tally.notices > 0);
            } else {
                result.healthy.add(tally);
            }
        }
        for (client, _) in self.publishers.iter_mut().flatten() {
            client.say_goodbye();
        }
        result
    }
}

fn put(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

/// What the calling thread has used of its core.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}
