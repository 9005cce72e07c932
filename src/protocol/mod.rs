//! Bytes to commands, answers to bytes: everything a client sees on its socket, and nothing else.
//!
//! No I/O and no clock: timestamps are passed in, frames are appended to the caller's buffer. Past
//! this module nothing unvalidated goes on: a [`command::Command`] carries a checked topic name, a
//! checked UUID, and a payload that is valid JSON, still byte for byte as the client sent it.
//! Meaning and form are apart: [`answer::Answer`] is what is said, a [`dialect`] how.

pub mod websocket;

pub mod command;
mod depth;
mod fields;

pub mod answer;
pub mod dialect;
pub mod native;
pub mod sse;
pub mod time;

pub mod codes;
pub mod json;
pub mod names;
pub mod policy;
pub mod post;
