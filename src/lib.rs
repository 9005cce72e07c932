//! shardcast, an in-memory publish/subscribe broker over `WebSocket`s.
//!
//! Each core runs one thread, and each thread is a little server: a *shard* that owns the topics
//! which hash to it, the *connections* that were placed on it, and a *worker* that writes what they
//! have to send. Between threads there are only bounded lock-free queues. This is the way of one
//! published message; the modules below stand in its order:
//!
//! ```text
//! socket → 1 read    connection::reader    bytes into the thread's shared read buffer
//!        → 2 decode  protocol::websocket::decoder   frame → unmasked text, in place
//!        → 3 parse   protocol::command     JSON → command; the payload stays a slice of the input
//!        → 4 route   broker                hash(topic) → the inbox of the shard that owns it
//!        → 5 accept  broker::topic         next sequence number; encoded once, as a whole frame
//!        → 6 keep    broker::history       the frame goes into the topic's history
//!        → 7 fan out broker::outbox        pushed on each subscriber's ring; full: the oldest falls out
//!        → 8 mark    broker::shard         first push since the last flush: on its thread's dirty list
//!        → 9 flush   connection::flusher   one write for all that waits for a connection
//! → socket
//! ```
//!
//! In links: [`connection::reader`], [`protocol::websocket::decoder`], [`protocol::command`],
//! [`broker::Broker::shard_of`], [`protocol::websocket::frame::EventTemplate`], [`broker::history`],
//! [`broker::outbox`], [`broker::request::Delivery`], [`connection::flusher`].
//!
//! Under load a shard accepts all messages that wait for a topic together: they become one
//! [`broker::run::Run`], one ring entry for each subscriber and one write for each socket. When it
//! is quiet a message leaves at once. No timer batches anything.
//!
//! Knowledge flows one way: `server → connection → broker → protocol`; [`config`], [`metrics`]
//! and [`seats`] are leaves. `broker` and `protocol` do no I/O and read no clock.

pub mod config;

pub mod server;

pub mod core;

pub mod connection;

pub mod process;

pub mod protocol;

pub mod broker;

pub mod budget;
pub mod metrics;

pub mod seats;

pub mod logs;

pub mod cli;
