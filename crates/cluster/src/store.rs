//! Snapshots of what the log has come to, in an object store beside it.
//!
//! A snapshot is named after the log and the entry that it stands behind, so that one of a log that was made anew is never
//! taken for one of this. What is in it only its writer knows. One that is being written cannot be seen.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_nats::jetstream::object_store::{Config, ObjectStore};
use async_nats::jetstream::stream::StorageType;
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc::Receiver;

use crate::log::Log;
use crate::settings::Storage;

/// Bytes that are stored, and read, at once.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// What NATS says when it does not do something.
pub type StoreError = async_nats::Error;

/// One that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The entry that it stands behind.
    pub place: u64,
    /// Its bytes, as they are stored.
    pub bytes: u64,
    name: String,
}

impl Log {
    /// The store, made where there is none.
    async fn store(&self) -> Result<ObjectStore, StoreError> {
        let settings = self.settings();
        let bucket = format!("shardcast_{}", settings.name);
        if let Ok(store) = self.context().get_object_store(&bucket).await {
            return Ok(store);
        }
        let config = Config {
            bucket,
            description: Some("What the log of a cluster of shardcast has come to".to_owned()),
            storage: match settings.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            num_replicas: settings.replicas,
            ..Config::default()
        };
        Ok(self.context().create_object_store(config).await?)
    }

    /// All snapshots of the log with this seed, the newest first.
    pub async fn snapshots(&self, seed: u64) -> Result<Vec<Snapshot>, StoreError> {
        let listed: Vec<_> = self.store().await?.list().await?.try_collect().await?;
        let ours = format!("{seed:016x}-");
        let mut snapshots: Vec<_> = listed
            .into_iter()
            .filter_map(|object| {
                let place = object.name.strip_prefix(&ours)?.split('-').next()?;
                Some(Snapshot {
                    place: place.parse().ok()?,
                    bytes: object.size as u64,
                    name: object.name,
                })
            })
            .collect();
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.place));
        Ok(snapshots)
    }

    /// Stores one that stands behind entry `place`, up to the end of `chunks`.
    pub async fn put_snapshot(
        &self,
        seed: u64,
        place: u64,
        chunks: Receiver<Bytes>,
    ) -> Result<Snapshot, StoreError> {
        let name = format!("{seed:016x}-{place:020}-{:016x}", self.node());
        let mut chunks = Chunks {
            chunks,
            current: Bytes::new(),
        };
        let stored = self.store().await?.put(name.as_str(), &mut chunks).await?;
        Ok(Snapshot {
            place,
            bytes: stored.size as u64,
            name,
        })
    }

    /// Reads one, and hands out what was read piece by piece. Ends early if `take` says false.
    pub async fn get_snapshot(
        &self,
        snapshot: &Snapshot,
        mut take: impl AsyncFnMut(&[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let store = self.store().await?;
        let mut object = store.get(&snapshot.name).await?;
        let mut piece = vec![0; CHUNK_BYTES];
        loop {
            let read = object.read(&mut piece).await?;
            if read == 0 || !take(piece.get(..read).unwrap_or_default()).await {
                return Ok(());
            }
        }
    }

    /// Lets go of one.
    pub async fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        Ok(self.store().await?.delete(&snapshot.name).await?)
    }
}

/// Chunks as something to read.
struct Chunks {
    chunks: Receiver<Bytes>,
    current: Bytes,
}

impl AsyncRead for Chunks {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.current.is_empty() {
            match ready!(this.chunks.poll_recv(cx)) {
                Some(chunk) => this.current = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.current.len().min(buffer.remaining());
        buffer.put_slice(&this.current.split_to(taken));
        Poll::Ready(Ok(()))
    }
}
