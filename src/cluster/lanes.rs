//! From the entrance into the log: changes wait in the lane of their partition, and leave together.
//!
//! A lane has one entry on its way at most: from when it is sent until this node has it back. What comes
//! meanwhile makes the next one, so there is no timer that batches anything, and an append that has to be
//! repeated cannot be overtaken. What is not back in time is refused, in the order in which it came.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use ahash::AHashMap;
use shardcast_cluster::entry::{Draft, HEAD_BYTES};
use shardcast_cluster::log::{AppendError, Log};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::node::Parts;
use super::translate;
use crate::broker::delivery::Refusal;
use crate::broker::inbox::Inbox;
use crate::broker::request::{Creation, Request};

/// Messages of one entry, and its bytes: nothing more is put to it then.
const ENTRY_MESSAGES_MAX: usize = 256;
const ENTRY_BYTES: usize = 64 * 1024;

/// Requests that wait in all lanes; over it the entrance fills, and connections are no longer read.
const WAITING_MAX: usize = 8192;

/// How often is looked for what has waited too long.
const TICK: Duration = Duration::from_millis(25);

/// What one partition has.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// The number of the entry that is on its way.
    flight: Option<u64>,
    /// In the list of those that may send something.
    is_listed: bool,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    since: Instant,
}

/// An entry on its way.
#[derive(Debug)]
struct Flight {
    lane: usize,
    /// Its requests; taken when it is back.
    requests: Vec<Request>,
    deadline: Instant,
    /// It has come back, and is being handed to the shards.
    is_back: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Lanes {
    by_partition: Vec<Lane>,
    flights: AHashMap<u64, Flight>,
    /// Lanes that have something and nothing on its way.
    listed: VecDeque<usize>,
    waiting: usize,
    /// Entries that this node has numbered.
    numbered: u64,
    /// Those who want to know when all is through.
    fences: Vec<oneshot::Sender<()>>,
}

impl Lanes {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            by_partition: (0..partitions).map(|_| Lane::default()).collect(),
            flights: AHashMap::new(),
            listed: VecDeque::new(),
            waiting: 0,
            numbered: 0,
            fences: Vec::new(),
        }
    }

    /// Entry `number` of this node is back: its requests, unless they were given up.
    pub(super) fn is_back(&mut self, number: u64) -> Option<Vec<Request>> {
        let flight = self.flights.get_mut(&number)?;
        flight.is_back = true;
        Some(std::mem::take(&mut flight.requests))
    }

    /// All of that entry is with the shards, or was given up: its lane may send the next.
    pub(super) fn is_through(&mut self, number: u64) {
        if let Some(flight) = self.flights.remove(&number)
            && let Some(lane) = self.by_partition.get_mut(flight.lane)
        {
            lane.flight = None;
            self.list(flight.lane);
        }
        self.pass_fences();
    }

    fn list(&mut self, index: usize) {
        if let Some(lane) = self.by_partition.get_mut(index)
            && lane.flight.is_none()
            && !lane.waiting.is_empty()
            && !std::mem::replace(&mut lane.is_listed, true)
        {
            self.listed.push_back(index);
        }
    }

    fn put(&mut self, index: usize, request: Request, since: Instant) {
        let index = index % self.by_partition.len();
        if let Some(lane) = self.by_partition.get_mut(index) {
            lane.waiting.push_back(Waiting { request, since });
            self.waiting += 1;
        }
        self.list(index);
    }

    fn take(&mut self, index: usize) -> Option<Waiting> {
        let taken = self.by_partition.get_mut(index)?.waiting.pop_front();
        self.waiting -= usize::from(taken.is_some());
        taken
    }

    fn first(&self, index: usize) -> Option<&Waiting> {
        self.by_partition.get(index)?.waiting.front()
    }

    fn pass_fences(&mut self) {
        if self.waiting == 0 && self.flights.is_empty() {
            for fence in self.fences.drain(..) {
                fence.send(()).ok();
            }
        }
    }
}

/// Empties the entrance. See the module.
#[derive(Debug)]
pub(super) struct Appender {
    log: Log,
    parts: Rc<Parts>,
    lanes: Rc<RefCell<Lanes>>,
    /// A lane may send.
    call: Rc<Notify>,
    entrance: Arc<Inbox>,
}

impl Appender {
    pub(super) fn new(log: Log, parts: Rc<Parts>, lanes: Rc<RefCell<Lanes>>) -> Self {
        let entrance = parts.broker.lane(0);
        Self {
            log,
            entrance: Arc::clone(entrance),
            parts,
            lanes,
            call: Rc::default(),
        }
    }

    /// Tells the appender that a lane may send again.
    pub(super) fn call(&self) -> Rc<Notify> {
        Rc::clone(&self.call)
    }

    pub(super) async fn work(&self) -> Infallible {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.rung() => {}
                () = self.call.notified() => {}
                _ = ticks.tick() => self.give_up().await,
            }
            self.sort();
            self.send().await;
            let waiting = self.lanes.borrow().waiting;
            self.parts.standing.waiting.set(waiting as u64);
        }
    }

    /// Waits for something at the entrance, while there is room for it.
    async fn rung(&self) {
        poll_fn(|cx| {
            self.parts.bell.answer(cx.waker());
            let has_room = self.lanes.borrow().waiting < WAITING_MAX;
            if has_room && !self.entrance.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Brings what is at the entrance into its lanes.
    fn sort(&self) {
        let (mut lanes, now) = (self.lanes.borrow_mut(), Instant::now());
        let mut has_taken = false;
        while lanes.waiting < WAITING_MAX
            && let Some(request) = self.entrance.pop()
        {
            has_taken = true;
            if let Some(topic) = translate::topic_of(&request) {
                let lane = self.parts.broker.lane_of(topic);
                lanes.put(lane, request, now);
            } else if let Request::Fence { reply } = request {
                lanes.fences.push(reply);
            }
        }
        lanes.pass_fences();
        if has_taken {
            self.entrance.wake_refused();
        }
    }

    /// Sends an entry of each lane that may send.
    async fn send(&self) {
        // Without a connection it waits where it can still be refused in its order and on time.
        while self.log.status().is_connected() {
            let Some(index) = self.lanes.borrow_mut().next_listed() else {
                return;
            };
            let (number, mut draft, requests) = self.draft(index).await;
            if requests.is_empty() {
                continue;
            }
            let deadline = Instant::now() + self.parts.config.cluster_timeout;
            {
                let mut lanes = self.lanes.borrow_mut();
                let flight = Flight {
                    lane: index,
                    requests,
                    deadline,
                    is_back: false,
                };
                lanes.flights.insert(number, flight);
                if let Some(lane) = lanes.by_partition.get_mut(index) {
                    lane.flight = Some(number);
                }
            }
            let entry = std::mem::replace(&mut draft, Draft::new(0, 0)).finish();
            let (log, parts) = (self.log.clone(), Rc::clone(&self.parts));
            let (lanes, call) = (Rc::clone(&self.lanes), Rc::clone(&self.call));
            tokio::task::spawn_local(async move {
                let Err(error) = log.append(index, number, entry).await else {
                    return;
                };
                let refusal = match error {
                    AppendError::TooLarge => Refusal::TooLarge,
                    AppendError::TimedOut(heard) => {
                        tracing::warn!("the log of the cluster did not take an entry: {heard}");
                        Refusal::Unavailable
                    }
                };
                give_up(&lanes, &parts, number, refusal).await;
                call.notify_one();
            });
        }
    }

    /// Takes as much of a lane as goes into one entry, and refuses what is in front of it and for which
    /// there is no room.
    async fn draft(&self, index: usize) -> (u64, Draft, Vec<Request>) {
        let number = self.lanes.borrow_mut().next_number();
        let (mut draft, mut requests) = (Draft::new(self.log.node(), number), Vec::new());
        let bytes_max = self.log.entry_bytes_max();
        loop {
            let refusal = {
                let lanes = self.lanes.borrow();
                let Some(first) = lanes.first(index) else {
                    break;
                };
                let bytes = translate::bytes_max(&first.request);
                let is_full = draft.len() >= ENTRY_MESSAGES_MAX
                    || draft.bytes() >= ENTRY_BYTES
                    || draft.bytes() + bytes > bytes_max;
                let refusal = self.refusal(&first.request, bytes + HEAD_BYTES > bytes_max);
                if !draft.is_empty() && (is_full || refusal.is_some()) {
                    break;
                }
                refusal
            };
            let Some(Waiting { request, .. }) = self.lanes.borrow_mut().take(index) else {
                break;
            };
            if let Some(refusal) = refusal {
                refuse(&self.parts, request, refusal).await;
                continue;
            }
            translate::write(&request, self.creation(&request), &mut draft);
            requests.push(request);
        }
        (number, draft, requests)
    }

    /// Why a change is not even told to the others.
    fn refusal(&self, request: &Request, is_too_large: bool) -> Option<Refusal> {
        if is_too_large {
            return Some(Refusal::TooLarge);
        }
        let shard = self.parts.broker.shard_of(translate::topic_of(request)?);
        let is_full = self
            .parts
            .shards
            .get(shard)
            .is_some_and(|of| of.refusing.value() > 0);
        let makes_room = matches!(request, Request::Delete { .. });
        (is_full && !makes_room).then_some(Refusal::NoMemory)
    }

    /// Whether a change may make its topic. All nodes do as it says, whatever their own settings are.
    fn creation(&self, request: &Request) -> Creation {
        let config = &self.parts.config;
        // Relaxed: those on their way are not counted either.
        let is_full = self.parts.topics_total.load(Ordering::Relaxed) >= config.topics_max;
        match request {
            Request::Delete { .. } => Creation::Never,
            Request::Create { .. } | Request::Subscribe { .. } if is_full => Creation::Full,
            Request::Create { .. } | Request::Subscribe { .. } => Creation::Allowed,
            _ if !config.auto_create_topics => Creation::Never,
            _ if is_full => Creation::Full,
            _ => Creation::Allowed,
        }
    }

    /// Refuses what has waited too long.
    async fn give_up(&self) {
        let now = Instant::now();
        let late = self.lanes.borrow().late_flights(now);
        for number in late {
            give_up(&self.lanes, &self.parts, number, Refusal::Unavailable).await;
        }
        let timeout = self.parts.config.cluster_timeout;
        let lanes = self.lanes.borrow().by_partition.len();
        for index in 0..lanes {
            loop {
                let is_late = {
                    let lanes = self.lanes.borrow();
                    let is_free = lanes
                        .by_partition
                        .get(index)
                        .is_some_and(|lane| lane.flight.is_none());
                    let first = lanes.first(index);
                    is_free
                        && first.is_some_and(|first| {
                            now.saturating_duration_since(first.since) >= timeout
                        })
                };
                if !is_late {
                    break;
                }
                let late = self.lanes.borrow_mut().take(index);
                if let Some(Waiting { request, .. }) = late {
                    refuse(&self.parts, request, Refusal::Unavailable).await;
                }
            }
        }
        self.lanes.borrow_mut().pass_fences();
    }
}

impl Lanes {
    fn next_listed(&mut self) -> Option<usize> {
        let index = self.listed.pop_front()?;
        if let Some(lane) = self.by_partition.get_mut(index) {
            lane.is_listed = false;
        }
        Some(index)
    }

    fn next_number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// Entries that should be back.
    fn late_flights(&self, now: Instant) -> Vec<u64> {
        let late = |flight: &Flight| !flight.is_back && flight.deadline + 2 * TICK < now;
        let flights = self.flights.iter();
        flights
            .filter(|(_, flight)| late(flight))
            .map(|(number, _)| *number)
            .collect()
    }
}

/// Refuses all of an entry, unless it has come back.
async fn give_up(lanes: &RefCell<Lanes>, parts: &Parts, number: u64, refusal: Refusal) {
    let requests = {
        let mut lanes = lanes.borrow_mut();
        let Some(flight) = lanes.flights.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut flight.is_back, true) {
            return;
        }
        std::mem::take(&mut flight.requests)
    };
    for request in requests {
        refuse(parts, request, refusal).await;
    }
    lanes.borrow_mut().is_through(number);
}

/// Has the shard of a change answer that it is not carried out.
async fn refuse(parts: &Parts, request: Request, refusal: Refusal) {
    if let Some(topic) = translate::topic_of(&request) {
        let shard = parts.broker.shard_of(topic);
        let refused = Request::Refuse(Box::new(request), refusal);
        parts.broker.inbox(shard).send(refused).await;
    }
}
