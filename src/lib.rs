//! shardcast, an in-memory publish/subscribe broker over `WebSocket`s.
//!
//! Each *core* is a thread and a little server: a *shard* that owns the topics which hash to it, the
//! *connections* that were placed on it with their rings, and a loop that serves them. Between cores
//! there are only bounded lock-free queues. This is the way of one published message; the modules
//! below stand in its order:
//!
//! ```text
//! socket → 1 read      bytes into the core's shared read buffer
//!        → 2 decode    frame → unmasked text, in place
//!        → 3 parse     JSON → command; the payload stays a slice of the input
//!        → 4 route     hash(topic) → the inbox of the shard that owns it
//!        → 5 accept    next sequence number; encoded once, as a whole frame; many make one run
//!        → 6 keep      the run goes into the topic's history
//!        → 7 hand over one ordered list for each core: replies, and runs with who gets them
//!        → 8 fan out   on the subscribers' own core: pushed on each one's ring; full: the oldest falls out
//!        → 9 flush     all that waits for all ready connections leaves in one system call
//! → socket
//! ```
//!
//! In links: [`connection::reader`], [`protocol::websocket::decoder`], [`connection::session`] and
//! [`protocol::command`], [`broker::Broker::shard_of`], [`broker::shard`] and
//! [`protocol::websocket::frame::EventTemplate`], [`broker::history`], [`broker::delivery`],
//! [`core`] and [`broker::ring`], [`connection::flusher`].
//!
//! Under load a shard accepts all messages that wait for a topic together: they become one
//! [`broker::run::Run`], one ring entry for each subscriber and one send for each socket. When it
//! is quiet a message leaves at once. No timer batches anything.
//!
//! Knowledge flows one way: `server → core → connection → process → broker → protocol`; [`config`],
//! [`metrics`], [`budget`], [`seats`] and [`logs`] are leaves. [`access`] says who may do what, and is
//! asked before the broker hears of it. `broker` and `protocol` do no I/O and read no clock. Between
//! a connection and its socket stands [`wire`], if it came with TLS.

pub mod config;

pub mod server;

pub mod core;

pub mod connection;

pub mod wire;

pub mod process;

pub mod cluster;

pub mod access;
pub mod pattern;

pub mod protocol;

pub mod broker;

pub mod budget;
pub mod metrics;

pub mod roster;
pub mod seats;

pub mod logs;

mod sync;

pub mod cli;
