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
pub mod topic;

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

    /// No connection: what is said to it is said to nobody. No core has its number.
    pub const NOBODY: Self = Self(u64::MAX);

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
    /// Where changes are put in their order, if that is not the inbox of the topic's shard.
    order: Option<Order>,
}

/// An order of all changes that others keep too. Topics are in *partitions*, which are the same for all
/// of them; changes go in at the entrance, and come back as [`request::Settled`].
#[derive(Debug, Clone)]
pub struct Order {
    /// Takes changes.
    pub entrance: Arc<Inbox>,
    /// How many partitions there are.
    pub partitions: usize,
    /// The partition of a topic, of so many.
    pub partition_of: fn(&str, usize) -> usize,
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
            order: None,
        }
    }

    /// The same, with changes that are put in order elsewhere.
    #[must_use]
    pub fn ordered_by(self, order: Order) -> Self {
        Self {
            order: Some(order),
            ..self
        }
    }

    /// Whether changes are put in order elsewhere: then they take longer than what asks only a shard.
    pub fn is_ordered_elsewhere(&self) -> bool {
        self.order.is_some()
    }

    /// Where changes are put in order, if that is elsewhere.
    pub fn entrance(&self) -> Option<&Arc<Inbox>> {
        self.order.as_ref().map(|order| &order.entrance)
    }

    /// The lane of `topic`: changes that go in together are of one lane.
    pub fn lane_of(&self, topic: &str) -> usize {
        match &self.order {
            None => self.shard_of(topic),
            Some(order) => (order.partition_of)(topic, order.partitions),
        }
    }

    /// Where changes of a lane go in.
    pub fn lane(&self, lane: usize) -> &Arc<Inbox> {
        self.entrance().unwrap_or_else(|| self.inbox(lane))
    }

    /// Where changes of `topic` go in.
    pub fn lane_for(&self, topic: &str) -> &Arc<Inbox> {
        self.entrance()
            .unwrap_or_else(|| self.inbox(self.shard_of(topic)))
    }

    /// The shard that owns `topic`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the product's upper half is below the number of shards"
    )]
    pub fn shard_of(&self, topic: &str) -> usize {
        if let Some(order) = &self.order {
            return (order.partition_of)(topic, order.partitions) % self.inboxes.len();
        }
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
