//! Answers what others ask about the connections of this core.
//!
//! A list goes through all of them, a few hundred at a time with everybody else's turn in between,
//! and keeps the largest it has seen: as many as are asked for, whatever their number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Core;
use crate::broker::ConnectionId;
use crate::broker::directory::TopicEntry;
use crate::connection::{Connection, Sort};
use crate::roster::Entry;

/// Connections that are looked at in one go: some tens of microseconds.
const LOOKS_MAX: u32 = 512;

/// Topics that are named of one connection.
const TOPICS_MAX: usize = 1000;

/// Where a connection stands in a list, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// What the list is sorted by.
    pub(crate) figure: u64,
    /// The connection, where others have the same figure.
    pub(crate) id: u64,
}

/// Asks for a list.
#[derive(Debug)]
pub struct Census {
    /// Of the subscribers of this topic, or of all.
    pub(crate) among: Option<Arc<TopicEntry>>,
    pub(crate) sort: Sort,
    /// Of those behind this one.
    pub(crate) after: Option<Mark>,
    pub(crate) count: usize,
    pub(crate) reply: oneshot::Sender<Vec<(Mark, Entry)>>,
}

/// Asks for one connection, and the names of its topics.
#[derive(Debug)]
pub struct Look {
    pub(crate) id: ConnectionId,
    pub(crate) reply: oneshot::Sender<Option<(Entry, Vec<Arc<str>>)>>,
}

/// Asks for a connection to be closed; whether it was there.
#[derive(Debug)]
pub struct Dismissal {
    pub(crate) id: ConnectionId,
    pub(crate) reply: oneshot::Sender<bool>,
}

/// The largest so far.
struct Largest<'c> {
    census: &'c Census,
    marks: BinaryHeap<Reverse<Mark>>,
}

impl Largest<'_> {
    fn look_at(&mut self, connection: &Connection) {
        let mark = Mark {
            figure: connection.figure(self.census.sort),
            id: connection.id().number(),
        };
        if self.census.after.is_some_and(|after| mark >= after) {
            return;
        }
        self.marks.push(Reverse(mark));
        if self.marks.len() > self.census.count {
            self.marks.pop();
        }
    }
}

/// Makes the list.
pub(super) async fn take(core: Rc<Core>, census: Census) {
    let mut largest = Largest {
        census: &census,
        marks: BinaryHeap::new(),
    };
    match &census.among {
        None => {
            let mut first = 0_u32;
            while (first as usize) < core.table.places() {
                let next = first.saturating_add(LOOKS_MAX);
                for connection in (first..next).filter_map(|slot| core.table.at(slot)) {
                    largest.look_at(&connection);
                }
                first = next;
                tokio::task::yield_now().await;
            }
        }
        Some(topic) => {
            let audience = topic.audience(core.local.index);
            let mut page = 0;
            while let Some(ids) = audience.as_ref().and_then(|audience| audience.page(page)) {
                for id in ids {
                    core.table
                        .with(*id, |connection| largest.look_at(connection));
                }
                page += 1;
                if page.is_multiple_of(8) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    let marks = largest.marks.into_sorted_vec();
    let entries = marks.into_iter().filter_map(|Reverse(mark)| {
        let entry = |connection: &Rc<Connection>| connection.entry(&core.local);
        let entry = core.table.with(ConnectionId::of_number(mark.id), entry)?;
        Some((mark, entry))
    });
    let entries: Vec<_> = entries.collect();
    // Whoever asked may have gone.
    drop(census.reply.send(entries));
}

/// Shows one connection.
pub(super) fn show(core: &Core, look: Look) {
    let shown = core.table.with(look.id, |connection| {
        (
            connection.entry(&core.local),
            connection.topic_names(TOPICS_MAX),
        )
    });
    drop(look.reply.send(shown));
}

/// Closes one connection.
pub(super) fn dismiss(core: &Core, dismissal: Dismissal) {
    let found = core
        .table
        .with(dismissal.id, |connection| connection.dismiss(&core.local));
    dismissal.reply.send(found.is_some()).ok();
}
