//! The inbox of a shard and its bell.

#[path = "../../../../src/broker/inbox.rs"]
pub(crate) mod inbox;

mod models;

/// Something for a shard to do.
pub(crate) mod request {
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) struct Request(pub(crate) u32);
}

/// What one turn of a shard has for a core.
pub(crate) mod delivery {
    #[derive(Debug)]
    pub(crate) struct Delivery {
        pub(crate) shard: usize,
        pub(crate) turn: usize,
    }
}
