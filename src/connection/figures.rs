//! What a connection has done, counted by its core where it does it anyway, and told to others.

use std::cell::{Cell, OnceCell};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Connection;
use super::local::Local;
use crate::protocol::codes::CloseCode;
use crate::roster::{Done, Entry, Farewell, Lag};

/// See the module. There is one for each client, so it is small: times are tenths of a second since
/// the start of the process, of which four bytes hold 13 years.
#[derive(Debug)]
pub(super) struct Figures {
    address: IpAddr,
    port: u16,
    since: u32,
    last_write: Cell<u32>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    events_out: Cell<u64>,
    rare: OnceCell<Box<Rare>>,
}

/// What most connections never need: they only listen, and lose nothing.
#[derive(Debug, Default)]
struct Rare {
    dropped: Cell<u64>,
    events_in: Cell<u64>,
    /// How it ends, and what was known of it when that began.
    end: OnceCell<(Farewell, Entry)>,
}

impl Figures {
    pub(super) fn new(address: SocketAddr, elapsed: Duration) -> Self {
        Self {
            address: address.ip(),
            port: address.port(),
            since: tenths(elapsed),
            last_write: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            events_out: Cell::new(0),
            rare: OnceCell::new(),
        }
    }

    /// Where the client is.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    /// Bytes came from the client.
    pub(super) fn came(&self, bytes: usize) {
        add(&self.bytes_in, bytes as u64);
    }

    /// Messages of the client are on their way to topics.
    pub(super) fn published(&self, messages: usize) {
        add(&self.rare().events_in, messages as u64);
    }

    /// Live events fell out of the ring.
    pub(super) fn dropped(&self, events: u64) {
        add(&self.rare().dropped, events);
    }

    /// At the time `now` the kernel took bytes, with which so many live events are through.
    pub(super) fn wrote(&self, bytes: usize, events: u64, now: u32) {
        add(&self.bytes_out, bytes as u64);
        add(&self.events_out, events);
        self.last_write.set(now);
    }

    fn done(&self) -> Done {
        let rare = self.rare.get();
        Done {
            dropped: rare.map_or(0, |rare| rare.dropped.get()),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            events_in: rare.map_or(0, |rare| rare.events_in.get()),
            events_out: self.events_out.get(),
            last_write_ms: u64::from(self.last_write.get()) * 100,
        }
    }
}

/// The time since the start of the process; none is 0, which is never.
pub(super) fn tenths(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_millis() / 100).map_or(u32::MAX, |tenths| tenths.max(1))
}

fn add(figure: &Cell<u64>, more: u64) {
    figure.set(figure.get() + more);
}

/// By what a list of connections is sorted, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Events that wait.
    Lag,
    /// Events that fell out of the ring.
    Dropped,
    /// Time since the upgrade.
    Age,
}

impl Connection {
    /// What `sort` goes by. It may change at any moment.
    pub(crate) fn figure(&self, sort: Sort) -> u64 {
        match sort {
            Sort::Lag => self.lag_events(),
            Sort::Dropped => self.figures.done().dropped,
            Sort::Age => u64::from(u32::MAX - self.figures.since),
        }
    }

    fn lag_events(&self) -> u64 {
        let unsent = self.unsent.borrow();
        let unsent = unsent.as_ref().map_or(0, |unsent| unsent.live());
        self.ring.borrow().late_events() + unsent
    }

    fn lag(&self, local: &Local) -> Lag {
        let unsent = self.unsent.borrow();
        let oldest = unsent.as_ref().and_then(|unsent| unsent.oldest());
        let oldest = oldest.or_else(|| self.ring.borrow().oldest());
        Lag {
            events: self.lag_events(),
            age_ms: oldest.map_or(0, |oldest| local.moment().since(oldest) / 1000),
        }
    }

    /// All that is told of it.
    pub(crate) fn entry(&self, local: &Local) -> Entry {
        let key = self.grant.borrow().name().map(Into::into);
        Entry {
            id: self.id.number(),
            address: self.figures.address(),
            client_id: self.label().into(),
            transport: self.dialect.transport(),
            key: key.filter(|_| self.is_authenticated.get()),
            since_ms: u64::from(self.figures.since) * 100,
            subscriptions: self.subscriptions(),
            lag: self.lag(local),
            done: self.figures.done(),
        }
    }

    /// Names of topics that it is subscribed to, and patterns: at most so many.
    pub(crate) fn topic_names(&self, names_max: usize) -> Vec<Arc<str>> {
        let mut names = self.topics.borrow().names(names_max);
        if let Some(patterns) = &*self.patterns.borrow() {
            names.extend(patterns.names(names_max.saturating_sub(names.len())));
        }
        names
    }

    /// Its end begins, if it has not before.
    pub(super) fn note_end(&self, local: &Local, code: CloseCode, reason: &str) {
        self.figures.rare().end.get_or_init(|| {
            let farewell = Farewell {
                code: code.0,
                reason: reason.into(),
            };
            (farewell, self.entry(local))
        });
    }

    /// It has ended.
    pub(super) fn remember(&self, local: &Local) {
        self.note_end(local, CloseCode::ABNORMAL, "the client has gone");
        let Some((farewell, entry)) = self.figures.rare().end.get().cloned() else {
            return;
        };
        let entry = Entry {
            done: self.figures.done(),
            ..entry
        };
        let ledger = &local.process.ledger;
        ledger.remember(entry, farewell, local.elapsed_ms());
    }
}
