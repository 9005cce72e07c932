//! Snapshots: when one is taken, how a node begins with one, and what the log may forget then.
//!
//! Each node counts what it has read since the newest snapshot that it knows of. When that is more than
//! the snapshot itself, or a quarter of what the log may have, or some minutes old, it waits a moment,
//! another one than the others, and looks whether somebody was quicker. If nobody was, the feed has all
//! shards show their topics between two entries, and a thread deflates that into the object store. Then
//! the log lets go of what is before the snapshot before; it is not what a node that starts needs.
//!
//! A node whose histories had to give way to other things in memory keeps less than the others. It leaves
//! the snapshot to them for a while, since whoever begins with one has no more than it holds.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardcast_cluster::log::{Log, Prepared};
use shardcast_cluster::partition::mix;
use shardcast_cluster::store::{CHUNK_BYTES, Snapshot, StoreError};
use tokio::sync::Notify;
use tokio::sync::mpsc;

use super::node::Parts;
use super::picture;
use crate::broker::request::Request;

/// The log is worth a snapshot when it has so many bytes since the last.
const BYTES_MIN: u64 = 4 << 20;

/// Or when the last is so old and something has happened since.
const AGE_MAX: Duration = Duration::from_mins(10);

/// Nodes that find at one moment that a snapshot is due wait up to so long.
const SPREAD_MS: u64 = 1500;

const LOOK: Duration = Duration::from_millis(100);

/// A node that keeps less than it may leaves a snapshot to the others for so long: ten times what they wait,
/// so that only nodes that are alone, or all alike, come to that.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pause after one that came to nothing.
const PAUSE: Duration = Duration::from_secs(5);

/// Chunks that wait to be stored.
const CHUNKS_AHEAD: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    log: Log,
    prepared: Prepared,
    parts: Rc<Parts>,
    /// Bytes of entries since the newest snapshot.
    since: Cell<u64>,
    at: Cell<Instant>,
    /// When the next one came to be due.
    due_since: Cell<Option<Instant>>,
    /// The newest two that this node knows of, the newer one first.
    known: RefCell<Vec<Snapshot>>,
    /// The feed is to have one taken.
    pub(super) call: Notify,
    is_busy: Cell<bool>,
}

impl Keeper {
    pub(super) fn new(log: Log, prepared: Prepared, parts: Rc<Parts>) -> Self {
        Self {
            log,
            prepared,
            parts,
            since: Cell::new(0),
            at: Cell::new(Instant::now()),
            due_since: Cell::new(None),
            known: RefCell::default(),
            call: Notify::new(),
            is_busy: Cell::new(false),
        }
    }

    /// An entry of so many bytes was read.
    pub(super) fn note(&self, bytes: usize) {
        self.since.set(self.since.get() + bytes as u64);
    }

    /// Brings the newest snapshot that can be read into the shards. Returns the entry that it stands
    /// behind; 0 without one.
    pub(super) async fn load(&self) -> Result<u64, String> {
        let mut tries = 0;
        let mut found = loop {
            match self.log.snapshots(self.prepared.seed).await {
                Ok(found) => break found,
                Err(error) => {
                    tries += 1;
                    if tries == 20 {
                        tracing::warn!("the snapshots of the cluster cannot be listed: {error}");
                    }
                    tokio::time::sleep(PAUSE / 20).await;
                }
            }
        };
        found.truncate(2);
        self.known.replace(found.clone());
        for snapshot in found {
            match self.load_one(&snapshot).await {
                Ok(topics) => {
                    let (place, bytes) = (snapshot.place, snapshot.bytes);
                    tracing::info!(place, bytes, topics, "began with a snapshot");
                    self.show();
                    return Ok(place);
                }
                // Nothing is in the shards yet if it was read whole first.
                Err(error) => tracing::warn!("snapshot {} cannot be used: {error}", snapshot.place),
            }
        }
        Ok(0)
    }

    async fn load_one(&self, snapshot: &Snapshot) -> Result<u64, String> {
        // Once to see that it is whole, once to use it: half of one would be worse than none.
        self.read(snapshot, false).await?;
        self.read(snapshot, true).await
    }

    async fn read(&self, snapshot: &Snapshot, is_used: bool) -> Result<u64, String> {
        let mut reading = picture::Reading::new();
        let (mut topics, mut fault) = (0, None);
        let read = self.log.get_snapshot(snapshot, async |bytes| {
            let restored = match reading.take(bytes) {
                Ok(restored) => restored,
                Err(error) => {
                    fault = Some(error.to_string());
                    return false;
                }
            };
            for topic in restored {
                topics += 1;
                if is_used {
                    let shard = self.parts.broker.shard_of(&topic.name);
                    let restore = Request::Restore(Box::new(topic));
                    self.parts.broker.inbox(shard).send(restore).await;
                }
            }
            true
        });
        read.await.map_err(|error| error.to_string())?;
        match fault {
            Some(fault) => Err(fault),
            None if !reading.is_whole() => Err("it is cut".to_owned()),
            None => Ok(topics),
        }
    }

    /// Calls for a snapshot whenever one is due, for ever.
    pub(super) async fn work(self: Rc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.show();
            self.make_room().await;
            if self.is_busy.get() || !self.is_due() {
                continue;
            }
            let chance = mix(self.log.node() ^ self.parts.standing.applied.value());
            tokio::time::sleep(Duration::from_millis(chance % SPREAD_MS)).await;
            match self.log.snapshots(self.prepared.seed).await {
                Ok(mut found) => {
                    found.truncate(2);
                    let newest = found.first().map(|snapshot| snapshot.place);
                    let known = self.known.borrow().first().map(|snapshot| snapshot.place);
                    self.known.replace(found);
                    if newest > known {
                        // Somebody else has. What was read before it is not counted again.
                        self.restart();
                    } else if self.parts.standing.is_ready() && !self.leaves_it_to_others() {
                        self.is_busy.set(true);
                        self.call.notify_one();
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Where the log is more than half full, it lets go also of what only the snapshot before needs.
    async fn make_room(&self) {
        let status = self.log.status();
        let newest = self.known.borrow().first().map_or(0, |newest| newest.place);
        let bytes_max = self.parts.config.cluster_log_bytes_max as u64;
        if status.bytes.value() > bytes_max / 2 && status.first.value() <= newest {
            // What does not work now is tried again at the next look.
            self.log.purge_before(newest + 1).await.ok();
        }
    }

    /// Whether it keeps less than others may, and these have still time: a log that is nearly full has none.
    fn leaves_it_to_others(&self) -> bool {
        let is_cut = self.parts.shards.iter().any(|shard| shard.cut.value() > 0);
        let bytes_max = self.parts.config.cluster_log_bytes_max as u64;
        let due = self.due_since.get().unwrap_or_else(Instant::now);
        self.due_since.set(Some(due));
        let has_time = self.log.status().bytes.value() < bytes_max / 4 * 3;
        is_cut && has_time && due.elapsed() < PATIENCE
    }

    fn restart(&self) {
        self.since.set(0);
        self.at.set(Instant::now());
        self.due_since.set(None);
    }

    fn is_due(&self) -> bool {
        let since = self.since.get();
        let last = self.known.borrow().first().map_or(0, |last| last.bytes);
        let most = self.parts.config.cluster_log_bytes_max as u64 / 4;
        let is_old = since > 0 && self.at.get().elapsed() > AGE_MAX;
        is_old || since >= last.max(BYTES_MIN).min(most)
    }

    fn show(&self) {
        let standing = &self.parts.standing;
        if let Some(newest) = self.known.borrow().first() {
            standing.snapshot_place.set(newest.place);
            standing.snapshot_bytes.set(newest.bytes);
        }
        let age = self.at.get().elapsed().as_secs();
        standing.snapshot_age_sec.set(age);
    }

    /// Takes one behind entry `place`, all of which is with the shards, and nothing behind it.
    pub(super) async fn take(self: &Rc<Self>, place: u64) {
        let (send, images) = std::sync::mpsc::channel();
        for inbox in self.parts.broker.inboxes() {
            let images = send.clone();
            inbox.send(Request::Survey { images }).await;
        }
        drop(send);
        self.restart();
        let (chunks, written) = mpsc::channel(CHUNKS_AHEAD);
        let writing = std::thread::Builder::new().name("snapshot".to_owned());
        // All is handed on before the channel ends; one that panics leaves a snapshot that is not whole.
        let writing = writing.spawn(move || picture::write(&images, CHUNK_BYTES, chunks));
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Err(error) = this.store(place, written, writing).await {
                tracing::warn!("no snapshot behind entry {place}: {error}");
                tokio::time::sleep(PAUSE).await;
            }
            this.is_busy.set(false);
        });
    }

    async fn store(
        &self,
        place: u64,
        written: mpsc::Receiver<bytes::Bytes>,
        writing: io::Result<std::thread::JoinHandle<io::Result<u64>>>,
    ) -> Result<(), String> {
        let began = Instant::now();
        let writing = writing.map_err(|error| error.to_string())?;
        let stored = self
            .log
            .put_snapshot(self.prepared.seed, place, written)
            .await;
        let stored = stored.map_err(|error| error.to_string())?;
        // It has handed on its last chunk, or it has failed.
        let Ok(Ok(topics)) = writing.join() else {
            self.log.delete_snapshot(&stored).await.ok();
            return Err("it was not written to its end".to_owned());
        };
        let bytes = stored.bytes;
        tracing::info!(
            place,
            bytes,
            topics,
            ms = began.elapsed().as_millis(),
            "took a snapshot"
        );
        let text = |error: StoreError| error.to_string();
        let all = self.log.snapshots(self.prepared.seed).await.map_err(text)?;
        if let Some(unneeded) = all.get(1) {
            self.log
                .purge_before(unneeded.place + 1)
                .await
                .map_err(text)?;
        }
        for old in all.iter().skip(2) {
            self.log.delete_snapshot(old).await.map_err(text)?;
        }
        self.known.replace(all.into_iter().take(2).collect());
        Ok(())
    }
}
