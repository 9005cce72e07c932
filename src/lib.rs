//! shardcast, an in-memory publish/subscribe broker over WebSockets.

pub mod broker;
pub mod cli;
pub mod config;
pub mod connection;
pub mod metrics;
pub mod protocol;
pub mod server;
