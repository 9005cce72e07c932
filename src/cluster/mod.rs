//! Several nodes as one broker: what changes anything goes through a log that all of them read.
//!
//! A change (publish, creation, deletion) leaves its connection through the entrance of the broker. Here
//! it waits in the `lanes` of its partition, is appended with others to the log, and is carried out when
//! it comes back in the log's order: the `feed` hands every entry, this node's own and those of
//! others, to the shards as settled requests. Shards do not know of it, nor does a connection: it waits
//! for an answer as ever, and its heartbeat, its subscriptions and its reads have nothing to do with it.
//!
//! All of it is one thread beside the cores, which ends the process when it cannot go on: a node that
//! has lost its place in the log would answer from another history than the rest.

pub mod standing;

#[cfg(feature = "cluster")]
mod feed;
#[cfg(feature = "cluster")]
mod keeper;
#[cfg(feature = "cluster")]
mod lanes;
#[cfg(feature = "cluster")]
mod node;
#[cfg(feature = "cluster")]
mod picture;
#[cfg(feature = "cluster")]
mod translate;

#[cfg(feature = "cluster")]
pub use node::{Parts, run};

/// The partition of a topic.
#[cfg(feature = "cluster")]
pub use shardcast_cluster::partition::of as partition_of;
