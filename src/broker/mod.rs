//! (4) The broker: topics hashed over shards. No I/O and no clock: time is passed in.
//!
//! A [`Broker`] is the handle that connections hold. It knows which shard owns a topic and puts
//! requests into that shard's bounded [`Inbox`]; everything else happens in [`shard`].

use std::sync::Arc;

pub mod delivery;
pub mod directory;
pub mod history;
mod ids;
pub mod inbox;
pub mod pages;
mod patterns;
pub mod request;
pub mod ring;
pub mod run;
pub mod shard;
mod subscribers;
mod table;
mod topic;

pub use table::Shared;

use directory::Published;
use inbox::Inbox;

/// Most events in one run, whatever `RUN_MESSAGES_MAX` says: it bounds tables on the stack.
pub const RUN_EVENTS_LIMIT: usize = 64;

/// Names a connection and says where it lives: its core, its place there, and how often that
/// place was taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

const SLOT_BITS: u32 = 24;
const TIMES_BITS: u32 = 28;

impl ConnectionId {
    /// Place `slot` of core `core`, taken for the `times`-th time.
    pub fn new(core: usize, slot: u32, times: u32) -> Self {
        let times = u64::from(times) & ((1 << TIMES_BITS) - 1);
        Self((core as u64) << (SLOT_BITS + TIMES_BITS) | times << SLOT_BITS | u64::from(slot))
    }

    /// The core that owns the socket.
    pub fn core(self) -> usize {
        (self.0 >> (SLOT_BITS + TIMES_BITS)) as usize
    }

    /// The whole of it, for who asks for a connection by its number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The connection that a client's number names, if there is one.
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// A number for logs in which neighbours do not look alike.
    pub fn label(self) -> u32 {
        ((self.0 ^ (self.0 >> 24)) & 0xffff_ffff) as u32
    }

    /// The connection's place among those of its core.
    pub fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }
}

/// The way to every shard.
#[derive(Debug, Clone)]
pub struct Broker {
    inboxes: Arc<[Arc<Inbox>]>,
    directories: Arc<[Arc<Published>]>,
    /// Keyed at the start, so that nobody can choose names that meet in one shard.
    hasher: ahash::RandomState,
}

impl Broker {
    /// A broker over `inboxes`, one for each shard.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn new(inboxes: Arc<[Arc<Inbox>]>) -> Self {
        assert!(!inboxes.is_empty(), "a broker has a shard");
        Self {
            directories: inboxes.iter().map(|_| Arc::default()).collect(),
            inboxes,
            hasher: ahash::RandomState::new(),
        }
    }

    /// The shard that owns `topic`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the product's upper half is below the number of shards"
    )]
    pub fn shard_of(&self, topic: &str) -> usize {
        let hash = self.hasher.hash_one(topic);
        // The upper half of the product spreads the hash over the shards without a division.
        ((u128::from(hash) * self.inboxes.len() as u128) >> 64) as usize
    }

    /// The inbox of one shard. Index modulo the number of shards.
    pub fn inbox(&self, shard: usize) -> &Arc<Inbox> {
        &self.inboxes[shard % self.inboxes.len()]
    }

    /// The topics of one shard. Index modulo the number of shards.
    pub fn directory(&self, shard: usize) -> &Arc<Published> {
        &self.directories[shard % self.directories.len()]
    }

    /// All inboxes.
    pub fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.inboxes
    }
}
