//! A real `nats-server`: the same as that of the tests of the log.

#[path = "../../../crates/cluster/tests/nats/mod.rs"]
mod server;

pub(crate) use server::{Nats, free_port};
