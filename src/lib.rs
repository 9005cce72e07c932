//! shardcast, an in-memory publish/subscribe broker over WebSockets.

pub mod config;
pub mod protocol;
pub mod connection;
pub mod cli;
