//! A replay under way: which events of the past a connection is still to get, and the piece of them
//! that it has.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::directory::TopicEntry;
use super::{Fetch, Piece};

/// Topics that are asked for together.
const TOPICS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Cursor {
    /// Of the topic that is next. Past its end if nothing more of it is to be sent.
    rest: Fetch,
    /// Of the topics behind it.
    further: VecDeque<Fetch>,
    piece: Option<Piece>,
    /// The next piece has been asked for.
    is_fetching: bool,
}

impl Fetch {
    fn is_through(&self) -> bool {
        self.first > self.last
    }
}

impl Cursor {
    /// `piece` is the first of it, if there is one already.
    pub(super) fn new(piece: Option<Piece>, mut rest: Fetch) -> Self {
        Self {
            further: std::mem::take(&mut rest.further).into(),
            rest,
            piece,
            is_fetching: false,
        }
    }

    /// What it takes while it waits; its events are not counted.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.further.len() * size_of::<Fetch>()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.piece.is_some() || !self.is_fetching
    }

    /// Nothing more of it is to come.
    pub(super) fn is_through(&self) -> bool {
        self.rest.is_through() && self.further.is_empty()
    }

    /// The next piece, or what is to be asked for to have it. None while it is on its way.
    pub(super) fn take(&mut self) -> Option<Result<Piece, Fetch>> {
        if let Some(piece) = self.piece.take() {
            for _ in 0..piece.through {
                self.go_to_next();
            }
            self.rest.first = piece.next;
            self.pass_ended();
            return Some(Ok(piece));
        }
        if self.is_fetching {
            return None;
        }
        self.pass_ended();
        if self.is_through() {
            return Some(Ok(Piece::default()));
        }
        self.is_fetching = true;
        let further = self.further.iter().take(TOPICS_MAX).cloned().collect();
        Some(Err(Fetch {
            topic: Arc::clone(&self.rest.topic),
            further,
            ..self.rest
        }))
    }

    fn go_to_next(&mut self) {
        if let Some(next) = self.further.pop_front() {
            self.rest = next;
        }
    }

    fn pass_ended(&mut self) {
        while self.rest.is_through() && !self.further.is_empty() {
            self.go_to_next();
        }
    }

    /// The piece that was asked for has come.
    pub(super) fn arrived(&mut self, piece: Piece) {
        self.is_fetching = false;
        self.piece = Some(piece);
        self.cut();
    }

    /// Nothing more of topics that `has_ended` picks is to be sent.
    pub(super) fn end(&mut self, has_ended: impl Fn(&TopicEntry) -> bool) {
        for of in std::iter::once(&mut self.rest).chain(&mut self.further) {
            if has_ended(&of.topic) {
                of.first = of.last + 1;
            }
        }
        self.cut();
    }

    /// Takes out of the piece what is not to be sent any more.
    fn cut(&mut self) {
        let Some(piece) = &mut self.piece else {
            return;
        };
        let covered = std::iter::once(&self.rest).chain(&self.further);
        for of in covered.take(piece.through + 1).filter(|of| of.is_through()) {
            let ended: &TopicEntry = &of.topic;
            piece
                .kept
                .retain(|kept| !std::ptr::eq(kept.run.topic(), ended));
        }
        let last = match piece.through.checked_sub(1) {
            None => Some(&self.rest),
            Some(index) => self.further.get(index),
        };
        if let Some(of) = last.filter(|of| of.is_through()) {
            piece.next = of.last + 1;
            if piece.through == 0 {
                piece.lost = 0;
            }
        }
    }
}
