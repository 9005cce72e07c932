//! Where a connection stands between two requests: what its socket may wait for, and whether it is
//! owed an answer.
//!
//! Shared by the socket, which sees bytes come, and the service, which sees requests begin and end.
//! Both run on one thread; it is atomic only because hyper wants sockets that could move.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Nothing has come yet.
    Fresh,
    /// A head has begun.
    Head,
    /// A request is being carried out; its body may still come.
    Busy,
    /// Its answer leaves.
    Answered,
    /// Its last answer leaves.
    Closing,
    /// The answer has left; the next request has not begun.
    Idle,
}

const STAGES: [Stage; 6] = [
    Stage::Fresh,
    Stage::Head,
    Stage::Busy,
    Stage::Answered,
    Stage::Closing,
    Stage::Idle,
];

/// The stage of one connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stage: AtomicU8,
    /// Something that was written has not left.
    is_writing: AtomicBool,
}

impl Progress {
    /// What the connection is at.
    pub(super) fn stage(&self) -> Stage {
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        STAGES.get(stage).copied().unwrap_or(Stage::Fresh)
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// A request has its head.
    pub(super) fn begin(&self) {
        self.enter(Stage::Busy);
    }

    /// A request has its answer. Whether the connection ends with it is known.
    pub(super) fn answered(&self, is_last: bool) {
        self.enter(if is_last {
            Stage::Closing
        } else {
            Stage::Answered
        });
    }

    /// hyper reads behind an answer only when it has left.
    pub(super) fn wants_to_read(&self) {
        if self.stage() == Stage::Answered {
            self.enter(Stage::Idle);
        }
    }

    /// hyper writes, or has flushed all that it had.
    pub(super) fn writes(&self, is_writing: bool) {
        self.is_writing.store(is_writing, Ordering::Relaxed);
    }

    /// Whether everything that hyper had to say has left.
    pub(super) fn is_flushed(&self) -> bool {
        !self.is_writing.load(Ordering::Relaxed)
    }

    /// Bytes have come.
    pub(super) fn has_read(&self) {
        if matches!(self.stage(), Stage::Fresh | Stage::Idle) {
            self.enter(Stage::Head);
        }
    }

    /// Whether nobody would miss the connection.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage(), Stage::Fresh | Stage::Idle)
    }
}
