//! The client against a broker that the tests play, and against the real one.

mod auth;
mod contract;
mod delivery;
mod faults;
mod harness;
mod notices;
mod proxy;
mod slow;
mod tls;
