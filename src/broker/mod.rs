//! (4) The broker: topics hashed over shards. No I/O and no clock: time is passed in.
//!
//! A [`Broker`] is the handle that connections hold. It knows which shard owns a topic and puts
//! requests into that shard's bounded [`Inbox`]; everything else happens in [`shard`].

use std::sync::Arc;

pub mod history;
pub mod inbox;
pub mod outbox;
pub mod placed;
pub mod request;
pub mod run;
pub mod shard;
pub mod subscribers;
pub mod topic;

use inbox::Inbox;

/// Most events in one run, whatever `RUN_MESSAGES_MAX` says: it bounds tables on the stack.
pub const RUN_EVENTS_LIMIT: usize = 64;

/// The way to every shard.
#[derive(Debug, Clone)]
pub struct Broker {
    inboxes: Arc<[Arc<Inbox>]>,
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

    /// All inboxes.
    pub fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.inboxes
    }
}
