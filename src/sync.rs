//! What threads share, by the names of those who made it.
//!
//! It stands here so that `crates/interleavings` can put loom's in the place of all of it: that
//! crate compiles the very files that import from here, and tries every order in which their
//! threads can run. A file that is checked there takes atomics and queues from nowhere else.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};

pub(crate) use arc_swap::ArcSwap;
pub(crate) use crossbeam_queue::{ArrayQueue, SegQueue};
