//! The broker as its clients see it: the real binary, real sockets, one file per promise of the wire contract.

mod harness;

mod compression;
mod connection;
mod connections;
mod framing;
mod rfc6455;
mod rfc6455_text;

mod payload;
mod ping;
mod publish;
mod subscribe;

mod auth;
mod heartbeat;
mod keys;
mod manual;
mod messages;
mod messages_http;
mod patterns;
mod patterns_rights;
mod patterns_seeded;
mod policies;
mod rates;
mod recovery;
mod rights;
mod tokens;

mod protocol_document;

mod slow_consumer;
mod soak;

mod console;
mod deploy;
mod listing;
mod logs;
mod metrics;
mod origins;
mod rest;
mod rest_bodies;
mod rest_manners;
mod rest_times;
mod service;
mod settings;
mod shutdown;

mod surface;
mod tickets;
mod tls;
mod tls_hostile;
mod tls_identity;

mod addresses;
mod admission;
mod events;
mod events_ends;
mod faults;
mod hostile;
mod hostile_memory;
mod interop;
mod io_uring;
mod limits;
mod load;
mod pipelining;
mod releases;
mod replay_seam;

mod cluster;

mod arrows;

mod cli;
mod top;
