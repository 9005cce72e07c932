//! One core: a thread with a shard, connections, their timers, and the loop that serves them.
//!
//! Everything here belongs to one thread. Other threads reach it through its [`mailbox`] and its
//! shard's inbox alone. A round of the loop works off the mail, flushes, gives the shard a turn,
//! works off what the shard has for this core, and flushes again.
//!
//! A shard takes its next turn only when every core has flushed the last: one that ran ahead would
//! fill the rings of subscribers who take all they are given.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sendmany::SendMany;
use tokio::sync::oneshot;

pub(crate) mod census;
mod fanout;
pub mod mailbox;
mod relief;
mod table;

use crate::broker::inbox::Bell;
use crate::broker::request::Replay;
use crate::broker::shard::Shard;
use crate::config::Config;
use crate::connection::flusher::Flusher;
use crate::connection::lifeline::look_at;
use crate::connection::listener::Listener;
use crate::connection::local::Local;
use crate::connection::reader::Reader;
use crate::connection::session::Admission;
use crate::connection::timers::{TICK, Tick};
use crate::connection::{Connection, Newcomer};
use crate::process::Process;
use crate::protocol::names::TopicName;
use crate::protocol::policy::Policy;
use crate::wire::Arrival;
use mailbox::{Letter, Mailbox};
use relief::Relief;
use table::Table;

/// So many ticks late, the core did not run or did not look: that time judges nobody.
const LATE_TICKS: u128 = 5;

/// Who comes while the server drains comes back so much later at least: at once it would be here
/// again before the process has gone.
const LATECOMER_WAIT: Duration = Duration::from_secs(1);

/// Events that are let go before others have their turn: some tenths of a millisecond.
const RELEASED_MAX: u32 = 512;

/// Connections that are reviewed in one round: some tens of microseconds.
const REVIEWS_MAX: u32 = 512;

/// See the module.
#[derive(Debug)]
pub struct Core {
    pub(crate) local: Rc<Local>,
    table: Table,
    mailboxes: Arc<[Mailbox]>,
    flusher: RefCell<Flusher>,
    /// Shards whose deliveries wait for the flush.
    owed: RefCell<Vec<usize>>,
    finished: RefCell<Option<oneshot::Sender<()>>>,
    relief: Relief,
    rounds: Cell<u64>,
    /// From this place on, connections have still to be reviewed.
    unreviewed: Cell<Option<u32>>,
}

impl Core {
    /// Core `index` of `process`, woken by `bell`, among those of `mailboxes`.
    pub fn new(
        index: usize,
        process: Arc<Process>,
        mailboxes: Arc<[Mailbox]>,
        bell: Arc<Bell>,
        many: Option<SendMany>,
    ) -> Rc<Self> {
        Rc::new(Self {
            local: Local::new(index, process, bell),
            table: Table::default(),
            mailboxes,
            flusher: RefCell::new(Flusher::new(many)),
            owed: RefCell::default(),
            finished: RefCell::default(),
            relief: Relief::default(),
            rounds: Cell::new(0),
            unreviewed: Cell::new(None),
        })
    }

    /// What all cores share.
    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.local.process
    }

    /// The settings.
    pub(crate) fn config(&self) -> &Config {
        self.local.config()
    }

    /// The way to another core.
    pub(crate) fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailboxes[self.local.index]
    }

    /// Makes a connection of an upgraded socket; its task is to be run on this core. `early` are
    /// bytes that came behind the upgrade request.
    pub(crate) fn adopt(&self, admission: Admission, newcomer: Newcomer, early: Vec<u8>) -> Reader {
        let connection = self.welcome(newcomer);
        Reader::new(Rc::clone(&self.local), admission, connection, early)
    }

    /// Makes a connection of a socket that is to be an event stream of `topics`.
    pub(crate) fn adopt_listener(
        &self,
        admission: Admission,
        newcomer: Newcomer,
        topics: Vec<(TopicName<'static>, Replay)>,
        policy: Policy,
    ) -> Listener {
        let connection = self.welcome(newcomer);
        Listener::new(
            Rc::clone(&self.local),
            admission,
            connection,
            topics,
            policy,
        )
    }

    fn welcome(&self, newcomer: Newcomer) -> Rc<Connection> {
        let local = &self.local;
        let connection = self
            .table
            .insert(local.index, |id| Connection::new(local, id, newcomer));
        if local.is_draining.get() {
            let (place, places) = (connection.id().slot(), self.table.places());
            let slot = self.slot(place, places).max(LATECOMER_WAIT);
            connection.say_goodbye(local, slot);
        }
        if local.is_finishing.get() {
            connection.leave(local);
        }
        // Its key may have been withdrawn on the way here.
        connection.review(local);
        connection
    }

    /// Runs the shard and flushes the connections, for ever. `arrived` takes new sockets.
    pub async fn work(self: Rc<Self>, mut shard: Shard, bell: &Bell, arrived: impl Fn(Arrival)) {
        poll_fn(|cx| {
            bell.answer(cx.waker());
            self.round(&mut shard, &arrived);
            Poll::<()>::Pending
        })
        .await;
    }

    fn round(self: &Rc<Self>, shard: &mut Shard, arrived: &impl Fn(Arrival)) {
        let local = &self.local;
        self.rounds.set(self.rounds.get().wrapping_add(1));
        local.begin_round();
        if let Some(call) = local.process.budget.call() {
            self.relief.go_on(local, &self.table, call);
        }
        self.read_letters(arrived);
        self.review_some();
        while let Some(delivery) = self.mailbox().next_delivery() {
            self.owed.borrow_mut().push(delivery.shard);
            fanout::receive(self, delivery);
            // Turns of several shards may not fit into a ring together.
            self.flush();
        }
        if local.has_ready() {
            self.flush();
        }
        if shard.has_work() && self.may_turn() {
            shard.turn(local.timestamp(), &mut |core, delivery| {
                if core == local.index {
                    fanout::receive(self, delivery);
                } else if let Some(mailbox) = self.mailboxes.get(core) {
                    mailbox.deliver(delivery);
                }
            });
            self.flush();
            if shard.has_work() {
                local.ring();
            }
            if local.process.budget.call().is_some() {
                self.mailboxes.iter().for_each(Mailbox::wake);
            }
        }
        for slot in local.take_ended() {
            self.table.remove(slot);
        }
        self.finish_if_empty();
        local.book();
        if local.has_ready() {
            local.ring();
        }
    }

    fn read_letters(self: &Rc<Self>, arrived: &impl Fn(Arrival)) {
        let local = &self.local;
        while let Some(letter) = self.mailbox().next_letter() {
            match letter {
                Letter::Socket(socket) => arrived(socket),
                Letter::Review => self.unreviewed.set(Some(0)),
                Letter::Ping(reply) => drop(reply.send(())),
                Letter::Census(census) => {
                    tokio::task::spawn_local(census::take(Rc::clone(self), census));
                }
                Letter::Look(look) => census::show(self, look),
                Letter::Dismiss(dismissal) => census::dismiss(self, dismissal),
                Letter::Drain(done) => {
                    local.is_draining.set(true);
                    let all = self.table.all();
                    for (place, connection) in all.iter().enumerate() {
                        connection.say_goodbye(local, self.slot(place, all.len()));
                    }
                    done.send(()).ok();
                }
                Letter::Finish(done) => {
                    local.is_finishing.set(true);
                    for connection in self.table.all() {
                        connection.leave(local);
                    }
                    self.finished.replace(Some(done));
                }
            }
        }
    }

    /// Goes on with a review of all connections, so many of them in a round.
    fn review_some(&self) {
        let Some(first) = self.unreviewed.get() else {
            return;
        };
        let next = first.saturating_add(REVIEWS_MAX);
        for connection in (first..next).filter_map(|slot| self.table.at(slot)) {
            connection.review(&self.local);
        }
        let is_done = next as usize >= self.table.places();
        self.unreviewed.set((!is_done).then_some(next));
        if !is_done {
            self.local.ring();
        }
    }

    /// When the client at `place` of `places` on this core should come back. The slots of all cores
    /// lie between each other.
    fn slot(&self, place: usize, places: usize) -> Duration {
        let cores = self.mailboxes.len();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let slots = count(places.saturating_mul(cores)).max(1);
        self.config().reconnect_spread * count(place * cores + self.local.index) / slots
    }

    /// Flushes once, and tells the shards whose deliveries are flushed by it.
    fn flush(&self) {
        self.flusher.borrow_mut().flush(&self.local);
        for shard in self.owed.borrow_mut().drain(..) {
            mailbox::settle(&self.mailboxes, self.local.index, shard);
        }
    }

    /// Whether every core has flushed what this core's shard has sent it.
    fn may_turn(&self) -> bool {
        mailbox::may_turn(&self.mailboxes, self.local.index)
    }

    /// Answers [`Letter::Finish`] when the last connection has gone.
    fn finish_if_empty(&self) {
        if self.table.is_empty()
            && let Some(finished) = self.finished.borrow_mut().take()
        {
            finished.send(()).ok();
        }
    }

    /// Lets events go that were held back, each at its time, for ever.
    pub async fn release(self: Rc<Self>) {
        let mut released = 0;
        loop {
            released += 1;
            if released == RELEASED_MAX {
                released = 0;
                tokio::task::yield_now().await;
            }
            let started = self.local.process.started;
            let (connection, place) = self.local.rests.next(started).await;
            let local = &self.local;
            self.table
                .with(connection, |connection| connection.has_rested(local, place));
            if local.has_ready() {
                local.ring();
            }
        }
    }

    /// Turns the timers, for ever.
    pub async fn tend(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.turn_timers();
            if self.local.has_ready() {
                self.local.ring();
            }
        }
    }

    /// Lets the time pass in which the core was alive, and looks at each connection that is due.
    /// After a pause of the process nothing passes: what waits in the sockets is read first.
    fn turn_timers(&self) {
        let local = &self.local;
        let looked = local.looked.get();
        let elapsed = looked.elapsed().as_millis() / TICK.as_millis();
        if elapsed == 0 {
            return;
        }
        if elapsed >= LATE_TICKS {
            local.looked.set(Instant::now());
            return;
        }
        let passed = u32::try_from(elapsed).unwrap_or(1);
        local.looked.set(looked + TICK * passed);
        let mut due = Vec::new();
        let now = local.tick().saturating_add(passed);
        local.timers.borrow_mut().turn(now, &mut due);
        for (at, slot) in due {
            self.look(at, slot);
        }
    }

    fn look(&self, at: Tick, slot: u32) {
        if let Some(connection) = self.table.at(slot)
            && connection.is_due(at)
        {
            look_at(&self.local, &connection);
        }
    }
}
