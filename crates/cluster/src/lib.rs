//! The log that makes many shardcasts one broker: one `JetStream` stream.
//!
//! Whatever changes the state of the broker is appended here in batches ([`entry`]), and happens when it is read back:
//! every node reads all entries in one order ([`reader`]), and so has the same topics with the same messages, without
//! owning any and without talking to another node. This crate knows how entries are written, stored and read. It does not
//! know what they do.
//!
//! Topics are hashed over *partitions* ([`partition`]): a node has at most one append of each on its way, so messages of
//! a publisher for a topic are stored in the order in which they came, repeats after a timeout included.

mod connecting;
pub mod entry;
pub mod log;
pub mod partition;
pub mod reader;
pub mod rest;
pub mod settings;
pub mod status;
pub mod store;
