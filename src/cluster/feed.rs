//! From the log to the shards: every entry in its order, as settled requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use shardcast_cluster::entry::{BadEntry, Entry};
use shardcast_cluster::log::{Log, Prepared};
use shardcast_cluster::reader::{Read, Stored};
use tokio::sync::{Notify, oneshot};

use super::keeper::Keeper;
use super::lanes::Lanes;
use super::node::{Failure, Parts};
use super::translate;
use crate::broker::request::{Request, Settled, Terms};
use crate::protocol::time::{Moment, Timestamp};

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    log: Log,
    keeper: Rc<Keeper>,
    node: u64,
    prepared: Prepared,
    parts: Rc<Parts>,
    lanes: Rc<RefCell<Lanes>>,
    /// Tells that a lane may send again.
    call: Rc<Notify>,
    /// The entry that was handed to the shards last.
    place: u64,
    is_level: bool,
}

impl Feed {
    pub(super) fn new(
        log: Log,
        prepared: Prepared,
        parts: Rc<Parts>,
        lanes: Rc<RefCell<Lanes>>,
        call: Rc<Notify>,
    ) -> Self {
        Self {
            keeper: Rc::new(Keeper::new(log.clone(), prepared, Rc::clone(&parts))),
            node: log.node(),
            log,
            prepared,
            parts,
            lanes,
            call,
            place: 0,
            is_level: false,
        }
    }

    /// Reads for as long as that is possible. Why it is not any more.
    pub(super) async fn work(mut self) -> Failure {
        self.place = match self.begin().await {
            Ok(place) => place,
            Err(text) => return Failure::Lost(text),
        };
        let keeper = Rc::clone(&self.keeper);
        tokio::task::spawn_local(Rc::clone(&keeper).work());
        let mut reader = self.log.read_from(self.place + 1);
        loop {
            let read = tokio::select! {
                read = reader.next() => read,
                () = keeper.call.notified() => {
                    keeper.take(self.place).await;
                    continue;
                }
            };
            let behind = match read {
                Ok(Read::Open { behind }) => behind,
                Ok(Read::Entry(stored)) => {
                    if let Err(later) = self.carry_out(&stored).await {
                        return Failure::Lost(format!(
                            "entry {} of the log: {later}",
                            stored.place
                        ));
                    }
                    // Whoever sees it and then asks a shard finds what the entry has changed.
                    self.parts.standing.applied.set(stored.place);
                    stored.behind
                }
                Ok(Read::Lost) => {
                    self.is_level = false;
                    self.parts.standing.set_level(false);
                    continue;
                }
                Err(gone) => return Failure::Lost(gone.to_string()),
            };
            self.parts.standing.behind.set(behind);
            if behind == 0 && !self.is_level {
                self.level().await;
            }
        }
    }

    /// Begins with the newest snapshot. The entry that comes before the first that is to be read.
    async fn begin(&self) -> Result<u64, String> {
        let place = self.keeper.load().await?;
        // What is before it may have gone since the log was looked at; the reader says so then.
        self.parts.standing.applied.set(place);
        Ok(place)
    }

    /// All that the log has is with the shards: once they have carried it out, this node is like the
    /// others.
    async fn level(&mut self) {
        for inbox in self.parts.broker.inboxes() {
            let (reply, passed) = oneshot::channel();
            inbox.send(Request::Fence { reply }).await;
            drop(passed.await);
        }
        let standing = &self.parts.standing;
        let is_first = !standing.has_begun();
        self.is_level = true;
        standing.behind_ms.set(0);
        standing.set_connected(true);
        standing.set_level(true);
        if is_first {
            tracing::info!(
                entries = standing.applied.value(),
                "level with the log of the cluster"
            );
        }
    }

    /// Hands the changes of an entry to their shards. Waits where an inbox is full: then the log is not
    /// read.
    async fn carry_out(&mut self, stored: &Stored) -> Result<(), BadEntry> {
        let parts = Rc::clone(&self.parts);
        let standing = &parts.standing;
        self.place = stored.place;
        self.keeper.note(stored.bytes.len());
        let age = if stored.behind == 0 {
            0
        } else {
            age_ms(stored.unix_ms)
        };
        standing.behind_ms.set(age);
        let entry = match Entry::parse(&stored.bytes) {
            Ok(entry) => entry,
            Err(later @ BadEntry::Later(_)) => return Err(later),
            Err(error) => {
                standing.unreadable.add(1);
                tracing::warn!("entry {} of the log is passed over: {error}", stored.place);
                return Ok(());
            }
        };
        let is_own = entry.node == self.node;
        let own = is_own.then(|| self.lanes.borrow_mut().is_back(entry.number));
        let own = own.flatten();
        let mut own_requests = own.into_iter().flatten();
        let ts = Timestamp::from_unix_ms(stored.unix_ms);
        let read_at = Moment::at(parts.started.elapsed());
        for (index, group) in entry.groups.iter().enumerate() {
            let request = own_requests
                .next()
                .or_else(|| translate::read(group, read_at));
            let (Some(request), Some(first)) = (request, group.messages.first()) else {
                continue;
            };
            let terms = Terms {
                ts,
                birth: Some(self.prepared.birth(stored.place, index)),
                creation: translate::creation(group),
            };
            let shard = parts.broker.shard_of(first.topic);
            let settled = Request::Settled(Box::new(Settled { terms, request }));
            parts.broker.inbox(shard).send(settled).await;
        }
        if is_own {
            self.lanes.borrow_mut().is_through(entry.number);
            self.call.notify_one();
        }
        Ok(())
    }
}

fn age_ms(unix_ms: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis());
    u64::try_from(now)
        .unwrap_or(u64::MAX)
        .saturating_sub(unix_ms)
}
