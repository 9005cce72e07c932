//! The life of one client.

pub mod decoder;
